"""Messages, resources and markup in `tests/documents/`: beside each hard file stands what must come out of it in French."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Process, Run
from hypothesis import given
from hypothesis import strategies as st
from tiny_translator import same, translated

from llmkit.errors import InputError
from llmkit.translation.documents import formats
from llmkit.translation.documents.base import Document
from llmkit.translation.documents.formats import open_document

FOLDER = Path(__file__).parent / "documents"
FILES = sorted(path for path in FOLDER.glob("*/*") if path.with_name(f"{path.stem}.fr{path.suffix}").exists())


def parsed(ending: str, data: bytes, target: str | None = None) -> Document:
    document: Document = formats._parser(ending)(data, f"file{ending}", target)
    return document


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_hard_file_comes_out_as_it_must(path: Path) -> None:
    document, data = open_document(str(path))
    assert document.segments
    assert translated(document, same) == data
    assert document.build([None] * len(document.segments)) == data
    assert translated(open_document(str(path), "fr")[0]) == path.with_name(f"{path.stem}.fr{path.suffix}").read_bytes()


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix != ".strings" and b"\r" not in p.read_bytes()], ids=lambda path: path.name)
def test_lines_may_end_as_on_windows(path: Path) -> None:
    data = path.read_bytes().replace(b"\n", b"\r\n")
    assert translated(parsed(path.suffix, data), same) == data
    done = translated(parsed(path.suffix, data, "fr"))
    assert done.replace(b"\r\n", b"\n") == path.with_name(f"{path.stem}.fr{path.suffix}").read_bytes()


def test_there_are_files_of_each_format() -> None:
    assert {path.suffix for path in FILES} >= {
        ".json", ".arb", ".yml", ".yaml", ".xlf", ".xliff", ".xml", ".strings", ".xcstrings", ".properties", ".ass", ".tex", ".rst"
    }  # fmt: skip


#: Parts of files, one between two bars: any order of them is refused in one line or comes back byte for byte.
PARTS = {
    ".json": '{|}|[|]|:|,|"a"|"The cat {n, plural, one {# x} other {y}}"|"It\'\'s {0}"|"\\ud83d"|1|\n',
    ".yml": "a: |- |b|\n|  |\"The cat\"|'x'|>-\n|{|}|[|]|,|# c|&a |*a|!!str |---\n|é",
    ".properties": "a|=|:| |\\|\n|\\u00e9|\\u00|The cat|#|\t|\r\n|{0}|''|é|'{'",
    ".strings": '"a"|=|;|"The \\"cat\\" %@"| |/* c */|//x\n|\n|{|}|\\|"|x|\\U00e9',
    ".xml": '<resources>|</resources>|<string name="a">|</string>|The cat\\\'s|"|\\n|<b>|</b>|&amp;|<![CDATA[|]]>|%1$s|@string/a'
    "|<!-- c -->|<xliff:g>|</xliff:g>|\n ",
    ".xlf": '<xliff version="1.2"><file>|</file></xliff>|<trans-unit>|</trans-unit>|<source>|</source>|<target>|</target>'
    '|<target state="new"/>|The cat|<g id="1">|</g>|<x/>|&lt;b&gt;|<bpt>|</bpt>',
    ".ass": "[Events]\n|Dialogue: 0,0,0,D,,0,0,0,,|The cat|\\N|{\\i1}|- |{\\p1}|{\\p0}|\n|\\h|{|}|Format: a,b\n",
    ".tex": "\\begin{document}|\\section{|}|{|The cat|$|$$|\\(|\\)|\\[|%|\n|\n\n|\\emph{|\\footnote{|\\item[|]|~|&|\\\\|\\verb+|+|\\cite{a}"
    '|\\"o|``|\\|\\begin{verbatim}|\\def\\x#1',
    ".rst": "The cat|\n|\n\n|====|----\n|.. note:: |.. |   |- |*|`|``|:ref:`a`|`a <b>`_|`The cat`_|::|_|.. [1] |1. |+--+|a\n==\n|>>> |\\",
}
FRAME = {
    ".json": ('{"k":', "}"),
    ".xml": ("<resources><string>", "</string></resources>"),
    ".strings": ('"a" = "', '";'),
    ".xlf": ('<xliff version="1.2"><file><trans-unit><source>', "</source></trans-unit></file></xliff>"),
    ".ass": ("[Events]\nDialogue: 0,0,0,D,,0,0,0,,", ""),
}


def test_a_key_over_lines_is_named_on_one() -> None:
    with pytest.raises(InputError, match=r'after the value of "the cat"$'):
        parsed(".strings", b'"the\ncat""a"')


@pytest.mark.parametrize("ending", PARTS)
@given(data=st.data())
def test_any_file_is_refused_or_comes_back(ending: str, data: st.DataObject) -> None:
    before, after = data.draw(st.sampled_from([("", ""), FRAME.get(ending, ("", ""))]))
    source = (before + "".join(data.draw(st.lists(st.sampled_from(PARTS[ending].split("|")), max_size=14))) + after).encode()
    said = ""
    try:
        document = parsed(ending, source)
    except InputError as exc:
        said = str(exc)
    if said:
        assert said.startswith(f"file{ending}")
        assert "\n" not in said
        return
    assert translated(document, same) == source
    again = parsed(ending, source, "fr")
    again.build([segment.text.replace("The", "L'{ \"<&é") for segment in again.segments])


@pytest.mark.parametrize(
    ("ending", "data", "said"),
    [
        (".json", b'{"a": "b",\n}', r"file\.json, line 2: is not JSON: .*\(column 1\)"),
        (".json", b'["The cat"]', "is not an object of messages"),
        (".json", b'{"a":' * 100_000, "nested too deeply"),
        (".json", b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        (".yml", b"a: b\n c: d\n", r"file\.yml, line 2: is not YAML"),
        (".yml", b"a: \x01\n", "is not YAML: the character 0x1 is not allowed"),
        (".yml", b"[" * 5_000, "nested too deeply"),
        (".yml", b"a: *b\n- c", r"line 2: is not YAML"),
        (".xlf", b'<xliff version="1.2">\n<file></xliff>', r"file\.xlf, line 2: is not well-formed XML: mismatched tag"),
        (".xlf", b"<html></html>", "is not XLIFF 1 or 2"),
        (".xlf", b'<?xml version="1.0" encoding="x-none"?><xliff version="1.2"/>', "declares an unknown encoding, x-none"),
        (".xml", b"<project></project>", "its root is <project>, not Android's <resources>"),
        (".xml", b"<resources><string>&none;</string></resources>", "undefined entity"),
        (".strings", b'"a" = "b"\n"c" = "d";', r"line 1: a semicolon is missing after the value of \"a\""),
        (".strings", b"bplist00\x01", "is a compiled property list"),
        (".strings", b'"a" = ;', r"line 1: a value is missing"),
        (".properties", b"a=b\nc=\\u12", r"file\.properties, line 2: a \\u escape without four"),
        (".xcstrings", b'{"a": 1}', "is not a string catalog"),
        (".ass", b"Hello", r"holds no \[Events\]"),
        (".tex", b"The cat\n\\emph{house \\cite{a", r"file\.tex, line 2: a brace is not closed"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(ending: str, data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parsed(ending, data)
    assert "\n" not in str(caught.value)


def test_no_entity_of_a_file_is_expanded_or_loaded() -> None:
    bomb = b'<!DOCTYPE resources [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    source = bomb + b'<resources><string name="x">The &b; &c; cat</string></resources>'
    document = parsed(".xml", source)
    assert [segment.text for segment in document.segments] == ["The &b; &c; cat"]
    assert translated(document) == source.replace(b"The", b"Le").replace(b"cat<", b"chat<")


def test_a_paper_in_another_encoding_says_that_it_is_utf_8(tmp_path: Path) -> None:
    source = "\\usepackage[latin1]{inputenc}\n\\begin{document}\nThe caf\xe9.\n\\end{document}\n"
    (tmp_path / "a.tex").write_bytes(source.encode("latin-1"))
    document, _ = open_document(str(tmp_path / "a.tex"), "fr", "latin-1")
    built = document.build(["Le caf\xe9."]).decode("utf-8")
    assert built == source.replace("latin1", "utf8").replace("The", "Le")


@pytest.mark.parametrize(
    ("format", "source", "expected"),
    [
        ("md", "# Good morning\n\n`Thank you.`\n", "# Bonjour\n\n`Thank you.`\n"),
        ("HTML", "<p>Good <b>morning</b>.</p>\n", "<p><b>Bonjour</b>.</p>\n"),
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\nGood morning.\n", "1\n00:00:01,000 --> 00:00:02,000\nBonjour.\n"),
        ("arb", '{"hello": "Good morning."}', '{"hello": "Bonjour."}'),
    ],
)
def test_the_format_of_a_document_can_be_named(run: Run, process: Process, tmp_path: Path, format: str, source: str, expected: str) -> None:
    (tmp_path / "README").write_text(source)
    ran = run("translate", "-i", tmp_path / "README", "--input-format", format, "--to", "fr", "-q")
    assert (ran.code, ran.out, ran.err) == (0, expected, "")
    if format == "md":  # standard input belongs to a process
        assert process("translate", "-i", "-", "--input-format", format, "--to", "fr", stdin=source.encode()).out == expected
