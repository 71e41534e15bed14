"""Catalogs with entries marked fuzzy, and what else a document's command line offers: encodings, what is left as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from test_document_structure import HEAD

from llmkit.translation.documents import gettext
from llmkit.translation.documents.verification import verify
from llmkit.translation.languages import language
from llmkit.translation.untranslatable import is_code, is_written_in

OLD = '#, fuzzy, c-format\n#| msgid "A dog"\nmsgid "A cat %d"\nmsgstr "Un chien %d"\n'
OBSOLETE = '#, fuzzy\n#~ msgid "old"\n#~ msgstr "x"\n'
NEW = '#: a.c\nmsgid "A house"\nmsgstr ""\n'
CATALOG = f"{HEAD}{OLD}\n{OBSOLETE}\n{NEW}"


ANSWERED = NEW.replace('msgstr ""', 'msgstr "X"')
MARKED = ANSWERED.replace("msgid", "#, fuzzy\nmsgid")
AGAIN = OLD.replace("Un chien", "X")


def test_a_translation_that_lacked_a_placeholder_may_be_made_again() -> None:
    old = OLD.replace("Un chien %d", "Un chien")
    document = gettext.parse(f"{HEAD}{old}".encode(), "a.po", retranslate_fuzzy=True)
    made = verify(document, ["Un chat %d"])
    assert made.left == ()
    assert b'msgstr "Un chat %d"' in made.data
    assert verify(document, ["Un chat"]).left == (0,)


@pytest.mark.parametrize(
    ("again", "mark", "fuzzy", "old", "new"),
    [
        (False, False, 1, OLD, ANSWERED),
        (False, True, 1, OLD, MARKED),
        (True, False, 0, AGAIN.replace("fuzzy, ", ""), ANSWERED),
        (True, True, 0, AGAIN, MARKED),
    ],
)
def test_fuzzy_entries_are_counted_or_translated_again_and_new_ones_marked(again: bool, mark: bool, fuzzy: int, old: str, new: str) -> None:
    document = gettext.parse(CATALOG.encode(), "a.po", retranslate_fuzzy=again, mark_fuzzy=mark)
    assert document.fuzzy == fuzzy
    built = document.build(["X %d" if "%d" in segment.text else "X" for segment in document.segments])
    assert built.decode() == f"{HEAD}{old}\n{OBSOLETE}\n{new}"
    assert document.skeleton(built) == document.skeleton(CATALOG.encode())
    assert document.build([None] * len(document.segments)).decode() == CATALOG


def test_fuzzy_entries_are_told_and_the_options_are_part_of_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(CATALOG)
    command = ("translate", "-i", tmp_path / "a.po", "-o", tmp_path / "b.po", "--to", "fr")
    done = run(*command)
    assert done.code == 0, done.err
    assert "entries marked fuzzy, left unchanged: 1; --retranslate-fuzzy translates them" in done.err
    for option in ("mark_fuzzy", "retranslate_fuzzy"):
        changed = run(*command, f"--{option.replace('_', '-')}")
        assert changed.code == 2
        assert f"{option} was" in changed.err
    assert run(*command, "--mark-fuzzy", "--retranslate-fuzzy", "--overwrite").code == 0
    built = (tmp_path / "b.po").read_text()
    assert built.count("#, fuzzy") == 3
    assert "Un chien" not in built
    (tmp_path / "a.md").write_text("Hello.\n")
    refused = run("translate", "-i", tmp_path / "a.md", "-o", tmp_path / "b.md", "--to", "fr", "--mark-fuzzy")
    assert (refused.code, "applies to .po files" in refused.err) == (2, True)


@pytest.mark.parametrize("options", [[], ["--encoding", "latin-1"]])
def test_a_page_keeps_the_charset_that_it_declares_in_a_file_and_on_standard_output(run: Run, tmp_path: Path, options: list[str]) -> None:
    page = '<meta charset="iso-8859-1"><p>The caf\xe9 is here.</p><pre>\xe9</pre>'.encode("latin-1")
    (tmp_path / "a.html").write_bytes(page)
    command = ("translate", "-i", tmp_path / "a.html", "--to", "fr", "--num-beams", "1", *options)
    assert run(*command, "-o", tmp_path / "b.html").code == 0
    built = (tmp_path / "b.html").read_bytes()
    assert built.startswith(b'<meta charset="iso-8859-1"><p>')
    assert built.endswith(b"</p><pre>\xe9</pre>")
    assert "\xc3" not in built.decode("latin-1")
    # the bytes are no UTF-8, which pytest's capture of this process's own output can't hold
    printed = subprocess.run([sys.executable, "-m", "llmkit", *map(str, command), "-q"], capture_output=True, check=True)
    assert printed.stdout == built


def test_subtitles_in_another_encoding_become_utf_8(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nThe caf\xe9 is here.\n".encode("latin-1"))
    assert run("translate", "-i", tmp_path / "a.srt", "-o", tmp_path / "b.srt", "--to", "fr").code == 2
    done = run("translate", "-i", tmp_path / "a.srt", "--encoding", "latin-1", "-o", tmp_path / "b.srt", "--to", "fr")
    assert done.code == 0, done.err
    assert (tmp_path / "b.srt").read_text(encoding="utf-8").startswith("1\n00:00:01,000 --> 00:00:02,000\n")


@pytest.mark.parametrize(
    "text", ["my_house", "x86_64", "fooBar()", "--force", "README.md", "GitHub", "/usr/bin/x", "ISO-8859-1", "@user", "v1.2, v2.0",
     "x^2 + y^2 = z^2", r"$$ a_{n+1} = \frac{b}{c} $$", r"\d+ \n", "a*b/c", "12 kg", "5-6 km/h", "20 °C"],
)  # fmt: skip
def test_codes_are_left_as_they_are(text: str) -> None:
    assert is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "1st",
        "20s",
        "and/or",
        "I like it.",
        "Well-known",
        "Good Morning",
        "The end.",
        "5pm",
        "12 cats",
        "3 in",
        "e.g.",
        "",
        "run my_house",
        "I am <5",
        "我=你",
    ],
)
def test_words_are_no_codes(text: str) -> None:
    assert not is_code(text)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("La maison est rouge et je suis fatigué.", True), ("Où se trouve la gare, mon ami ?", True),
        ("The house is red and I am tired.", False), ("C'est la vie", False), ("Restaurant menu information service", False),
    ],
)  # fmt: skip
def test_a_text_that_is_surely_in_the_target_language_is_told(text: str, there: bool) -> None:
    assert is_written_in(text, language("fr"), language("en")) == there
    assert not is_written_in(text, language("fr"), None)
    assert not is_written_in(text, language("fr-CA"), language("fr"))


def test_text_in_the_target_language_and_codes_are_no_work_for_the_model(run: Run, tmp_path: Path) -> None:
    source = "La maison est rouge et je suis fatigué.\n\n- README.md\n- The house is red.\n"
    (tmp_path / "a.md").write_text(source)
    done = run("translate", "-i", tmp_path / "a.md", "-o", tmp_path / "b.md", "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "b.md").read_text().startswith(source.partition("The")[0])
    assert "already in French, so left unchanged: 1 sentence\n" in done.err


def test_lines_of_text_are_plain(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("https://example.org/a\\b\nC:\\temp\\x\n")
    assert run("translate", "-i", tmp_path / "a.txt", "-o", tmp_path / "b.txt", "--to", "fr").code == 0
    assert (tmp_path / "b.txt").read_text() == (tmp_path / "a.txt").read_text()


def test_nonsense_is_cut_short(run: Run) -> None:
    done = run("translate", "zxq vbk wjj", "--to", "fr", "--json", "--num-beams", "1")
    assert int(done.out.partition('"completion_tokens": ')[2].partition(",")[0].rstrip("}\n")) < 200
