"""Marks go to the sign, the number or the name that they stood at; and the language of a document is the target's."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable

import pytest
from test_document_corpus import answered

from llmkit.translation.documents import docx as word
from llmkit.translation.documents import html, markdown
from llmkit.translation.documents.verification import verify
from llmkit.translation.markup import strip
from llmkit.translation.placeholders import IN_TEXTS

SOURCES = (
    "<b>Note:</b> be careful, <i>always</i>.",
    "Press <kbd>Ctrl</kbd>+<kbd>C</kbd>, <code>x</code>, or (<code>y</code>).",
    "One %d file (%s) of %ld, %5.2f%% done, %-10s|%*d|%c here.",
    'He said "<b>yes</b>", and <a href="u">left</a>.<sup>12</sup>',
    "H<sub>2</sub>O is x<sup>2</sup>, <q>well</q>; [<a href=x>3</a>].",
    "The <b>cat</b> and the <i>dog</i> and the <u>house</u> and the end.",
)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("model", [str.upper, lambda text: f"  {text}  ", lambda text: text.replace("the", "les")])
def test_marks_keep_their_places_where_the_signs_around_them_stay(source: str, model: Callable[[str], str]) -> None:
    document = html.parse(f"<p>{source}</p>".encode(), "a.html")
    built = verify(document, answered(document, model)).data.decode()
    assert re.sub(r"\s", "", built).lower().replace("les", "the") == re.sub(r"\s", "", f"<p>{source}</p>").lower()


@pytest.mark.parametrize("source", SOURCES[3:])
def test_another_order_of_words_leaves_no_mark_empty(source: str) -> None:
    document = html.parse(f"<p>{source}</p>".encode(), "a.html")
    made = verify(document, answered(document, lambda text: " ".join(reversed(text.split()))))
    assert made.left == ()
    assert not re.search(r"<(\w+)[^>]*></\1>", made.data.decode())


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("Tom &lt;tom@example.org&gt; and the cat (%s).", "Tom and the cat."),
        ("Page&nbsp;<code>x</code>&nbsp;and the cat, or&nbsp;<code>y</code>, yes.", "Page\xa0and the cat, or, yes."),
        ("&copy;&nbsp;2024 the cat", "2024 the cat"),
    ],
)
def test_what_stays_is_read_with_the_brackets_and_a_space_around_it(source: str, read: str) -> None:
    document = html.parse(f"<p>{source}</p>".encode(), "a.html")
    assert strip(document.segments[0].text, document.keep).plain.strip() == read
    built = verify(document, answered(document, lambda text: text.replace("the cat", "le chat"))).data.decode()
    assert built == f"<p>{source.replace('the cat', 'le chat')}</p>"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Open my_house.py or /usr/local/bin now.", "Open or now."),
        (r"The cat is in C:\temp\new now.", "The cat is in now."),
        ("See #12 and @tom in README.md today.", "See and in today."),
        ("The value $x_i$ of \\(a_b\\) is big, but it costs $5 or $10.", "The value of is big, but it costs $5 or $10."),
        ("He or she and/or 24/7, 5 km/h: run f() today.", "He or she and/or 24/7, 5 km/h: run today."),
    ],
)
def test_codes_paths_names_and_formulas_stay_in_a_text_of_no_format(text: str, read: str) -> None:
    assert strip(text, IN_TEXTS).plain == read


def test_code_never_joins_a_word_or_other_code_that_it_did_not_touch() -> None:
    document = markdown.parse(b"Use `a`, `b` or --force, and `c`s.\n", "a.md")
    built = verify(document, answered(document, lambda text: "Oui"))
    assert built.left == ()
    assert all(not re.search(r"\w`\w`|``|\w--force|--force\w", line) for line in built.data.decode().splitlines())


def test_wrapped_lines_of_markdown_are_one_sentence_and_lines_again() -> None:
    source = b"> - The house is red and\r\n>   the cat is [here\r\n>   now](u), `a b` too.\r\n"
    document = markdown.parse(source, "a.md")
    assert [segment.text for segment in document.segments] == ["The house is red and the cat is [here now](u), `a b` too."]
    built = document.build([document.segments[0].text.replace("The house is red", "La maison est rouge et belle")])
    assert built == b"> - La maison est rouge\r\n>   et belle and the cat\r\n>   is [here now](u),\r\n>   `a b` too.\r\n"


def test_a_line_never_begins_with_what_would_be_a_block() -> None:
    document = markdown.parse(b"The house is\nred and big.\n", "a.md")
    built = document.build(["The house is - 1. # > + 2) = big."])
    assert built == b"The house is - 1. # > + 2) =\nbig.\n"


def test_the_language_of_a_word_document_is_that_of_its_words() -> None:
    import docx
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    made = docx.Document()
    paragraph = made.add_paragraph("The house")
    for tag, text in (("en-US", " is red"), ("de-DE", " Haus")):
        paragraph._p.append(
            parse_xml(f'<w:r {nsdecls("w")}><w:rPr><w:lang w:val="{tag}"/></w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>')
        )
    out = io.BytesIO()
    made.save(out)
    document = word.parse(out.getvalue(), "a.docx", "fr")
    assert document.segments[0].text == "The house is red Haus"
    assert document.build([None] * len(document.segments)) == out.getvalue()
    built = verify(document, answered(document, str.upper))
    assert built.left == ()
    with zipfile.ZipFile(io.BytesIO(built.data)) as archive:
        assert re.findall(rb'<w:lang [^>]*w:val="([\w-]+)"', archive.read("word/styles.xml")) == [b"fr-FR"]
        assert re.findall(rb'<w:lang [^>]*w:val="([\w-]+)"', archive.read("word/document.xml")) == [b"fr-FR", b"de-DE"]


def test_an_element_in_the_pages_language_is_in_the_targets() -> None:
    source = b'<html lang="en-US"><p lang="en">The cat</p><p lang="la">ad hoc</p></html>'
    document = html.parse(source, "a.html", "fr")
    assert document.build([None] * len(document.segments)) == b'<html lang="fr"><p lang="fr">The cat</p><p lang="la">ad hoc</p></html>'


@pytest.mark.parametrize(
    ("before", "target", "after"),
    [
        ('<html lang="en" dir="ltr"><body dir=ltr>', "ar", '<html lang="ar" dir="rtl"><body dir=rtl>'),
        ("<html lang=en>", "he", "<html lang=he dir=rtl>"),
        ('<html dir="rtl" lang="ar">', "en", '<html dir="ltr" lang="en">'),
        ('<html lang="en"><body dir="auto">', "fr", '<html lang="fr"><body dir="auto">'),
        ('<p lang="en">A <i lang="de">ja</i>', "fr", '<p lang="fr">A <i lang="de">ja</i>'),
        ('<html lang="{{ page.lang }}" dir="{{ d }}">', "ar", '<html lang="{{ page.lang }}" dir="{{ d }}">'),
        ('<html lang="<?= $lang ?>">', "ar", '<html lang="<?= $lang ?>">'),
    ],
)
def test_a_page_is_in_the_language_and_the_direction_of_the_target_unless_a_template_says_it(before: str, target: str, after: str) -> None:
    document = html.parse(f"{before}<p>The cat</p>".encode(), "a.html", target)
    assert document.build([None] * len(document.segments)).decode() == f"{after}<p>The cat</p>"
