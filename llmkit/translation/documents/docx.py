"""Word documents (.docx): all text that people read, in paragraphs of every part; runs, styles and everything else stay.

Read and written as XML by lxml: a text element gets another text, no element is moved. A paragraph is a segment, also over
changes of format, links, insertions and fields, which are marks in it; tabs and line breaks cut it. Hidden text stays.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmkit.errors import InputError, UnavailableError, one_line
from llmkit.translation.documents import archive, messages, office_language
from llmkit.translation.documents.base import Marks, Segment, has_letters, joined, parts, with_marks
from llmkit.translation.placeholders import IN_PROSE, TAGS_IN_PROSE

_DOCUMENT = "word/document.xml"
_PARTS = re.compile(
    r"word/(?:document|(?:header|footer)\d*|footnotes|endnotes|comments|charts/chart\w*?\d*|diagrams/(?:data|drawing)\d*)\.xml"
)
_PROPERTIES = "docProps/core.xml"
_STYLES = "word/styles.xml"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
#: Elements that hold no text of the sentence: deleted text, field codes, properties, phonetic guides.
_LEFT_OUT = frozenset(("del", "moveFrom", "delText", "pPr", "rPr", "sdtPr", "sdtEndPr", "rt", "fldData"))
_CUTS = frozenset(("tab", "br", "cr", "ptab"))
#: Elements whose text is words: of sentences, of properties.
_WORDS = frozenset(("t", "title", "subject", "description"))
#: Attributes that people read: of pictures, tables, lists to choose from.
_READ = {
    "docPr": ("descr", "title"), "cNvPr": ("descr", "title"), "shape": ("alt",), "rect": ("alt",), "tblCaption": ("val",),
    "tblDescription": ("val",), "listItem": ("displayText",),
}  # fmt: skip
#: Fields whose result is another's: a letter's recipient, a file.
_PUT_IN = re.compile(r"\s*(?:MERGEFIELD|ADDRESSBLOCK|GREETINGLINE|FILENAME|AUTHOR|LASTSAVEDBY|USER\w+)\b")
_HYPHEN = "noBreakHyphen"
_OFF = frozenset(("0", "false", "off"))
_PROSE = re.compile(rf"{TAGS_IN_PROSE}|{IN_PROSE.pattern}")
_SEPARATOR = re.compile(r"<\d+>")
#: What Word notes for itself in a run's properties, and between the texts of a sentence.
_NOTED = frozenset(("lang", "noProof", "altLang", "dirty", "err", "smtClean"))
_UNSEEN = frozenset(("lastRenderedPageBreak", "proofErr", "rPr", "softHyphen"))


@dataclass(frozen=True)
class _Slot:
    """Neighboring text elements of one format: the first gets the text, the others none.

    places: where their text is, as an element and its attribute (see `_get`): a comment has text of the sentence behind it.
    texts: as they were.
    """

    places: tuple[tuple[Any, str], ...]
    texts: tuple[str | None, ...]

    @property
    def text(self) -> str:
        return "".join(text or "" for text in self.texts)

    def write(self, text: str) -> None:
        first = next(n for n, (_, attribute) in enumerate(self.places) if attribute != _HYPHEN)
        new: list[str | None] = ["" for _ in self.places]
        new[first] = self._unbroken(text)
        for (element, attribute), part in zip(self.places, self.texts if text == self.text else new, strict=True):
            _set(element, attribute, part)
        if text != text.strip() and self.places[first][1] == "text" and "wordprocessingml" in self.places[first][0].tag:
            self.places[first][0].set(_SPACE, "preserve")

    def _unbroken(self, text: str) -> str:
        """A translation in which the words that had a hyphen that does not break have one."""
        at = 0
        for (_, attribute), part in zip(self.places, self.texts, strict=True):
            around = (re.search(r"\w*\Z", self.text[:at]), re.match(r"\w*", self.text[at + 1 :])) if attribute == _HYPHEN else None
            if around and around[0] and around[1]:
                before, after = around[0].group(), around[1].group()
                text = re.sub(rf"(?<!\w){before}-{after}(?!\w)", f"{before}\u2011{after}", text)
            at += len(part or "")
        return text


def _slot(elements: Sequence[Any]) -> _Slot:
    places = tuple(place for element in elements for place in _places(element))
    return _Slot(places, tuple(_get(element, attribute) for element, attribute in places))


def _places(element: Any) -> Iterator[tuple[Any, str]]:
    """Where the text of an element is; what is behind an entity of the file's own stays."""
    from lxml import etree

    if _local(element) == _HYPHEN:
        yield element, _HYPHEN
        return
    yield element, "text"
    for child in element:
        if child.tag is etree.Entity:
            return
        yield child, "tail"


def _get(element: Any, attribute: str) -> str | None:
    """A text of an element: `text` and `tail` are lxml's, "noBreakHyphen" is the element itself, others are XML's attributes."""
    if attribute == _HYPHEN:
        return "-"
    text: str | None = getattr(element, attribute) if attribute in ("text", "tail") else element.get(attribute)
    return text


