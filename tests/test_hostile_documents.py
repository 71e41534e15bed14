"""Documents that make a reader look again and again for what isn't there: read, compared and proven in time linear in their size."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.translation.documents.base import Segment, TextDocument
from llmkit.translation.documents.formats import open_document
from llmkit.translation.documents.verification import verify
from llmkit.translation.markup import strip

pytestmark = pytest.mark.usefixtures("limited_time")

#: What is begun many thousand times and never ended: where each looks for its end up to the last, it takes minutes.
REPEATED = ("![", "*[", "[^a", "{%", "\\(", "&", "`a", ":a[")
ONCE = {
    "zeros of a printf": "%" + "0" * 100_000 + "z",
    "templates on a line": "{{a}}" * 20_000 + " and a word",
    "statements on a line": "{%a%}" * 20_000 + " and a word",
    "quotes of an import": "import " + "'" * 100_000 + " x",
    "spaces in a heading": "# a" + " " * 100_000 + "b",
    "spaces in a container": ":::a" + " " * 100_000 + "[",
    "a bracket at the end": "![" * 10_000 + "]",
    "images in images": ("![" * 15 + "a" + "](b)" * 15) * 200,
    "formulas that never end": "\\[\na\n" * 5_000 + "\nand a word",
    "terms without a definition": "a term\n" * 5_000 + "\nand a word",
    "expressions that never end": "import a from 'b';\n\n" + "a { b " * 1_000 + "\n\nand a word",
    "footnotes that never end": "a[^1] " + "[^a[" * 20_000 + "\n\n[^1]: note",
}


def translated(path: Path, source: str) -> bytes:
    """A file with "Bonjour" for each "Hello": read, compared segment by segment, built and proven."""
    path.write_text(source)
    document, _ = open_document(str(path), "fr", "utf-8")
    translations = [segment.text.replace("Hello", "Bonjour") for segment in document.segments]
    for number, (segment, translation) in enumerate(zip(document.segments, translations, strict=True)):
        strip(segment.text, document.keep)
        assert document.keep.of(number).problem(segment.text, translation) is None
    result = verify(document, translations)
    assert result.left == ()
    return result.data


@pytest.mark.parametrize("begun", REPEATED)
def test_what_is_begun_thousands_of_times_and_never_ends_is_compared(begun: str, tmp_path: Path) -> None:
    source = "Hello " + begun * (40_000 // len(begun)) + "\n"
    assert translated(tmp_path / "page.md", source) == source.replace("Hello", "Bonjour").encode()


@pytest.mark.parametrize("kind", ONCE)
def test_a_line_with_many_ways_to_read_it_is_read_once(kind: str, tmp_path: Path) -> None:
    source = f"Hello you.\n\n{ONCE[kind]}\n"
    assert translated(tmp_path / "page.md", source) == source.replace("Hello", "Bonjour").encode()


@pytest.mark.parametrize("begun", ["{%", "<a ", "<!--", "<b>"])
def test_the_same_in_a_page(begun: str, tmp_path: Path) -> None:
    source = f"<p>Hello {begun * (40_000 // len(begun))}</p>"
    assert translated(tmp_path / "page.html", source) == source.replace("Hello", "Bonjour").encode()


@pytest.mark.parametrize("begun", ["[", "<![CDATA[", "|a", "`a"])
def test_the_same_in_restructured_text(begun: str, tmp_path: Path) -> None:
    source = "Hello " + begun * (40_000 // len(begun)) + "\n"
    assert translated(tmp_path / "page.rst", source) == source.replace("Hello", "Bonjour").encode()


def test_escaped_parentheses_are_prose_and_formulas_are_not(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(r"The cat \(see below\), \\(x_i\\), \(n\) and \(\alpha + \beta\)." + "\n")
    document, _ = open_document(str(path), "fr", "utf-8")
    kept = [mark.group() for mark in document.keep.finditer(document.segments[0].text)]
    assert kept == [r"\\(x_i\\)", r"\(n\)", r"\(\alpha + \beta\)"]
    assert "(see below)" in document.segments[0].text


def test_prose_between_templates_is_translated(tmp_path: Path) -> None:
    assert translated(tmp_path / "page.md", "{{ a }} Hello {{ b }}\n") == b"{{ a }} Bonjour {{ b }}\n"


def test_a_file_of_many_segments_is_written_in_linear_time() -> None:
    many = 150_000
    segments = (Segment("Hello", "Hello", 1),) * many
    document = TextDocument(("", *["\n"] * many), segments, lambda text, _: text)
    assert document.build(["Bonjour"] * many) == b"Bonjour\n" * many
