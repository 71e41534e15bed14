"""Documents: translated in place, everything else byte for byte as it was."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, read_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import InputError
from llmkit.translation.documents import gettext, html, markdown, subtitles
from llmkit.translation.documents.base import Document
from llmkit.translation.markup import strip
from llmkit.translation.pieces import split

MARKDOWN = """\
---
title: Hello
---

# Good morning

This is a **small** test. See [the station](https://example.org/x?y=1) and run `pip install x`.
It goes on here, with {name} and 1234 cats.

- I am tired.
  - Where is *my* house?
1. First.

> He said
> that he was late.

| Animal | Number |
|--------|-------:|
| The cat \\| dog | 12 |

```python
print("Hello")
```

    code too

Last line.\x20\x20
After the break.

<div>No *text* here</div>

![a picture](p.png "title") and <https://example.org>
"""
SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\nHello, <i>my friend</i>.\r\nHow are you?\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n- I am tired.\r\n- Me too.\r\n\r\n3\r\n00:00:05,000 --> 00:00:06,000\r\n♪\r\n"
)
VTT = "WEBVTT\n\nNOTE a comment\n\nSTYLE\n::cue { color: red }\n\nid1\n00:01.000 --> 00:02.000 align:left\n<v Tom>Where is the station?\n"
HTML = """\
<!DOCTYPE html>
<html><head><title>Good morning</title><script>var a = "Hello";</script><style>p { color: red }</style></head>
<body class="x"><p>I am <b title="a>b">very</b> tired&nbsp;&amp; 1 &lt; 2.</p><p>Where is
 the station?</p><img alt="A cat"><ul><li>My house<li>caf&eacute; &amp;lt;</ul><!-- Hello <b>x</b> --><pre>Hello there</pre>
<p translate="no">Stay</p></body></html>
"""
PO = """\
# A catalog
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\\n"

#: a.c:1
msgid "Good morning"
msgstr ""

#, c-format
msgid "You have %d cat"
msgid_plural "You have %d cats"
msgstr[0] ""
msgstr[1] ""

msgid "done"
msgstr "fait"

msgid ""
"I am tired.\\n"
"Where is \\"my\\" house?\\n"
msgstr ""

#~ msgid "old"
#~ msgstr ""
"""
PARSERS: dict[str, Callable[[bytes, str], Document]] = {
    "md": markdown.parse,
    "html": html.parse,
    "srt": subtitles.parse,
    "vtt": subtitles.parse,
    "po": gettext.parse,
}


def identity(document: Document) -> bytes:
    """The document, each of its sentences translated into itself."""
    out = []
    for segment in document.segments:
        marked = strip(segment.text, document.keep)
        pieces = split(marked.plain, "en", lambda _: True)
        out.append(marked.joined(pieces, [piece.text for piece in pieces.pieces]))
    return document.build(out)


@pytest.mark.parametrize(("ending", "source"), [("md", MARKDOWN), ("srt", SRT), ("vtt", VTT), ("html", HTML)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_translated_into_itself_a_file_is_the_same_bytes(ending: str, source: str, end: str) -> None:
    data = source.replace("\r\n", "\n").replace("\n", end).encode()
    document = PARSERS[ending](data, "file")
    assert document.segments
    assert identity(document) == data


@given(st.lists(st.sampled_from(["a b", "\n", "\n\n", "# ", "- ", "> ", "| a | b |\n|--|--|\n| c | d |\n", "`x`", "**", "[", "](u)", "<b>",
                                 "  \n", "\\", "1. ", "```\n", "&amp;", "é. ", "\t", "---\n", "Hello"]), max_size=30))  # fmt: skip
def test_any_markdown_comes_back(parts: list[str]) -> None:
    data = "".join(parts).encode()
    assert identity(markdown.parse(data, "file")) == data


TAGS = ["a b", "<p>", "</p>", "<b>", "</b>", "<br/>", "&lt;", "&eacute;", "&", ";", "<", ">", "\n", "<!--", "-->",
                                 "<script>", "</script>", "<a href='x>y'>", "\"", "é. ", "<![CDATA[", "]]>", "<?x"]  # fmt: skip


@given(st.lists(st.sampled_from(TAGS), max_size=30))
def test_any_html_comes_back(parts: list[str]) -> None:
    data = "".join(parts).encode()
    assert identity(html.parse(data, "file")) == data


CUES = ["1\n", "00:00:01,000 --> 00:00:02,000\n", "Hello\n", "- a\n", "\n", "<i>b</i> c\n", "\r\n", "é"]


@given(st.lists(st.sampled_from(CUES), max_size=30))
def test_any_subtitles_come_back(parts: list[str]) -> None:
    data = ("00:00:01,000 --> 00:00:02,000\n" + "".join(parts)).encode()
    assert identity(subtitles.parse(data, "file")) == data


def texts(document: Document) -> list[str]:
    return [segment.text for segment in document.segments]


def test_what_is_to_be_translated_is_found_and_nothing_else() -> None:
    assert texts(markdown.parse(MARKDOWN.encode(), "")) == [
        "Hello",
        "Good morning",
        "This is a **small** test. See [the station](https://example.org/x?y=1) and run `pip install x`. "
        "It goes on here, with {name} and 1234 cats.",
        "I am tired.",
        "Where is *my* house?",
        "First.",
        "He said that he was late.",
        "Animal",
        "Number",
        "The cat | dog",
        "Last line.",
        "After the break.",
        "No *text* here",
        '![a picture](p.png "title") and <https://example.org>',
        "title",
    ]
    assert texts(subtitles.parse(SRT.encode(), "")) == ["Hello, <i>my friend</i>. How are you?", "- I am tired.", "- Me too."]
    assert texts(subtitles.parse(VTT.encode(), "")) == ["<v Tom>Where is the station?"]
    assert texts(html.parse(HTML.encode(), "")) == [
        "Good morning",
        'I am <b title="a>b">very</b> tired\xa0& 1 < 2.',
        "a>b",
        "Where is the station?",
        "A cat",
        "My house",
        "café &lt;",
    ]
    assert texts(gettext.parse(PO.encode(), "")) == [
        "Good morning",
        "You have %d cat",
        "You have %d cats",
        'I am tired.\nWhere is "my" house?\n',
    ]


def test_lines_of_segments_are_told() -> None:
    assert [s.line for s in markdown.parse(b"# A\n\nb\nc\n\nd\n", "").segments] == [1, 3, 6]


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("This is a **small** test.", "C'est un petit test.", "C'est un **petit** test."),
        ("I like *my* house.", "J'aime ma maison.", "J'aime *ma* maison."),
        ("run `x` now", "cours maintenant", "cours `x` maintenant"),
        ("Run `x`.", "Cours.", "Cours `x`."),
        ("**All of it**", "Tout cela", "**Tout cela**"),
        ("<i>Hello</i>", "", "<i></i>"),
    ],
)
def test_markup_is_put_back_at_the_words_where_it_stood(source: str, translation: str, expected: str) -> None:
    marked = strip(source, re.compile(r"\*+|`[^`]*`|<[^>]*>"))
    pieces = split(marked.plain, "en", lambda _: True)
    assert marked.joined(pieces, [translation]) == expected


@given(st.text(alphabet="ab *`.é", max_size=40), st.text(alphabet="xy .'", max_size=40))
def test_no_markup_is_lost_or_doubled_whatever_the_translation(source: str, translation: str) -> None:
    pattern = re.compile(r"\*+|`[^`]*`")
    marked = strip(source, pattern)
    pieces = split(marked.plain, "en", lambda _: True)
    found = marked.joined(pieces, [translation.replace("`", "") for _ in pieces.pieces])
    assert found.count("*") == source.count("*")  # marks may come to stand side by side
    assert re.findall(r"`[^`]*`", found) == re.findall(r"`[^`]*`", source)


def test_translations_are_written_as_the_format_wants_them() -> None:
    srt = subtitles.parse(SRT.encode(), "")
    built = srt.build(["Bonjour, <i>mon ami</i>, je ne savais pas que vous étiez là. Comment allez-vous ?", "- Je.", "- Moi."]).decode()
    assert "Bonjour, <i>mon ami</i>, je ne savais pas que\r\n" in built
    assert all(len(re.sub("<[^>]*>", "", line)) <= 42 for line in built.split("\r\n"))
    page = html.parse(HTML.encode(), "")
    built = page.build(["A & <B>", 'Je <b title="a>b">suis</b>\xa0là < 2', *texts(page)[2:]]).decode()
    assert "<title>A &amp; &lt;B&gt;</title>" in built
    assert '<p>Je <b title="a>b">suis</b>&nbsp;là &lt; 2</p>' in built
    catalog = gettext.parse(PO.encode(), "")
    built = catalog.build(["Bonjour", "Vous avez %d chat", "Vous avez %d chats", 'Je.\nOù est "ma" maison ?\n']).decode()
    assert 'msgid "Good morning"\nmsgstr "Bonjour"\n' in built
    assert 'msgstr[0] "Vous avez %d chat"\nmsgstr[1] "Vous avez %d chats"\n' in built
    assert 'msgstr ""\n"Je.\\n"\n"Où est \\"ma\\" maison ?\\n"\n' in built
    windows = gettext.parse(PO.replace("\n", "\r\n").encode(), "").build(["Bonjour", "%d", "%d", "Je.\nOù ?\n"]).decode()
    assert 'msgstr ""\r\n"Je.\\n"\r\n"Où ?\\n"\r\n' in windows
    assert '#~ msgid "old"\n#~ msgstr ""\n' in built


def test_a_language_with_one_plural_form_gets_the_plural() -> None:
    source = PO.replace("nplurals=2; plural=(n > 1)", "nplurals=1; plural=0").replace('msgstr[1] ""\n', "")
    assert texts(gettext.parse(source.encode(), ""))[1] == "You have %d cats"


@pytest.fixture
def word(tmp_path: Path) -> Path:
    import docx

    document = docx.Document()
    document.add_heading("Good morning", 1)
    paragraph = document.add_paragraph("I am ")
    paragraph.add_run("very").bold = True
    paragraph.add_run(" tired.")
    document.add_paragraph("12")
    document.add_table(1, 2).cell(0, 0).text = "My house"
    document.sections[0].header.paragraphs[0].text = "The station"
    document.save(str(tmp_path / "letter.docx"))
    return tmp_path / "letter.docx"


def shape(path: Path) -> list[tuple[str, list[tuple[str, bool | None]]]]:
    """Styles and runs of a Word document."""
    import docx

    document = docx.Document(str(path))
    paragraphs = [
        *document.paragraphs,
        *(p for t in document.tables for c in t._cells for p in c.paragraphs),
        *document.sections[0].header.paragraphs,
    ]
    return [(p.style.name, [(run.text, run.bold) for run in p.runs]) for p in paragraphs]


def test_a_word_document_keeps_its_runs_and_styles(run: Run, tmp_path: Path, word: Path) -> None:
    from llmkit.translation.documents.formats import open_document

    document, _ = open_document(str(word))
    (tmp_path / "same.docx").write_bytes(document.build(texts(document)))
    assert shape(tmp_path / "same.docx") == shape(word)
    done = run("translate", "-i", word, "-o", tmp_path / "lettre.docx", "--to", "fr")
    assert done.code == 0, done.err
    before, after = shape(word), shape(tmp_path / "lettre.docx")
    assert [style for style, _ in after] == [style for style, _ in before]
    assert [[bold for _, bold in runs] for _, runs in after] == [[bold for _, bold in runs] for _, runs in before]
    assert after[2] == before[2]
    assert "maison" in str(after)


def test_archives_that_unpack_to_too_much_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    from llmkit.translation.documents.docx import parse

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 50_000_000)
    with pytest.raises(InputError, match="unpacks to 50,000,000 bytes"):
        parse(bomb.getvalue(), "bomb.docx")
    entity = io.BytesIO()
    with zipfile.ZipFile(entity, "w") as archive:
        archive.writestr("[Content_Types].xml", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Types>&e;</Types>')
    for data in (b"not a zip", entity.getvalue()):
        with pytest.raises(InputError, match="not a Word document"):
            parse(data, "x.docx")
    with pytest.raises(InputError, match="no cue"):
        subtitles.parse(b"Hello\n", "x.srt")
    with pytest.raises(InputError, match=r"x\.srt, line 2: byte 3 is not UTF-8"):
        subtitles.parse(b"a\n\xff", "x.srt")
    assert texts(html.parse(b"<div>" * 100_000 + b"deep", "x")) == ["deep"]


# -- as a user sees them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "source"), [("a.md", MARKDOWN), ("a.srt", SRT), ("a.vtt", VTT), ("a.html", HTML), ("a.po", PO)])
def test_a_document_is_translated_as_a_job(run: Run, tmp_path: Path, name: str, source: str) -> None:
    path, out = tmp_path / name, tmp_path / f"fr.{name}"
    path.write_bytes(source.encode())
    done = run("translate", "-i", path, "-o", out, "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    assert "failed" not in done.err
    found = out.read_bytes().decode()
    for kept in (
        "https://example.org/x?y=1",
        "```python",
        "00:00:03,000 -->",
        "::cue",
        'var a = "Hello";',
        "Stay",
        "%d",
        "#~ msgid",
        "{name}",
    ):
        assert (kept in found) == (kept in source)
    record = json.loads((tmp_path / f"fr.{name}.run.json").read_text())
    assert record["result"]["rows"] > 0
    again = run("translate", "-i", path, "-o", out, "--to", "fr", "--num-beams", "1")
    assert again.code == 0
    assert "already complete" in again.err
    printed = run("translate", "-i", path, "--to", "fr", "--num-beams", "1", "-q")
    assert printed.out.replace("\r\n", "\n") == found.replace("\r\n", "\n")


def test_segments_can_be_had_as_rows(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(SRT.encode())
    assert run("translate", "-i", tmp_path / "a.srt", "-o", tmp_path / "a.jsonl", "--to", "fr").code == 0
    rows = read_rows(tmp_path / "a.jsonl")
    assert [row["text"] for row in rows] == ["Hello, <i>my friend</i>. How are you?", "- I am tired.", "- Me too."]
    assert "<i>" in str(rows[0]["translation"])
    assert str(rows[1]["translation"]).startswith("- ")


def test_columns_of_a_table_are_translated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('id,text\n1,Thank you.\n2,"I am, tired."\n')
    assert run("translate", "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--to", "fr").code == 0
    first, second, third = (tmp_path / "out.csv").read_text().splitlines()
    assert first == "id,text,translation,finish_reason,prompt_tokens,completion_tokens,error"
    assert second.startswith("1,Thank you.,Merci")
    assert third.startswith('2,"I am, tired.",')


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "x.srt"], "is translated into one"),
        (["-o", "x.md", "--limit", "1"], "applies to rows, not to documents"),
        (["-o", "x.md", "--n-best", "2"], "applies to rows, not to documents"),
        (["-o", "x.md", "--text-field", "a"], "applies to rows, not to documents"),
    ],
)
def test_what_means_nothing_for_a_document_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text(MARKDOWN)
    done = run("translate", "-i", "a.md", "--to", "fr", *arguments)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(("name", "said"), [("a.ts", "lconvert -i NAME.ts"), ("a.doc", "save it as .docx"), ("a.sdlxliff", "copy it to")])
def test_a_document_that_is_not_read_is_refused_with_what_makes_one_that_is(run: Run, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("The house")
    done = run("translate", "-i", tmp_path / name, "-o", tmp_path / f"b-{name}", "--to", "fr")
    assert done.code == 2
    assert said in done.err


def test_a_missing_document_and_one_for_a_terminal(run: Run, tmp_path: Path, word: Path) -> None:
    assert run("translate", "-i", tmp_path / "none.md", "--to", "fr").code == 2
    assert run("translate", "-i", word, "--to", "fr").code == 2