def _set(element: Any, attribute: str, text: str | None) -> None:
    """The same, written. A hyphen that does not break becomes a text, which the text before it holds, and a hyphen again."""
    if attribute == _HYPHEN:
        element.tag = element.tag.rpartition("}")[0] + "}" + ("t" if text == "" else _HYPHEN)
    elif attribute in ("text", "tail"):
        setattr(element, attribute, text)
    else:
        element.set(attribute, text)


class WordDocument:
    """roots: the parts that hold text, parsed. slots: those of each segment."""

    def __init__(self, data: bytes, roots: dict[str, Any]) -> None:
        self._data, self._roots = data, roots
        segments = [(slots, segment) for slots in _slots(roots) if (segment := _segment(slots)) is not None]
        self._slots = [slots for slots, _ in segments]
        self.segments = tuple(Segment(s.text, s.raw, number, s.marks) for number, (_, s) in enumerate(segments, 1))

    @cached_property
    def keep(self) -> Marks:
        """The marks of the paragraphs' runs."""
        return Marks(self.segments)

    def build(self, translations: Sequence[str | None]) -> bytes:
        """The same bytes each time: entries keep their order and dates; parts without a change keep their bytes."""
        changed = False
        for slots, segment, text in zip(self._slots, self.segments, translations, strict=True):
            pieces = None if text is None or text == segment.text else parts(text, segment)
            written = [slot.text for slot in slots] if pieces is None else _by_slot(pieces, len(slots))
            for slot, piece in zip(slots, written, strict=True):
                slot.write(piece)
            changed = changed or pieces is not None
        return self._written() if changed else self._data

    def skeleton(self, data: bytes) -> object:
        """All entries of the archive; of those that hold text the elements in order, and the placeholders in the words."""
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            others = [(info.filename, info.CRC) for info in packed.infolist() if info.filename not in self._roots]
        again = parse(data, "")
        return others, [[list(_shape(root)) for root in again._roots.values()], [_placeholders(s) for s in again.segments]]

    def _written(self) -> bytes:
        from lxml import etree

        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self._data)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
            for info in before.infolist():
                root = self._roots.get(info.filename)
                content = (
                    before.read(info) if root is None else etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)
                )
                fixed = zipfile.ZipInfo(info.filename, date_time=(1980, 1, 1, 0, 0, 0))
                fixed.compress_type, fixed.external_attr = info.compress_type, info.external_attr
                after.writestr(fixed, content)
        return out.getvalue()


def parse(data: bytes, name: str, target: str | None = None) -> WordDocument:
    """Raises InputError for a file that is not a Word document, is encrypted or unpacks to too much, UnavailableError without lxml."""
    try:
        from lxml import etree
    except ImportError as exc:
        raise UnavailableError("translating .docx files needs lxml", hint="pip install 'llmkit[documents]'") from exc
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    entries = archive.opened(data, name, "a Word document", _DOCUMENT)
    names = sorted((n for n in entries.names if _PARTS.fullmatch(n)), key=lambda n: (n != _DOCUMENT, n))
    names += [_STYLES] if _STYLES in entries.names else []
    names += [_PROPERTIES] if _PROPERTIES in entries.names else []
    try:
        roots = {n: etree.fromstring(entries.read(n), parser) for n in names}
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise InputError(f"is not a Word document: {one_line(exc)}", path=name) from exc
    if target is not None:
        _speak(roots, target)
    return WordDocument(data, roots)


def _speak(roots: dict[str, Any], target: str) -> None:
    """Sets the language in which Word checks the text: that of the document and of what is in it, other languages' apart."""
    named = office_language.named(target)
    kind = {"asian": "eastAsia", "complex": "bidi", "western": "val"}[office_language.parts(target)[2]]
    every = [element for root in roots.values() for element in root.iter("{*}lang")]
    default = next((e for e in every if any(_local(a) == "rPrDefault" for a in e.iterancestors())), None)
    own = _value(default, kind) if default is not None else None
    for element in every:
        name, value = next(((n, v) for n, v in element.attrib.items() if n.endswith("}" + kind)), (None, None))
        if name is not None and (own is None or str(value).split("-")[0] == own.split("-")[0]):
            element.set(name, named)


def _value(element: Any, name: str) -> str | None:
    return next((str(value) for key, value in element.attrib.items() if key.endswith("}" + name)), None)


def _shape(root: Any) -> Iterator[object]:
    """Elements with their attributes, in order, and the text of those that hold no words."""
    for element in root.iter():
        name = _local(element)
        read = _READ.get(name, ())
        kept = {
            key: value for key, value in element.attrib.items() if key != _SPACE and name != "lang" and key.rpartition("}")[2] not in read
        }
        yield "t" if name in ("t", _HYPHEN) else element.tag, kept, len(element), None if name in _WORDS else element.text


