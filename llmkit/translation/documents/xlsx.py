"""Excel (.xlsx): the strings of cells, results of formulas, comments, shapes and charts, headers and footers, messages of cells.

Numbers, formulas and sheets' names stay.

A string that formulas, filters, lists of allowed values or tables' columns name stays, too: Excel would compute something else,
or call the file damaged. ECMA-376, part 1, 18.4 (shared strings): https://ecma-international.org/publications-and-standards/standards/ecma-376/.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from llmkit.translation.documents import archive, drawing, messages, xml
from llmkit.translation.documents.archive import ArchiveDocument, Entries, Part
from llmkit.translation.documents.edits import Lines, Slot, Unit, slotted
from llmkit.translation.placeholders import IN_PROSE, TAGS_IN_PROSE

_FORMULA = re.compile(r"<(?:\w+:)?(?:f|formula\d?)\b[^>/]*>([^<]*)<")
_LITERAL = re.compile(r'"((?:[^"]|"")*)"')
_NAMED = re.compile(r'<(?:\w+:)?(?:tableColumn|cacheField|filter|customFilter)\b[^>]*?\s(?:name|val)="([^"]*)"')
#: Excel's _x000D_ for characters that XML lacks.
_MARKS = re.compile(rf"<\d+>|{TAGS_IN_PROSE}|_x[0-9A-Fa-f]{{4}}_|{IN_PROSE.pattern}")

#: What a cell says when it is chosen or filled in wrongly, and a link when it is pointed at; characters that Excel takes.
_SAID = {"dataValidation": {"promptTitle": "32", "prompt": "255", "errorTitle": "32", "error": "225"}, "hyperlink": {"tooltip": "255"}}
#: Headers and footers, whose text is cut in three by &L, &C and &R; their codes: &P, &"Arial,Bold", &12, &KFF0000.
_HEADER = re.compile(r"<(?:\w+:)?(?:odd|even|first)(?:Header|Footer)\b[^<>]*(?<!/)>([^<]+)<")
#: A text that stands in its cell: mostly what a formula gave.
_RESULT = re.compile(
    r"""<(?:\w+:)?c\b[^<>]{0,200}?\st=["']str["'][^<>]{0,200}>\s*(?P<formula><(?:\w+:)?f\b(?:[^<>]*/>|[^<>]*>[^<]*</(?:\w+:)?f>)\s*)?"""
    r"<(?:\w+:)?v\b[^<>]{0,50}>(?P<text>[^<]+)</"
)
_SECTION = re.compile(r"&amp;[LCR]")
_CODES = re.compile(rf'&(?:[A-Z&+-]|"[^"]*"|\d+|K(?:[0-9A-Fa-f]{{6}}|\d\d[+-]\d+))|{IN_PROSE.pattern}')
_LONGEST_HEADER = 255


def parse(data: bytes, name: str, target: str | None = None) -> ArchiveDocument:
    """target: with one, formulas are computed again when the file is opened, from the strings as they are then.

    Raises InputError for a file that is not a workbook or unpacks to too much.
    """
    entries = archive.opened(data, name, "an Excel workbook", "xl/workbook.xml")
    return ArchiveDocument(entries, tuple(_parts(entries, target)), archive.compare)


def _parts(entries: Entries, target: str | None) -> Iterator[tuple[str, Part]]:
    named = _named(entries)
    sheets = entries.matching(r"xl/worksheets/sheet\d+\.xml")
    if target is not None and any(result["formula"] for entry in sheets for result in _RESULT.finditer(entries.source(entry)[0])):
        source, encoding = entries.source("xl/workbook.xml")
        yield "xl/workbook.xml", archive.part(_computed_again(source), encoding, ())
    for entry in entries.matching(r"xl/(?:sharedStrings|worksheets/sheet\d+|comments\d*|comments/comment\d+)\.xml"):
        source, encoding = entries.source(entry)
        strings = _strings(source, frozenset() if "comment" in entry else named)
        yield entry, archive.part(source, encoding, [*strings, *_results(source, named), *_headers(source), *_messages(source)])
    for entry in entries.matching(r"xl/threadedComments/threadedComment\d+\.xml"):
        source, encoding = entries.source(entry)
        # a person who is mentioned is found by a place in the text
        yield entry, archive.part(source, encoding, archive.elements(source, frozenset(("text",))) if "<mention " not in source else ())
    for entry in entries.matching(r"xl/(?:drawings/drawing|charts/chart)\d+\.xml"):
        source, encoding = entries.source(entry)
        yield entry, archive.part(source, encoding, drawing.units(source))
    yield from archive.properties(entries)


