"""Slides, workbooks, OpenDocument texts and books: the words change, the rest of the XML does not, and bombs stay closed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run
from tiny_translator import same, translated

from llmkit.errors import InputError
from llmkit.translation.documents import docx, epub, odt, pptx, xlsx
from llmkit.translation.documents.archive import ArchiveDocument
from llmkit.translation.documents.base import Document

Parser = Callable[[bytes, str, str | None], Document]

PARSERS = {".pptx": pptx.parse, ".xlsx": xlsx.parse, ".odt": odt.parse, ".epub": epub.parse}
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
T = 'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
LANGUAGE = '<dc:language xmlns:dc="d">en</dc:language>'
CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'


def packed(parts: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            method = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), content, method)
    return out.getvalue()


def unpacked(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def slide(paragraphs: str, name: str = "ppt/slides/slide1.xml") -> tuple[str, dict[str, str]]:
    body = f"<p:sld {A}><p:cSld><p:sp><p:nvPr/><p:txBody>{{}}</p:txBody></p:sp></p:cSld></p:sld>"
    return ".pptx", {"ppt/presentation.xml": "<p/>", name: body.format(paragraphs)}


def sheet(strings: str, **more: str) -> tuple[str, dict[str, str]]:
    others = {name.replace("__", "/") + ".xml": content for name, content in more.items()}
    return ".xlsx", {"xl/workbook.xml": "<workbook/>", "xl/sharedStrings.xml": f"<sst>{strings}</sst>"} | others


def writing(body: str) -> tuple[str, dict[str, str]]:
    content = f"<office:document-content {T}><office:text>{body}</office:text></office:document-content>"
    return ".odt", {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content}


def book(chapter: str, head: str = "<title>x1</title>") -> tuple[str, dict[str, str]]:
    manifest = '<item href="c%201.xhtml" media-type="application/xhtml+xml"/><item href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    return ".epub", {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": f"<package><metadata>{LANGUAGE}</metadata><manifest>{manifest}</manifest></package>",
        "OEBPS/toc.ncx": "<ncx><navLabel><text>x2</text></navLabel></ncx>",
        "OEBPS/c 1.xhtml": f'<?xml version="1.0"?><html xml:lang="en"><head>{head}</head><body>{chapter}</body></html>',
    }


RUN = "<a:r>{}<a:t>{}</a:t></a:r>"
#: A document, the name of a part, and the changes in that part: (what was there, what is there).
TRAPS = {
    "literal text": (
        book("<p><![CDATA[The cat & < 2]]>.</p><p>x1 <![CDATA[& cat]]> x2</p><p>x3 <![CDATA[the &lt;]]></p><pre><![CDATA[The]]></pre>"),
        [("The cat &", "Le chat &"), ("& cat]]", "& chat]]")],
    ),
    "a sentence over formats": (
        slide("<a:p>" + RUN.format('<a:rPr b="0"/>', "The ") + RUN.format('<a:rPr b="1"/>', "red") + RUN.format("", " cat") + "</a:p>"),
        [("The ", "Le "), (">red", ">rouge"), (" cat", " chat")],
    ),
    "a word in two runs": (
        slide("<a:p>" + RUN.format('<a:rPr lang="en"/>', "ca") + RUN.format('<a:rPr lang="de" dirty="0"/>', "t x") + "</a:p>"),
        [("<a:t>ca<", "<a:t>chat x<"), ("<a:t>t x<", "<a:t><")],
    ),
    "a line break": (
        slide("<a:p>" + RUN.format("", "My cat") + "<a:br/>" + RUN.format("", "The house") + "</a:p>"),
        [("My cat", "Ma chat"), ("The house", "Le maison")],
    ),
    "a field": (
        slide('<a:p><a:fld id="{1}" type="slidenum"><a:t>cat</a:t></a:fld>' + RUN.format("", "cat house") + "</a:p>"),
        [("cat house", "chat maison")],
    ),
    "math": (
        slide("<a:p>" + RUN.format("", "My ") + "<m:oMath><m:r><m:t>cat</m:t></m:r></m:oMath>" + RUN.format("", " house") + "</a:p>"),
        [("My", "Ma"), ("house", "maison")],
    ),
    "references": (
        slide("<a:p>" + RUN.format("", "cat &amp; &lt;b&gt; house") + "</a:p>"),
        [("cat &amp;", "chat &amp;"), ("house", "maison")],
    ),
    "notes": (slide("<a:p>" + RUN.format("", "cat") + "</a:p>", "ppt/notesSlides/notesSlide1.xml"), [("cat", "chat")]),
    "a chart": (slide("<a:p>" + RUN.format("", "cat") + "</a:p><c:v>house</c:v>", "ppt/charts/chart1.xml"), [("cat", "chat")]),
    "a layout's own text": (slide("<a:p>" + RUN.format("", "cat") + "</a:p>", "ppt/slideLayouts/slideLayout1.xml"), [("cat", "chat")]),
    "a picture": (slide('<p:cNvPr id="1" name="house" descr="A red cat"/>'), [("A red cat", "A rouge chat")]),
    "a link that is pointed at": (
        slide('<a:p><a:r><a:rPr><a:hlinkClick r:id="cat" xmlns:r="r" tooltip="The cat"/></a:rPr><a:t>x1</a:t></a:r></a:p>'),
        [("The cat", "Le chat")],
    ),
    "a plain string": (sheet("<si><t>The cat</t></si>"), [("The cat", "Le chat")]),
    "space at the ends": (sheet('<si><t xml:space="preserve"> The cat</t></si>'), [(" The cat", " Le chat")]),
    "rich text": (
        sheet("<si><r><rPr><b/></rPr><t>red</t></r><r><t> cat</t></r></si>"),
        [(">red", ">rouge"), ("<t> cat", '<t xml:space="preserve"> chat')],
    ),
    "a phonetic guide": (sheet("<si><t>cat</t><rPh sb='0' eb='1'><t>house</t></rPh></si>"), [("cat", "chat")]),
    "codes of Excel": (sheet("<si><t>cat_x000D_\nhouse</t></si>"), [("cat", "chat"), ("house", "maison")]),
    "a formula's literal": (
        sheet("<si><t>red cat</t></si><si><t>house</t></si>", xl__worksheets__sheet1='<c><f>IF(A1="red cat",1,2)</f><v>1</v></c>'),
        [("house", "maison")],
    ),
    "a table's column": (
        sheet("<si><t>cat</t></si><si><t>house</t></si>", xl__tables__table1='<table><tableColumn id="1" name="cat"/></table>'),
        [("house", "maison")],
    ),
    "allowed values": (
        sheet(
            "<si><t>cat</t></si><si><t>My house</t></si>",
            xl__worksheets__sheet1='<w><dataValidation><formula1>"cat,house"</formula1></dataValidation></w>',
        ),
        [("My house", "Ma maison")],
    ),
    "a paragraph with formats": (
        writing("<text:p>The <text:span>red</text:span> cat</text:p>"),
        [("The ", "Le "), (">red", ">rouge"), (" cat", " chat")],
    ),
    "a footnote in a sentence": (
        writing(
            "<text:p>My<text:note><text:note-citation>cat</text:note-citation>"
            "<text:note-body><text:p>The house</text:p></text:note-body></text:note> cat</text:p>"
        ),
        [(">My", ">Ma"), ("The house", "Le maison"), (" cat", " chat")],
    ),
    "a line break and a tab": (
        writing("<text:p>cat<text:line-break/>house<text:tab/>My</text:p>"),
        [("cat", "chat"), (">house", ">maison"), ("My", "Ma")],
    ),
    "deleted text": (
        writing("<text:tracked-changes><text:p>cat</text:p></text:tracked-changes><text:p>house</text:p>"),
        [("house", "maison")],
    ),
    "a tag that the text is about": (
        writing('<text:p>The &lt;cat x="house"&gt; &lt;/cat&gt; house &lt;cat and My&gt;</text:p>'),
        [("The", "Le"), ("; house", "; maison"), ("cat and My", "chat and Ma")],
    ),
    "spaces between words": (writing('<text:p>My<text:s text:c="2"/>cat</text:p>'), [("My", "Ma"), ("cat", "chat")]),
    "a comment's writer": (
        writing(
            "<text:p>cat<office:annotation><dc:creator xmlns:dc='d'>house</dc:creator><text:p>My</text:p></office:annotation></text:p>"
        ),
        [("cat", "chat"), ("My", "Ma")],
    ),
    "a date": (writing("<text:p>cat <text:date>house</text:date></text:p>"), [("cat", "chat")]),
    "a chapter": (
        book('<p>The <b>red</b> cat</p><img alt="My house"/>'),
        [("The ", "Le "), (">red", ">rouge"), (" cat", " chat"), ("My house", "Ma maison")],
    ),
    "a script closed at once": (book("<p>cat</p>", '<script src="house"/>'), [("cat", "chat")]),
    "a script in a sentence": (book('<p>The <script src="a"/> cat</p>'), [("The ", "Le "), (" cat", " chat")]),
    "a space that does not break": (book("<p>The&#160;cat</p>"), [("The", "Le"), ("cat", "chat")]),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_only_the_words_of_a_part_change(trap: str) -> None:
    (ending, parts), changes = TRAPS[trap]
    data = packed(parts)
    document = PARSERS[ending](data, f"a{ending}")
    assert translated(document, same) == data
    assert document.build([None] * len(document.segments)) == data
    expected = list(parts.values())[-1] if ending != ".xlsx" else parts["xl/sharedStrings.xml"]
    done = unpacked(translated(document))
    name = next(name for name, content in parts.items() if content == expected)
    for before, after in changes:
        assert expected.count(before) == 1, before
        expected = expected.replace(before, after)
    assert done == parts | {name: expected}


SHEET = (
    '<worksheet><dataValidations><dataValidation prompt="{0}" promptTitle="{1}"/></dataValidations>'
    '<hyperlinks><hyperlink tooltip="{0}" display="The cat"/></hyperlinks>'
    '<headerFooter><oddHeader>&amp;L&amp;"Arial,Bold"{0}&amp;CPage &amp;P&amp;R&amp;12{1}</oddHeader></headerFooter></worksheet>'
)


def test_headers_and_messages_of_a_sheet_are_translated_as_long_as_excel_takes_them() -> None:
    ending, parts = sheet("", xl__worksheets__sheet1=SHEET.format("The cat", "My house"))
    document = PARSERS[ending](packed(parts), "a.xlsx")
    assert unpacked(translated(document))["xl/worksheets/sheet1.xml"] == SHEET.format("Le chat", "Ma maison")
    title = next(number for number, segment in enumerate(document.segments) if segment.kind == "32")
    assert document.keep.of(title).problem("My house", "M" * 32) is None
    assert document.keep.of(title).problem("My house", "M" * 33) == "its markup would change"


def test_the_result_of_a_formula_is_translated_and_computed_again() -> None:
    cells = (
        '<c r="A1" t="str"><f>B1&amp;"red"</f><v>{0}</v></c><c t="str"><f>IF(B1,"My cat","")</f><v>My cat</v></c><c t="str"><v>{1}</v></c>'
    )
    comments = "<ThreadedComments><threadedComment><text>{}</text></threadedComment></ThreadedComments>"
    written = f"<worksheet>{cells}</worksheet>"
    parts = sheet("<si><t>The cat</t></si>", xl__worksheets__sheet1=written.format("The cat red", "My house"))[1]
    parts["xl/workbook.xml"] = '<workbook><sheets/><calcPr calcId="1"/></workbook>'
    parts["xl/threadedComments/threadedComment1.xml"] = comments.format("The house")
    done = unpacked(translated(xlsx.parse(packed(parts), "a.xlsx", "fr")))
    assert done["xl/worksheets/sheet1.xml"] == written.format("Le chat rouge", "Ma maison")
    assert done["xl/workbook.xml"] == '<workbook><sheets/><calcPr calcId="1" fullCalcOnLoad="1"/></workbook>'
    assert done["xl/threadedComments/threadedComment1.xml"] == comments.format("Le maison")


def test_the_same_translation_is_the_same_file_with_fixed_dates_and_the_order_of_entries() -> None:
    ending, parts = book("<p>The cat</p>")
    done = translated(PARSERS[ending](packed(parts), "a.epub"))
    assert done == translated(PARSERS[ending](packed(parts), "a.epub"))
    with zipfile.ZipFile(io.BytesIO(done)) as archive:
        assert archive.namelist() == list(parts)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED


def test_a_book_is_in_its_new_language() -> None:
    done = unpacked(translated(epub.parse(packed(book("<p>The cat</p>")[1]), "a.epub", "fr")))
    assert ">fr</dc:language>" in done["OEBPS/book.opf"]
    assert '<html xml:lang="fr">' in done["OEBPS/c 1.xhtml"]


def test_slides_and_texts_are_checked_in_their_new_language() -> None:
    other = '<a:r><a:rPr lang="de-DE"/><a:t> Haus</a:t></a:r>'
    runs = f'<a:p><a:r><a:rPr lang="{{0}}" b="1"/><a:t>{{1}}</a:t></a:r>{other}<a:endParaRPr lang="{{0}}"/></a:p>'
    done = unpacked(translated(pptx.parse(packed(slide(runs.format("en-US", "My cat"))[1]), "a.pptx", "fr")))
    assert runs.format("fr-FR", "Ma chat") in done["ppt/slides/slide1.xml"]
    style = '<style:text-properties xmlns:style="s" xmlns:fo="f" fo:language="{}" fo:country="{}"/>'
    parts = writing("<text:p>My cat</text:p>")[1] | {
        "styles.xml": f"<a>{style.format('en', 'GB')}{style.format('en', 'US')}{style.format('de', 'DE')}</a>",
        "meta.xml": '<m xmlns:dc="d"><dc:title>The cat</dc:title><dc:language>en-US</dc:language></m>',
    }
    done = unpacked(translated(odt.parse(packed(parts), "a.odt", "pt-BR")))
    assert done["styles.xml"] == f"<a>{style.format('pt', 'BR') * 2}{style.format('de', 'DE')}</a>"
    assert "<dc:language>pt-BR</dc:language>" in done["meta.xml"]


@pytest.mark.parametrize("ending", PARSERS)
def test_a_bomb_a_stranger_and_a_locked_file_are_refused_in_one_line(ending: str) -> None:
    names = {".pptx": "ppt/presentation.xml", ".xlsx": "xl/workbook.xml", ".odt": "content.xml", ".epub": "META-INF/container.xml"}
    bomb = packed({names[ending]: "0" * 50_000_000})
    locked = bytearray(packed({names[ending]: "<a/>"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    for data, said in (
        (bomb, "unpacks to 50,000,000 bytes"),
        (b"PK not a zip", "is not a"),
        (packed({"a": "b"}), "it holds no"),
        (bytes(locked), "is encrypted"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            PARSERS[ending](data, f"a{ending}")
        assert "\n" not in str(caught.value)


def test_damaged_xml_is_named_with_its_part_and_line() -> None:
    ending, parts = slide("<a:p>\n<a:r></a:p>")
    with pytest.raises(InputError, match=r"a\.pptx: ppt/slides/slide1\.xml, line 2: is not well-formed XML"):
        PARSERS[ending](packed(parts), "a.pptx")
    broken = bytearray(packed(slide("<a:p><a:r><a:t>The cat</a:t></a:r></a:p>")[1]))
    at = broken.index(b"slide1.xml") + 20
    broken[at : at + 8] = b"\xff" * 8
    with pytest.raises(InputError, match=r"is not a PowerPoint presentation: ppt/slides/slide1\.xml"):
        PARSERS[ending](bytes(broken), "a.pptx")


def test_a_file_with_more_or_other_tags_is_not_proven() -> None:
    ending, parts = slide("<a:p>" + RUN.format("", "The cat") + "</a:p>")
    document = PARSERS[ending](packed(parts), "a.pptx")
    assert isinstance(document, ArchiveDocument)
    other = {**parts, "ppt/slides/slide1.xml": parts["ppt/slides/slide1.xml"].replace("The cat", "Le <a:br/>chat")}
    assert document.skeleton(packed(other)) != document.skeleton(packed(parts))
    assert document.skeleton(packed({**parts, "ppt/presentation.xml": "<q/>"})) != document.skeleton(packed(parts))


def test_a_workbook_is_translated_by_the_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(packed(sheet("<si><t>Thank you.</t></si><si><t>12</t></si>")[1]))
    done = run("translate", "-i", tmp_path / "a.xlsx", "-o", tmp_path / "fr.xlsx", "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    assert unpacked((tmp_path / "fr.xlsx").read_bytes())["xl/sharedStrings.xml"] == "<sst><si><t>Merci.</t></si><si><t>12</t></si></sst>"
    assert run("translate", "-i", tmp_path / "a.xlsx", "--to", "fr").code == 2


def test_an_entry_of_text_that_is_too_large_is_not_opened() -> None:
    source = io.BytesIO()
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("Pictures/a.png", bytes(1_000_000))
        file.writestr("content.xml", "x" * 2000)
    said = bytearray(source.getvalue())
    entry = said.rindex(b"PK\x01\x02")
    said[entry + 24 : entry + 28] = (150_000_000).to_bytes(4, "little")  # its size, by the table of contents
    with pytest.raises(InputError, match=r"content\.xml of 150,000,000 bytes"):
        odt.parse(bytes(said), "a.odt")


@pytest.mark.parametrize(("parser", "entry", "before"), [(docx.parse, "word/document.xml", "w"), (odt.parse, "content.xml", "t")])
def test_no_entity_in_an_archive_is_expanded_or_loaded(parser: Parser, entry: str, before: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    for declared in (f'<!ENTITY e SYSTEM "{secret.as_uri()}">', '<!ENTITY a "secret"><!ENTITY e "&a;&a;&a;">'):
        text = f'<!DOCTYPE x [{declared}]><w:document xmlns:w="{name}" xmlns:t="t"><w:body><{before}:p>'
        text += "<w:r><w:t>The &e; cat</w:t></w:r>" if before == "w" else "The &e; cat"
        source = io.BytesIO()
        with zipfile.ZipFile(source, "w") as file:
            file.writestr(entry, f"{text}</{before}:p></w:body></w:document>")
        document = parser(source.getvalue(), "a", None)
        built = zipfile.ZipFile(io.BytesIO(document.build([segment.text.replace("The", "Le") for segment in document.segments])))
        assert "secret" not in "".join(segment.text for segment in document.segments)
        assert built.read(entry).decode().count("secret") <= declared.count("secret")
