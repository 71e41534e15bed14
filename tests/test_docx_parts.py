"""Word documents: every part that people read, and every element that may stand around words."""

from __future__ import annotations

import io
import zipfile

import pytest

from llmkit.translation.documents import docx as word
from llmkit.translation.documents.verification import verify
from llmkit.translation.markup import strip

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def archive(body: str, **parts: str) -> bytes:
    """A document of these parts by name, each with paragraphs; `body` is that of document.xml."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>")
        for name, content in parts.items():
            file.writestr(f"word/{name}.xml", f"<w:part {W}>{content}</w:part>")
    return out.getvalue()


def paragraph(*content: str) -> str:
    return f"<w:p>{''.join(content)}</w:p>"


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def read(data: bytes) -> list[str]:
    """What a model reads of each segment."""
    document = word.parse(data, "a.docx")
    return [strip(segment.text, document.keep.of(number)).plain for number, segment in enumerate(document.segments)]


@pytest.mark.parametrize("part", ["header1", "header2", "footer3", "footnotes", "endnotes", "comments"])
def test_each_part_that_people_read_is_translated(part: str) -> None:
    data = archive(paragraph(run("The cat.")), **{part: paragraph(run("The house."))})
    assert read(data) == ["The cat.", "The house."]
    made = verify(word.parse(data, "a"), ["Le chat.", "La maison."])
    assert made.left == ()
    with zipfile.ZipFile(io.BytesIO(made.data)) as file:
        assert "La maison." in file.read(f"word/{part}.xml").decode()
        assert "Le chat." in file.read("word/document.xml").decode()


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{run('red')}</w:sdtContent></w:sdt>", "The red house."),
        (f'<w:fldSimple w:instr="REF red">{run("red")}</w:fldSimple>', "The red house."),
        (f'<w:fldSimple w:instr=" MERGEFIELD Red ">{run("«Red»")}</w:fldSimple>', "The house."),
        (
            "<w:r><w:fldChar w:fldCharType='begin'/><w:instrText>MERGE</w:instrText><w:instrText>FIELD Red</w:instrText>"
            f"<w:fldChar w:fldCharType='separate'/></w:r>{run('«Red»')}<w:r><w:fldChar w:fldCharType='end'/></w:r>{run('red')}",
            "The red house.",
        ),
        ("<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>" + run("red"), "The red house."),
        ('<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>red</w:t></w:r>', "The red house."),
        (f'<w:ins w:id="1">{run("red")}</w:ins>', "The red house."),
        (f"<w:smartTag>{run('red')}</w:smartTag>", "The red house."),
        (f'<w:moveTo w:id="1">{run("red")}</w:moveTo>', "The red house."),
        ('<w:del w:id="1"><w:r><w:delText>blue</w:delText></w:r></w:del>' + run("red"), "The red house."),
        (f'<w:moveFrom w:id="1">{run("blue")}</w:moveFrom>' + run("red"), "The red house."),
        ("<w:r><w:fldChar w:fldCharType='begin'/><w:instrText>PAGE</w:instrText></w:r>" + run("red"), "The red house."),
        ('<w:bookmarkStart w:id="1"/>' + run("red") + '<w:bookmarkEnd w:id="1"/>', "The red house."),
        ('<w:r><w:rPr><w:b/></w:rPr><w:t>red</w:t><w:footnoteReference w:id="1"/></w:r>', "The red house."),
        ("<w:r><w:t>dark</w:t><w:noBreakHyphen/><w:t>red</w:t></w:r>", "The dark-red house."),
        (f"{run('dark')}<w:r><w:rPr><w:b/></w:rPr><w:noBreakHyphen/><w:t>red</w:t></w:r>", "The dark-red house."),
    ],
    ids=[
        "control", "field", "mail merge", "mail merge in runs", "hidden", "not hidden", "insertion", "smart tag", "move", "deletion",
        "moved away", "page", "bookmark", "footnote", "hyphen", "hyphen of another format",
    ],
)  # fmt: skip
def test_a_sentence_goes_on_through_what_stands_in_it(middle: str, expected: str) -> None:
    data = archive(paragraph(run("The "), middle, run(" house.")))
    assert read(data) == [expected]
    document = word.parse(data, "a")
    (segment,) = document.segments
    assert verify(document, [segment.text]).data == data
    made = verify(document, [segment.text.upper()])
    assert made.left == ()
    assert read(made.data) == [expected.upper()]


def test_a_bookmark_keeps_its_words() -> None:
    marked = f'<w:bookmarkStart w:id="1" w:name="_Ref1"/>{run("the house")}<w:bookmarkEnd w:id="1"/>'
    document = word.parse(archive(paragraph(run("See "), marked, run(" now."))), "a")
    (segment,) = document.segments
    made = verify(document, [segment.text.replace("See", "Voir").replace("the house", "la maison").replace("now", "là")])
    with zipfile.ZipFile(io.BytesIO(made.data)) as file:
        written = file.read("word/document.xml").decode()
    assert "la maison" in written.partition("<w:bookmarkStart")[2].partition("<w:bookmarkEnd")[0]
    assert "Voir" in written.partition("<w:bookmarkStart")[0]


@pytest.mark.parametrize("between", ["<w:r><w:tab/></w:r>", "<w:r><w:br/></w:r>", "<w:r><w:cr/></w:r>"])
def test_tabs_and_breaks_end_a_segment(between: str) -> None:
    assert read(archive(paragraph(run("The cat"), between, run("The house")))) == ["The cat", "The house"]


def test_a_text_box_has_paragraphs_of_its_own() -> None:
    box = f"<w:r><w:pict><w:txbxContent>{paragraph(run('The house'))}</w:txbxContent></w:pict></w:r>"
    assert sorted(read(archive(paragraph(run("The cat"), box)))) == ["The cat", "The house"]


def test_words_keep_hyphens_that_do_not_break() -> None:
    data = archive(paragraph("<w:r><w:t>Call 555</w:t><w:noBreakHyphen/><w:t>12, house</w:t><w:noBreakHyphen/><w:t>cat.</w:t></w:r>"))
    assert read(data) == ["Call 555-12, house-cat."]
    document = word.parse(data, "a")
    made = verify(document, ["Appelez le 555-12, chat."])
    assert made.left == ()
    assert read(made.data) == ["Appelez le 555\u201112, chat."]
    with zipfile.ZipFile(io.BytesIO(made.data)) as file:
        assert b"noBreakHyphen" not in file.read("word/document.xml")
    assert verify(document, [None]).data == data


def test_what_pictures_tables_and_lists_to_choose_from_say_is_translated() -> None:
    told = '<wp:docPr xmlns:wp="wp" id="1" name="Picture 1" descr="The house" title="house.png"/>'
    table = '<w:tbl><w:tblPr><w:tblCaption w:val="The cat"/></w:tblPr></w:tbl>'
    chosen = '<w:sdt><w:sdtPr><w:dropDownList><w:listItem w:displayText="The station" w:value="1"/></w:dropDownList></w:sdtPr></w:sdt>'
    data = archive(paragraph(f"<w:r><w:drawing>{told}</w:drawing></w:r>", chosen) + table)
    assert read(data) == ["The house", "The station", "The cat"]
    made = verify(word.parse(data, "a"), ['La "maison"', "La gare", "Le chat"])
    assert made.left == ()
    assert read(made.data) == ['La "maison"', "La gare", "Le chat"]


def test_the_words_of_a_chart_are_translated() -> None:
    drawn = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    bold = '<a:r><a:rPr lang="en-US" b="1"/><a:t>house</a:t></a:r>'
    data = archive("", **{"charts/chart1": f'<a:p {drawn}><a:r><a:rPr lang="en-GB"/><a:t>My </a:t></a:r>{bold}</a:p>'})
    (segment,) = word.parse(data, "a").segments
    assert segment.text == "My <1>house"
    made = verify(word.parse(data, "a"), ["Ma <1> maison"])
    assert made.left == ()
    with zipfile.ZipFile(io.BytesIO(made.data)) as file:
        assert "<a:t> maison</a:t>" in file.read("word/charts/chart1.xml").decode()