def _by_slot(pieces: Sequence[tuple[str, bool]], slots: int) -> list[str]:
    """The texts of a segment's slots; placeholders are marks, too, and part of them."""
    out = [""]
    for text, mark in pieces:
        if mark and _SEPARATOR.fullmatch(text) and len(out) < slots:
            out.append("")
        else:
            out[-1] += text
    return out


def _placeholders(segment: Segment) -> list[str]:
    marks = [segment.text[begin:end] for begin, end in segment.marks]
    return [mark for mark in marks if not _SEPARATOR.fullmatch(mark)]


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _slots(roots: dict[str, Any]) -> Iterator[list[_Slot]]:
    """The slots of every segment, part after part."""
    for name, root in roots.items():
        if name == _PROPERTIES:
            yield from ([_slot((e,))] for e in root if _local(e) in ("title", "subject", "description") and "".join(e.itertext()))
            continue
        for element in root.iter():
            name = _local(element)
            if name == "p" and any(of in element.tag for of in ("wordprocessingml", "purl.oclc.org", "drawingml")):
                yield from _sentences(element)
            elif name in _READ:
                yield from _attributes(element, _READ[name])


def _attributes(element: Any, names: Sequence[str]) -> Iterator[list[_Slot]]:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] in names and messages.is_text(value):
            yield [_Slot(((element, key),), (value,))]


def _sentences(paragraph: Any) -> Iterator[list[_Slot]]:
    """A paragraph's slots, cut at tabs and line breaks."""
    groups: list[list[Any]] = []
    before: object = None
    for element in _seen(paragraph):
        name = _local(element)
        if name in _CUTS:
            yield from _made(groups)
            groups, before = [], None
        elif name in ("t", _HYPHEN):
            key = _format(element, paragraph)
            if groups and key == before:
                groups[-1].append(element)
            else:
                groups.append([element])
            before = key
        elif name not in _UNSEEN:
            before = None
    yield from _made(groups)


def _made(groups: Sequence[Sequence[Any]]) -> Iterator[list[_Slot]]:
    slots = [_slot(group) for group in groups if any(_local(element) == "t" for element in group)]
    if slots:
        yield slots


def _seen(paragraph: Any) -> Iterator[Any]:
    """The elements of a paragraph without the results of fields that a program puts in."""
    fields: list[str] = []  # the codes of open fields; behind a code comes "", or what tells that the result is left out
    for element in _walk(paragraph):
        name = _local(element)
        if name == "fldChar":
            kind = _value(element, "fldCharType")
            if kind == "begin":
                fields.append("")
            elif kind == "separate" and fields:
                fields[-1] = "left out" if _PUT_IN.match(fields[-1]) else ""
            elif kind == "end" and fields:
                fields.pop()
        elif name == "instrText" and fields:
            fields[-1] += element.text or ""
        elif name == "t" and "left out" in fields:
            continue
        yield element


def _walk(paragraph: Any) -> Iterator[Any]:
    """The elements of a paragraph that are text or stand between it, in order; a text box has paragraphs of its own."""
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        name = _local(element)
        if not name or name in _LEFT_OUT:
            continue
        if name in ("drawing", "pict", "object", "AlternateContent", "tabs", "oMath", "oMathPara") or _is_left_out(element, name):
            yield element
            continue
        if len(element) == 0 or name == "t":
            yield element
        else:
            stack += reversed(element)


def _is_left_out(element: Any, name: str) -> bool:
    """Whether it is hidden text, or a field that a program puts in."""
    if name == "fldSimple":
        return bool(_PUT_IN.match(_value(element, "instr") or ""))
    hidden = element.find("{*}rPr/{*}vanish") if name == "r" else None
    return hidden is not None and (_value(hidden, "val") or "") not in _OFF


def _format(text: Any, paragraph: Any) -> tuple[Any, ...]:
    """What text elements of one slot share: the run's properties, and the elements around the run."""
    from lxml import etree

    run = text.getparent()
    elements = (each for child in run if _local(child) == "rPr" for each in child if _local(each) not in _NOTED)
    properties = b"".join(etree.tostring(each, with_tail=False) for each in elements)
    drawn = [(key, value) for child in run if _local(child) == "rPr" for key, value in child.attrib.items() if key not in _NOTED]
    around, element = [], run.getparent()
    while element is not None and element is not paragraph:
        around.append(element)
        element = element.getparent()
    return (properties, *drawn, *around)


def _segment(slots: list[_Slot]) -> Segment | None:
    """The slots as one text, with a mark from each to the next."""
    texts = [slot.text for slot in slots]
    if not has_letters("".join(texts)):
        return None
    first = 1
    while any(f"<{first + n}>" in text for text in texts for n in range(len(texts))):
        first += len(texts)
    pieces: list[tuple[str, bool]] = []
    for number, text in enumerate(texts):
        pieces += [*([(f"<{first + number - 1}>", True)] if number else []), *with_marks(text, _PROSE)]
    text, marks = joined(pieces)
    return Segment(text, text, 0, marks)