def _named(entries: Entries) -> frozenset[str]:
    """The strings that something else in the workbook names."""
    out: set[str] = set()
    for entry in entries.matching(r"xl/(?:workbook|worksheets/sheet\d+|tables/table\d+|pivotCache/pivotCacheDefinition\d+)\.xml"):
        source, _ = entries.source(entry)
        out |= {html.unescape(match[1]) for match in _NAMED.finditer(source)}
        for formula in _FORMULA.finditer(source):
            for literal in _LITERAL.finditer(html.unescape(formula[1])):
                text = literal[1].replace('""', '"')
                out |= {text, *(part.strip() for part in text.split(","))}
    return frozenset(out)


def _strings(source: str, named: frozenset[str]) -> Iterator[Unit | None]:
    """A unit from each string; phonetic guides stay."""
    lines = Lines(source)
    slots: list[Slot] = []
    inside = ""
    format, before, properties, guide = "", None, 0, False  # type: str, str | None, int, bool
    tag: xml.Token | None = None
    for token in xml.tokens(source):
        if (text := xml.words(source, token)) is not None:
            if inside and tag is not None and not guide:
                place = (tag.begin if tag.end == token.begin else token.begin, token.end)
                if format == before:
                    slots[-1] = Slot(slots[-1].text + text, (*slots[-1].places, place))
                else:
                    slots.append(Slot(text, (place,)))
                before = format
            continue
        if token.name in ("si", "is", "text") and token.kind != "empty":
            if token.kind == "end" and slots and "".join(slot.text for slot in slots) not in named:
                yield slotted(slots, lines.at(slots[0].places[0][0]), lambda text, a, b: _element(source, text, a, b), _MARKS)
            inside, slots, before = token.name if token.kind == "start" else "", [], None
        elif token.name == "rPh":
            guide = token.kind == "start"
        elif token.name == "r":
            format = ""
        elif token.name == "rPr":
            properties = properties if token.kind == "end" else token.begin
            format = source[properties : token.end] if token.kind != "start" else format
        elif token.name == "t":
            tag = token if token.kind == "start" else None


def _results(source: str, named: frozenset[str]) -> Iterator[Unit | None]:
    """A unit from each text that a cell holds itself: what is shown until its formula is computed again."""
    lines = Lines(source)
    for result in _RESULT.finditer(source):
        text = xml.unescape(result["text"])
        if text not in named and messages.is_text(text):
            yield slotted([Slot(text, (result.span("text"),))], lines.at(result.start("text")), lambda new, *_: xml.escape(new), _MARKS)


def _computed_again(source: str) -> str:
    """A workbook whose formulas are computed when it is opened."""
    if tag := re.search(r"<(?:\w+:)?calcPr\b[^<>]*?(?=\s*/?>)", source):
        kept = re.sub(r'\sfullCalcOnLoad="[^"]*"', "", tag.group())
        return f'{source[: tag.start()]}{kept} fullCalcOnLoad="1"{source[tag.end() :]}'
    # where the schema wants it: behind the sheets, names of functions, references, names
    after = list(re.finditer(r"</(?P<prefix>(?:\w+:)?)(?:sheets|functionGroups|externalReferences|definedNames)>", source))
    if not after:
        return source
    at = after[-1].end()
    return f'{source[:at]}<{after[-1]["prefix"]}calcPr fullCalcOnLoad="1"/>{source[at:]}'


def _headers(source: str) -> Iterator[Unit | None]:
    lines = Lines(source)
    for header in _HEADER.finditer(source):
        at, end = header.span(1)
        for begin, after in [*(match.span() for match in _SECTION.finditer(source, at, end)), (end, end)]:
            text = xml.unescape(source[at:begin])
            share = str(_LONGEST_HEADER * len(text) // len(xml.unescape(header[1])))
            yield slotted([Slot(text, ((at, begin),))], lines.at(at), lambda new, *_: xml.escape(new), _CODES, share)
            at = after


def _messages(source: str) -> Iterator[Unit | None]:
    lines = Lines(source)
    for token in xml.tokens(source):
        limits = _SAID.get(token.name, {}) if token.kind != "end" else {}
        for name, place in xml.attributes(source, token).items() if limits else ():
            if name in limits and messages.is_text(text := html.unescape(source[slice(*place)])):
                slot = Slot(text, (place,))
                yield slotted([slot], lines.at(place[0]), lambda new, *_: xml.escape(new, quote=True), _MARKS, limits[name])


def _element(source: str, text: str, begin: int, end: int) -> str:
    """The element <t> up to its end tag, which keeps space at the ends of its text only where it says so; or text further inside."""
    if not source.startswith("<", begin) or source.startswith("<![", begin):
        return xml.escape(text)
    opening = source[begin : source.index(">", begin, end) + 1]
    if text != text.strip() and "xml:space" not in opening:
        opening = f'{opening[:-1]} xml:space="preserve">'
    return opening + xml.escape(text)
