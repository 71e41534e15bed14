"""What is structure in a document stays as it is: every trap with what must come out, by a translator of four words."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import InputError
from llmkit.translation.documents import docx as word
from llmkit.translation.documents import gettext, html, markdown, subtitles
from llmkit.translation.documents.base import Document
from llmkit.translation.documents.formats import open_document
from llmkit.translation.documents.verification import verify
from llmkit.translation.markup import strip
from llmkit.translation.pieces import split

WORDS = {"house": "maison", "The": "Le", "cat": "chat", "tired": "fatigué", "station": "gare", "My": "Ma"}


def french(text: str) -> str:
    return re.sub(r"\w+", lambda match: WORDS.get(match.group(), match.group()), text)


def translated(document: Document) -> str:
    """The document in the words of the small dictionary, as the command puts it together."""
    out = []
    for segment in document.segments:
        marked = strip(segment.text, document.keep)
        pieces = split(marked.plain, "en", lambda _: True)
        text = marked.joined(pieces, [french(piece.text) for piece in pieces.pieces])
        assert document.keep.problem(segment.text, text) is None
        out.append(text)
    return document.build(out).decode()


MARKDOWN = {
    "alert": ("> [!NOTE]\n> The house is red.\n> I like it.\n", "> [!NOTE]\n> Le maison is red.\n> I like it.\n"),
    "container": (":::tip\nThe house is red.\n:::\n", ":::tip\nLe maison is red.\n:::\n"),
    "container with a title": (":::tip My title\n\nThe house.\n\n:::\n", ":::tip Ma title\n\nLe maison.\n\n:::\n"),
    "container with a title in brackets": (":::tip[My title]\n\nThe house.\n\n:::\n", ":::tip[Ma title]\n\nLe maison.\n\n:::\n"),
    "admonition": ('!!! note "My house"\n    The house.\n    I like it.\n', '!!! note "Ma maison"\n    Le maison.\n    I like it.\n'),
    "footnotes": (
        "I like the house[^1] and it[^blue].\n\n[^1]: The house.\n[^blue]: The cat.\n",
        "I like the maison[^1] and it[^blue].\n\n[^1]: Le maison.\n[^blue]: Le chat.\n",
    ),
    "reference links": (
        "Where is [the station]? I like [the red house][].\n\n[the station]: https://a.b/a\n[the red house]: https://a.b/b\n",
        "Where is [the gare][the station]? I like [the red maison][the red house].\n\n"
        "[the station]: https://a.b/a\n[the red house]: https://a.b/b\n",
    ),
    "tasks": ("- [x] I am tired.\n- [X] A cat.\n- [ ] A house.\n", "- [x] I am fatigué.\n- [X] A chat.\n- [ ] A maison.\n"),
    "TOML": ('+++\ntitle = "My house"\ndraft = false\n+++\n\nThe house.\n', '+++\ntitle = "Ma maison"\ndraft = false\n+++\n\nLe maison.\n'),
    "JSON": ('{\n  "title": "My house"\n}\n\nThe house.\n', '{\n  "title": "Ma maison"\n}\n\nLe maison.\n'),
    "heading id": ("## My house {#my-house}\n", "## Ma maison {#my-house}\n"),
    "attributes": ("The house.\n{: .note .big }\n\n## A cat\n{: .no_toc }\n", "Le maison.\n{: .note .big }\n\n## A chat\n{: .no_toc }\n"),
    "math": (
        "The value $x_i^2 + y_i$ is big.\n\n$$\na_{n+1} = \\frac{b}{c}\n$$\n",
        "Le value $x_i^2 + y_i$ is big.\n\n$$\na_{n+1} = \\frac{b}{c}\n$$\n",
    ),
    "emoji": ("I am tired :tired_face: and you :+1: today.\n", "I am fatigué :tired_face: and you :+1: today.\n"),
    "JSX": (
        "import House from '@theme/house';\n\nexport const house = 1;\n\nThe house is {props.cat} today.\n",
        "import House from '@theme/house';\n\nexport const house = 1;\n\nLe maison is {props.cat} today.\n",
    ),
    "templates": (
        "Welcome to {{ site.house }}, the house.\n\n{% include cat.html %}\n\n{{< house >}}\nThe cat.\n{{< /house >}}\n",
        "Welcome to {{ site.house }}, the maison.\n\n{% include cat.html %}\n\n{{< house >}}\nLe chat.\n{{< /house >}}\n",
    ),
    "escapes": ("I don\\'t see the cat\\. It costs 5\\$ in my\\_shop\\.\n", "I don\\'t see the chat\\. It costs 5\\$ in my\\_shop\\.\n"),
    "entities": ("The cat &amp; the dog drink caf&eacute; 2024.\n", "Le chat &amp; the dog drink café 2024.\n"),
    "targets": (
        'See [the cat](https://a.b/a_(b)) and [the house](<https://a.b/a b> "The title").\n',
        'See [the chat](https://a.b/a_(b)) and [the maison](<https://a.b/a b> "Le title").\n',
    ),
    "HTML block": (
        '<p align="center">\n  <b>My house.</b><br>\n  <img src="a.png" alt="A cat">\n</p>\n',
        '<p align="center">\n  <b>Ma maison.</b><br>\n  <img src="a.png" alt="A chat">\n</p>\n',
    ),
    "definitions": ("Apple\n: The house.\n: The cat.\n\n[TOC]\n", "Apple\n: Le maison.\n: Le chat.\n\n[TOC]\n"),
}
HTML = {
    "not translated, without an end tag": (
        '<p>The house.</p>\n<img src="a" translate="no">\n<ul><li translate=no>The cat<li>The house</ul><p>A <b translate=no>house</b> cat',
        '<p>Le maison.</p>\n<img src="a" translate="no">\n<ul><li translate=no>The cat<li>Le maison</ul><p>A <b translate=no>house</b> chat',  # noqa: E501
    ),
    "class": ('<p class="a notranslate">The house.</p><p>The cat', '<p class="a notranslate">The house.</p><p>Le chat'),
    "templates": (
        "<p>Hello {{ user.cat }}, {% if a %}the house is red{% endif %}.</p>",
        "<p>Hello {{ user.cat }}, {% if a %}the maison is red{% endif %}.</p>",
    ),
    "attributes": (
        '<meta name="description" content="A house."><img alt="A &quot;cat&quot;"><a href="house" title="The cat">b</a><input placeholder=cat>',  # noqa: E501
        '<meta name="description" content="A maison."><img alt="A &quot;chat&quot;"><a href="house" title="Le chat">b</a><input placeholder=chat>',  # noqa: E501
    ),
    "code": (
        "<p>I like <code>my house</code> and <kbd>cat</kbd> is <!-- house --> here, cat.</p>",
        "<p>I like <code>my house</code> and <kbd>cat</kbd> is <!-- house --> here, chat.</p>",
    ),
    "never ends": ("<p>The house.</p><![<![", "<p>Le maison.</p><![<!["),
    "references": ("<p>The cat &amp; the dog &lt; caf&eacute;</p>", "<p>Le chat &amp; the dog &lt; café</p>"),
}
CUE = "1\n00:00:01,000 --> 00:00:04,000\n"
SUBTITLES = {
    "no blank line": (
        f"{CUE}The house.\n2\n00:00:05,000 --> 00:00:06,000\nThe cat.\n",
        f"{CUE}Le maison.\n2\n00:00:05,000 --> 00:00:06,000\nLe chat.\n",
    ),
    "blank line inside": (f"{CUE}The house.\n\nThe cat.\n\n2\n00:00:05,000 --> 00:00:06,000\nNo.\n",
                          f"{CUE}Le maison.\n\nLe chat.\n\n2\n00:00:05,000 --> 00:00:06,000\nNo.\n"),
    "speakers on three lines": (f"{CUE}- The house?\nI like it.\n- The cat.\n", f"{CUE}- Le maison? I like it.\n- Le chat.\n"),
    "dashes in tags": (f"{CUE}<i>- The house?</i>\n<i>- The cat.</i>\n", f"{CUE}<i>- Le maison?</i>\n<i>- Le chat.</i>\n"),
    "voices": (
        "WEBVTT\n\n00:05.000 --> 00:06.000\n<v Man>The house?\n<v Woman>The cat.\n",
        "WEBVTT\n\n00:05.000 --> 00:06.000\n<v Man>Le maison?\n<v Woman>Le chat.\n",
    ),
    "references": (
        "WEBVTT\n\n00:05.000 --> 00:06.000\nThe cat &amp; the dog &lt;now&gt;.\n",
        "WEBVTT\n\n00:05.000 --> 00:06.000\nLe chat &amp; the dog &lt;now&gt;.\n",
    ),
    "wrapped tags": (
        f'{CUE}I am here and I want to go to the <font color="red" size="20">house</font> now.\n',
        f'{CUE}I am here and I want to go to\nthe <font color="red" size="20">maison</font> now.\n',
    ),
}  # fmt: skip
HEAD = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
#: Flags and text of an entry, and its translation.
ENTRIES = {
    "printf": ("#, c-format\n", "The cat %1$s and %2$s %lu 100%% red %5.2f %*d.", "Le chat %1$s and %2$s %lu 100%% red %5.2f %*d."),
    "braces": (
        "#, python-brace-format\n",
        "The cat {user.cat} {n:.2f} {0!r} {a[0]} {x!s:>10} {{.",
        "Le chat {user.cat} {n:.2f} {0!r} {a[0]} {x!s:>10} {{.",
    ),
    "Qt": ("#, qt-format\n", "The cat %1 has %n and %L2 dogs.", "Le chat %1 has %n and %L2 dogs."),
    "no flag": ("", "100% of the house %s %(cat)s %@ ${cat} %1$s", "100% of the maison %s %(cat)s %@ ${cat} %1$s"),
    "tags": ("", "A <a href='%s'>cat</a> in the <b>red</b> house.<br/>", "A <a href='%s'>chat</a> in the <b>red</b> maison.<br/>"),
    "entities": ("", "The house is %s &mdash; &copy; cat.", "Le maison is %s &mdash; &copy; chat."),
    "lengths and positions": ("#, c-format\n", "The cat %1$*3$d %<PRIu64> %I64d %.f.", "Le chat %1$*3$d %<PRIu64> %I64d %.f."),
    "names with spaces": ("#, python-format\n", "The cat %(my house)s %(a.b)d.", "Le chat %(my house)s %(a.b)d."),
    "Java": ("#, java-printf-format\n", "The cat %,d on %1$tY %b %h %n.", "Le chat %,d on %1$tY %b %h %n."),
    "Go": ("#, go-format\n", "The cat %[1]s %+v %T %q.", "Le chat %[1]s %+v %T %q."),
    "Scheme": ("#, scheme-format\n", "The cat ~a ~s ~5,2f.~%", "Le chat ~a ~s ~5,2f.~%"),
    "gfortran": ("#, gfc-internal-format\n", "The cat %qs at %L is %C %<x%>.", "Le chat %qs at %L is %C %<x%>."),
    "other letters": ("#, lua-format\n", "The cat %q.", "Le chat %q."),
    "accelerator": ("", "_Open the house", "_Open the maison"),
    "accelerator of LibreOffice": ("", "~Open the house", "~Open the maison"),
    "accelerator inside a word": ("", "Cu_t the house", "Cut _the maison"),
    "accelerator inside the only word": ("", "Th&e House", "&Le House"),
    "accelerator beside a placeholder": ("", "My %hd &house", "&Ma %hd maison"),
    "lost accelerator": ("", "&The house", "&Le maison"),
    "no accelerator": ("", "cat & my_house", "chat & my_house"),
}


@pytest.mark.parametrize("trap", MARKDOWN)
def test_markdown_keeps_its_structure(trap: str) -> None:
    source, expected = MARKDOWN[trap]
    assert translated(markdown.parse(source.encode(), "a.md")) == expected


@pytest.mark.parametrize("trap", HTML)
def test_html_keeps_its_structure(trap: str) -> None:
    source, expected = HTML[trap]
    assert translated(html.parse(source.encode(), "a.html")) == expected


@pytest.mark.parametrize("trap", SUBTITLES)
def test_subtitles_keep_their_structure(trap: str) -> None:
    source, expected = SUBTITLES[trap]
    assert translated(subtitles.parse(source.encode(), "a.srt")) == expected


@pytest.mark.parametrize("trap", ENTRIES)
def test_placeholders_of_catalogs_stay(trap: str) -> None:
    flags, source, expected = ENTRIES[trap]
    entry = f'{HEAD}{flags}msgid "{source}"\nmsgstr '
    assert translated(gettext.parse(f'{entry}""\n'.encode(), "a.po")) == f'{entry}"{expected}"\n'


@pytest.mark.parametrize("sources", [MARKDOWN, HTML, SUBTITLES], ids=["md", "html", "srt"])
def test_left_as_it_is_a_document_is_the_same_bytes(sources: dict[str, tuple[str, str]]) -> None:
    parse: Any = markdown.parse if sources is MARKDOWN else html.parse if sources is HTML else subtitles.parse
    for source, _ in sources.values():
        document = parse(source.encode(), "a")
        assert document.build([segment.text for segment in document.segments]).decode() == source
        assert document.build([None for _ in document.segments]).decode() == source


@pytest.mark.parametrize("comment", ["# a\f", "# a\v", "# a\u2028", "# a\x85"])
def test_each_translation_is_in_its_own_entry_whatever_comments_hold(comment: str) -> None:
    source = f'{comment}\n{comment}\n{HEAD}msgid "The house"\nmsgstr ""\n\n  msgid "The cat"\n  msgstr ""\n""\n'
    built = translated(gettext.parse(source.encode(), "a.po"))
    assert built == f'{comment}\n{comment}\n{HEAD}msgid "The house"\nmsgstr "Le maison"\n\n  msgid "The cat"\n  msgstr "Le chat"\n'


TEMPLATE = (
    '#, fuzzy\nmsgid ""\nmsgstr ""\n"Language: \\n"\n"Content-Type: text/plain; charset=CHARSET\\n"\n'
    '"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"\n\n#, c-format\nmsgid "%d cat"\nmsgid_plural "%d cats"\nmsgstr[0] ""\nmsgstr[1] ""\n'  # noqa: E501
)


PLURAL = 'msgid "A cat"\nmsgid_plural "The cats"\nmsgstr[0] "{}"\nmsgstr[1] "{}"\n'
FIELDS = ("Language: fr", "Content-Type: text/plain; charset=UTF-8", "Plural-Forms: nplurals=2; plural=(n > 1);")
HEADERS = {
    "ASCII and no language": '#, fuzzy\nmsgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ASCII\\n"\n\n',
    "one string": 'msgid ""\nmsgstr "Language: en\\nContent-Type: text/plain; charset=us-ascii\\n"\n\n',
    "fields over lines": 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; "\n"charset=CHARSET\\n"\n"Plural-Forms: nplurals=INTEGER; "\n"plural=EXPRESSION;\\n"\n\n',  # noqa: E501
    "none": "",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_gets_language_charset_and_plural_forms_however_it_is_written(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(HEADERS[header] + PLURAL.format("", ""))
    document, _ = open_document(str(tmp_path / "a.po"), "fr")
    made = verify(document, ["Un été", "Les étés"])
    head, _, entry = made.data.decode().partition("\n\n")
    assert made.left == ()
    assert entry == PLURAL.format("Un été", "Les étés")
    assert {f'"{field}\\n"' for field in FIELDS} <= set(head.splitlines())
    assert "fuzzy" not in head


def test_a_catalog_in_another_charset_names_the_one_that_is_written(tmp_path: Path) -> None:
    source = HEAD.replace("UTF-8", "ISO-8859-1") + 'msgid "A cat"\nmsgstr "\xe9"\n\nmsgid "The cat"\nmsgstr ""\n'
    (tmp_path / "a.po").write_bytes(source.encode("latin-1"))
    document, _ = open_document(str(tmp_path / "a.po"), "fr", "latin-1")
    built = document.build(["\xe9t\xe9"]).decode("utf-8")
    assert built == source.replace("ISO-8859-1", "UTF-8").replace('msgid "The cat"\nmsgstr ""', 'msgid "The cat"\nmsgstr "\xe9t\xe9"')


@pytest.mark.parametrize(("target", "forms"), [("fr", 2), ("pl", 3), ("ja", 1)])
def test_the_header_of_a_template_becomes_that_of_the_language(tmp_path: Path, target: str, forms: int) -> None:
    (tmp_path / "a.pot").write_text(TEMPLATE)
    document, _ = open_document(str(tmp_path / "a.pot"), target)
    built = document.build(["%d chats"] * len(document.segments)).decode()
    assert f'"Language: {target}\\n"' in built
    assert "charset=UTF-8" in built
    assert f"nplurals={forms};" in built
    assert "fuzzy" not in built
    assert built.count('"%d chats"') == forms
    assert f"msgstr[{forms}]" not in built


def test_a_translation_that_breaks_its_structure_is_told() -> None:
    document = markdown.parse(b"I **like** [it](u).\n\nSee it.\n", "a.md")
    assert document.keep.problem("I **like** [it](u).", "Je **aime** [le](u).") is None
    assert document.keep.problem("I **like** [it](u).", "Je **aime [le](u).") is not None
    assert (
        document.build(["Je **aime** [le](u).", "# *Voir* [x] `y`"]).decode() == "Je **aime** [le](u).\n\n\\# \\*Voir\\* \\[x\\] \\`y\\`\n"
    )


def test_what_a_charset_lacks_is_written_as_a_reference() -> None:
    page = b'<meta charset="iso-8859-1"><p>summer \xe9</p>'
    document = html.parse(page, "a.html")
    assert [segment.text for segment in document.segments] == ["summer é"]
    assert document.build(["été œ"]) == b'<meta charset="iso-8859-1"><p>\xe9t\xe9 &#339;</p>'


def test_a_page_names_its_new_language() -> None:
    assert html.parse(b'<html class="a" lang="en"><p>a', "a.html", "fr").build(["b"]) == b'<html class="a" lang="fr"><p>b'


@pytest.mark.parametrize(("encoding", "data"), [("latin-1", "é".encode("latin-1")), ("utf-8", "é".encode("utf-16")[2:])])
def test_documents_are_read_in_their_encoding(tmp_path: Path, encoding: str, data: bytes) -> None:
    text = f"{CUE}The caf"
    head = text.encode() if encoding == "latin-1" else text.encode("utf-16")
    (tmp_path / "a.srt").write_bytes(head + data)
    document, _ = open_document(str(tmp_path / "a.srt"), encoding=encoding)
    assert [segment.text for segment in document.segments] == ["The café"]
    (tmp_path / "b.srt").write_bytes(text.encode() + b"\xff")
    with pytest.raises(InputError, match="cannot be read as ascii"):
        open_document(str(tmp_path / "b.srt"), encoding="ascii")


def letter() -> bytes:
    import docx
    from docx.opc.constants import RELATIONSHIP_TYPE
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    document = docx.Document()
    p = document.add_paragraph("I like ")
    link = document.part.relate_to("https://example.org/", RELATIONSHIP_TYPE.HYPERLINK, is_external=True)
    p._p.append(parse_xml(f'<w:hyperlink {nsdecls("w", "r")} r:id="{link}"><w:r><w:t>the house</w:t></w:r></w:hyperlink>'))
    p.add_run(" very much.")
    document.add_paragraph("Name:\tThe cat.")
    p = document.add_paragraph("A")
    p._p.append(parse_xml(f'<w:ins {nsdecls("w")} w:id="1" w:author="a"><w:r><w:lastRenderedPageBreak/><w:t> cat.</w:t></w:r></w:ins>'))
    p._p.append(parse_xml(f'<w:del {nsdecls("w")} w:id="2" w:author="a"><w:r><w:delText>gone</w:delText></w:r></w:del>'))
    p = document.add_paragraph()
    p.add_run("H").bold = True
    p.add_run("ello <1>.")
    document.sections[0].different_first_page_header_footer = True
    document.sections[0].first_page_header.paragraphs[0].text = "The station"
    document.core_properties.title = "My title"
    document.core_properties.comments = ""
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_all_text_of_a_word_document_is_read_in_whole_sentences_and_goes_back_into_its_places() -> None:
    data = letter()
    document = word.parse(data, "a.docx")
    plain = [strip(segment.text, document.keep).plain for segment in document.segments]
    assert plain == ["I like the house very much.", "Name:", "The cat.", "A cat.", "Hello <1>.", "The station", "My title"]
    assert document.build([segment.text for segment in document.segments]) == data
    changed = [re.sub("house", "maison", segment.text).replace("cat", "chat") for segment in document.segments]
    built = document.build(changed)
    import docx

    after = docx.Document(io.BytesIO(built))
    assert after.paragraphs[0].hyperlinks[0].text == "the maison"
    assert after.paragraphs[1].text == "Name:\tThe chat."
    assert [(run.text, run.bold) for run in after.paragraphs[3].runs] == [("H", True), ("ello <1>.", None)]
    assert word.parse(data, "a.docx").build(changed) == built


TOO_MUCH: dict[str, tuple[Callable[..., Any], str]] = {
    "tags": (html.parse, "<p>Hello " + "<b>" * 20_000 + "world" + "</b>" * 20_000 + "</p>"),
    "comments": (html.parse, "<p>a</p>" + "<!--" * 20_000),
    "open tags": (html.parse, "<p>a</p>" + "<a " * 20_000),
    "spaces": (html.parse, "<p>a" + " " * 100_000 + "b</p>"),
    "images": (markdown.parse, "a" + "![" * 20_000),
    "braces": (markdown.parse, "a " + "{{ " * 20_000),
    "cue": (subtitles.parse, CUE + "a" + "<i>" * 20_000 + " " * 50_000 + "b"),
    "entries": (gettext.parse, HEAD + "".join(f'msgid "hello {n}"\nmsgstr ""\n\n' for n in range(20_000))),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_hostile_documents_are_read_and_come_back(kind: str) -> None:
    parse: Any
    parse, source = TOO_MUCH[kind]
    document: Any = parse(source.encode(), "a")
    assert document.segments
    strip(document.segments[0].text, document.keep)
    assert document.build([None for _ in document.segments]).decode() == source
