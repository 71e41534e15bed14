"""Text of XML in CDATA sections and behind comments: it is part of its sentence, in every format that is a zip of XML."""

from __future__ import annotations

import pytest
from test_archives import PARSERS, RUN, packed, sheet, slide, unpacked, writing
from test_docx_parts import archive, paragraph, read
from tiny_translator import french, same, translated

from llmkit.translation.documents import docx
from llmkit.translation.documents.verification import verify

CASES = {
    "a slide": (
        slide("<a:p>" + RUN.format("", "<![CDATA[The red & ]]>") + RUN.format("", "cat<!-- c --> x<?p?>y") + "</a:p>"),
        "The red & cat xy",
    ),
    "a comment in a string": (sheet("<si><t>The <!-- c -->cat<![CDATA[ & house]]></t></si>"), "The cat & house"),
    "a string": (sheet("<si><t><![CDATA[My <house]]></t></si>"), "My <house"),
    "a string behind a comment": (sheet("<si><t><!-- c -->My house</t></si>"), "My house"),
    "a title": (sheet("<si><t>1</t></si>", docProps__core="<x><title>My <![CDATA[house]]></title></x>"), "My house"),
    "a text": (writing("<text:p>The <![CDATA[cat & ]]>house</text:p>"), "The cat & house"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_section_is_part_of_its_sentence(case: str) -> None:
    (ending, parts), sentence = CASES[case]
    data = packed(parts)
    document = PARSERS[ending](data, f"a{ending}", None)
    assert translated(document, same) == data
    assert _words(document.segments[0].text) == sentence
    made = translated(document)
    again = PARSERS[ending](made, f"a{ending}", None)
    assert [_words(segment.text) for segment in again.segments] == [french(sentence)]
    assert all(content.count("<!-- c -->") == parts[name].count("<!-- c -->") for name, content in unpacked(made).items())


def _words(text: str) -> str:
    """A segment without the marks between its runs."""
    for number in range(1, 4):
        text = text.replace(f"<{number}>", "")
    return text


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        ("The <!-- c -->red<?p?> cat", "The red cat"),
        ("<!-- c -->My house", "My house"),
        ("<![CDATA[The < red ]]>cat", "The < red cat"),
        ("My &amp; <!-- c --> <!-- d -->house", "My &  house"),
    ],
)
def test_text_behind_a_comment_is_part_of_a_word_documents_sentence(inside: str, sentence: str) -> None:
    data = archive(paragraph(f"<w:r><w:t>{inside}</w:t></w:r>"))
    document = docx.parse(data, "a.docx")
    assert read(data) == [sentence]
    assert document.build([None]) == document.build([document.segments[0].text]) == data
    made = verify(document, [french(document.segments[0].text)])
    assert made.left == ()
    assert read(made.data) == [french(sentence)]
    assert verify(document, [None]).data == data
    assert unpacked(made.data)["word/document.xml"].count("<!-- c -->") == inside.count("<!-- c -->")
