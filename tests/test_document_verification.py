"""Verification after each file: whatever a model writes, the structure is that of the source, and what had to stay is told."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_document_structure import ENTRIES, HEAD, HTML, MARKDOWN, SUBTITLES, letter

from llmkit.jobs.outcome import Answer, Outcome, Tally
from llmkit.translation.documents import docx as word
from llmkit.translation.documents import gettext, html, markdown, subtitles
from llmkit.translation.documents.base import Document
from llmkit.translation.documents.rows import DocumentWriter
from llmkit.translation.documents.verification import HasSkeleton, Verified, verify
from llmkit.translation.markup import strip
from llmkit.translation.pieces import split

PARSERS: dict[str, Callable[[bytes, str], Document]] = {
    "md": markdown.parse, "html": html.parse, "srt": subtitles.parse, "po": gettext.parse, "docx": word.parse,
}  # fmt: skip
SOURCES: list[tuple[str, bytes]] = [
    *(("md", source.encode()) for source, _ in MARKDOWN.values()),
    *(("html", source.encode()) for source, _ in HTML.values()),
    *(("srt", source.encode()) for source, _ in SUBTITLES.values()),
    *(("po", f'{HEAD}{flags}msgid "{text}"\nmsgstr ""\n'.encode()) for flags, text, _ in ENTRIES.values()),
    ("docx", letter()),
]


def answered(document: Document, model: Callable[[str], str]) -> tuple[Verified, list[str]]:
    """The file as the command makes it: each segment by a model, one whose marks are lost in its own words. And those texts."""
    out = []
    for number, segment in enumerate(document.segments):
        keep = document.keep.of(number)
        marked = strip(segment.text, keep)
        pieces = split(marked.plain, "en", lambda _: True)
        text = marked.joined(pieces, [model(piece.text) for piece in pieces.pieces])
        out.append(segment.text if keep.problem(segment.text, text) else text)
    return verify(document, out), out


#: Models that do what models do, and worse.
MODELS: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "another order": lambda text: " ".join(reversed(text.split())),
    "one word": lambda text: "Oui",
    "too much": lambda text: f"{text} " * 3,
    "a list": lambda text: f"1. {text}",
    "a dialogue": lambda text: f"- {text} - encore\n- non",
    "marks": lambda text: f"a * b_c_ <x> & `d | ~~f~~ --> [g](h) {{z}} %s # {text}",
    "blocks": lambda text: f': {text}\n\n::: [x]: y $q$ " \\',
}


@pytest.mark.parametrize("model", MODELS)
def test_whatever_a_model_writes_the_skeleton_of_a_file_is_its_sources(model: str) -> None:
    for ending, data in SOURCES:
        document = PARSERS[ending](data, "a")
        made, texts = answered(document, MODELS[model])
        assert isinstance(document, HasSkeleton)
        assert document.skeleton(made.data) == document.skeleton(data), data
        assert all(texts[number] != document.segments[number].text for number in made.left)
        if model in ("capitals", "another order"):
            assert not made.left, data


@given(st.sampled_from(SOURCES), st.lists(st.text(alphabet="aé *_`[](){}<>&|#-:.!\"'\\%$~\n", max_size=20), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_text_of_any_model_breaks_a_file(source: tuple[str, bytes], said: list[str]) -> None:
    ending, data = source
    document = PARSERS[ending](data, "a")
    said_next = iter(said * 100)
    made, _ = answered(document, lambda text: next(said_next))
    assert isinstance(document, HasSkeleton)
    assert document.skeleton(made.data) == document.skeleton(data)


@pytest.mark.slow
@given(st.sampled_from(SOURCES), st.lists(st.text(alphabet="aé *_`[](){}<>&|#-:.!\"'\\%$~\n", max_size=30), min_size=1, max_size=6))
@settings(max_examples=500, deadline=None)
def test_five_hundred_texts_break_no_file(source: tuple[str, bytes], said: list[str]) -> None:
    test_no_text_of_any_model_breaks_a_file.hypothesis.inner_test(source, said)  # type: ignore[attr-defined]


BROKEN = {
    "md": (b"A [cat](u).\n\nThe house.\n", ["Un [chat](u).", "[La](v) {maison}."], b"Un [chat](u).\n\nThe house.\n"),
    "html": (b"<p>The cat<p>The house", ["Le chat", "La {{ maison }}"], b"<p>Le chat<p>The house"),
    "srt": (
        b"00:01,000 --> 00:02,000\nThe cat.\n\n00:03,000 --> 00:04,000\nThe house.\n", ["Le chat.", "12"],
        b"00:01,000 --> 00:02,000\nLe chat.\n\n00:03,000 --> 00:04,000\nThe house.\n",
    ),
    "po": (
        f'{HEAD}msgid "The cat %s"\nmsgstr ""\n\nmsgid "The house"\nmsgstr ""\n'.encode(), ["Le chat %s", "La %s maison"],
        f'{HEAD}msgid "The cat %s"\nmsgstr "Le chat %s"\n\nmsgid "The house"\nmsgstr ""\n'.encode(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", BROKEN)
def test_what_would_break_a_file_stays_in_its_own_words_and_is_counted_as_failed(ending: str) -> None:
    data, translations, expected = BROKEN[ending]
    document = PARSERS[ending](data, "a")
    rows = [{"text": segment.text, "translation": text} for segment, text in zip(document.segments, translations, strict=True)]
    write = DocumentWriter(document, "translation")
    assert b"".join(write(rows)) == expected
    assert list(write.refused) == [1]
    assert "another structure" in write.refused[1]
    tally = Tally()
    for number, row in enumerate(rows):
        tally.add(Outcome(number, row, Answer()))
    tally.refuse(write.refused)
    assert (tally.failed, tally.failed_rows, tally.exit_code) == (1, [[1, 1]], 3)
    assert "house" in (tally.first_error or "")


def test_rows_that_failed_before_are_not_counted_twice() -> None:
    tally = Tally()
    for number in range(4):
        tally.add(Outcome(number, {}, Answer(error="lost" if number == 1 else None)))
    tally.refuse({0: "a", 1: "b", 3: "c"})
    assert (tally.failed, tally.failed_rows, tally.first_error) == (3, [[0, 1], [3, 3]], "lost")


def test_many_segments_that_break_a_file_are_found_in_bounded_time() -> None:
    data = "\n\n".join(f"The house {n}." for n in range(400)).encode()
    document = markdown.parse(data, "a")
    made = verify(document, [f"La {{maison}} {n}." if n % 2 else f"La maison {n}." for n in range(400)])
    assert document.skeleton(made.data) == document.skeleton(data)
    assert set(made.left) >= set(range(1, 400, 2))


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs msgfmt of gettext")
def test_msgfmt_accepts_what_a_catalog_becomes() -> None:
    entries = [f'{flags}msgid "{text}"\nmsgstr ""\n' for flags, text, _ in ENTRIES.values()]
    document = gettext.parse((HEAD + "\n".join(entries)).encode(), "a.po")
    made, _ = answered(document, lambda text: f"{text} %d %s")
    assert subprocess.run(["msgfmt", "-c", "-o", "/dev/null", "-"], input=made.data, check=False).returncode == 0
    assert made.left


def test_of_two_segments_with_one_text_each_has_its_own_marks() -> None:
    document = html.parse(b"<p>Use &lt;b&gt; here</p><p>Use <b> here</p>", "a")
    assert [document.keep.of(n).problem("Use <b> here", "Ici") for n in (0, 1)] == [None, "some of its markup is missing"]
    made, _ = answered(document, str.upper)
    assert made.data == b"<p>USE &lt;B&gt; HERE</p><p>USE <b> HERE</p>"


def test_formulas_and_placeholders_of_a_word_document_stay() -> None:
    import docx
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    document = docx.Document()
    paragraph = document.add_paragraph("Hello {{ name }}, the value ")
    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    paragraph._p.append(parse_xml(f'<m:oMath xmlns:m="{math}" {nsdecls("w")}><m:r><m:t>abc</m:t></m:r></m:oMath>'))
    paragraph.add_run(" is big.")
    out = io.BytesIO()
    document.save(out)
    read = word.parse(out.getvalue(), "a.docx")
    made, _ = answered(read, str.upper)
    assert made.left == ()
    built = docx.Document(io.BytesIO(made.data)).paragraphs[0]
    assert built.text.replace("  ", " ") == "HELLO {{ name }}, THE VALUE IS BIG."
    assert "abc" in built._p.xml


def test_a_file_that_would_be_broken_ends_with_exit_code_3_and_says_so_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(f'{HEAD}msgid "The house"\nmsgstr ""\n\nmsgid "The cat"\nmsgstr ""\n')
    (tmp_path / "terms.csv").write_text("the house,la maison %s\n")
    command = ("translate", "-i", tmp_path / "a.po", "-o", tmp_path / "b.po", "--to", "fr", "--glossary", tmp_path / "terms.csv")
    done = run(*command)
    assert done.code == 3
    assert "1 of 2 rows failed" in done.err
    built = (tmp_path / "b.po").read_text()
    assert 'msgid "The house"\nmsgstr ""\n' in built
    assert 'msgid "The cat"\nmsgstr ""\n' not in built
    assert json.loads((tmp_path / "b.po.run.json").read_text())["result"]["failed_rows"] == [[0, 0]]
    assert run(*command).code == 3
    printed = run(*command[:3], *command[5:])
    assert (printed.code, printed.out) == (3, built)
