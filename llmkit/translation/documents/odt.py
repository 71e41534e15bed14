"""OpenDocument texts (.odt): paragraphs and headings with their notes, comments, headers and titles; fields stay.

https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part3-schema/OpenDocument-v1.3-os-part3-schema.html, chapter 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmkit.errors import InputError
from llmkit.translation.documents import archive, office_language, xml
from llmkit.translation.documents.archive import ArchiveDocument, Entries, Part
from llmkit.translation.documents.edits import Lines, Slot, Unit, slotted

_PARAGRAPHS = frozenset(("p", "h", "index-title-template"))
#: Elements whose text is that of the paragraph around them; all others are fields, notes, frames.
_INLINE = frozenset(("span", "a", "ruby", "ruby-base", "meta", "meta-field"))
_CUTS = frozenset(("tab", "line-break"))
#: Descriptions of pictures.
_TITLES = frozenset(("title", "desc"))
_META = frozenset(("title", "description", "subject"))
_PROPERTIES = re.compile(r"<style:text-properties\b[^<>]*>")
_SPACE = re.compile(r"[ \t\r\n]+")


def parse(data: bytes, name: str, target: str | None = None) -> ArchiveDocument:
    """target: the language in which the text is checked.

    Raises InputError for a file that is not a text of OpenDocument, is encrypted or unpacks to too much.
    """
    entries = archive.opened(data, name, "an OpenDocument text", "content.xml")
    if "META-INF/manifest.xml" in entries.names and b"encryption-data" in entries.read("META-INF/manifest.xml"):
        raise InputError("is encrypted", path=name, hint="save it without a password")
    return ArchiveDocument(entries, tuple(_parts(entries, target)), archive.compare)


def _parts(entries: Entries, target: str | None) -> Iterator[tuple[str, Part]]:
    sources = {entry: entries.source(entry) for entry in ("styles.xml", "content.xml") if entry in entries.names}
    kind = office_language.parts(target)[2] if target else "western"
    own = office_language.of_most(match[2] for source, _ in sources.values() for match in _language(kind).finditer(source) if match[2])
    for entry in ("content.xml", "styles.xml"):
        if entry in sources:
            source, encoding = sources[entry]
            source = _in_language(source, own, target)
            yield entry, archive.part(source, encoding, _units(source))
    if "meta.xml" in entries.names:
        source, encoding = entries.source("meta.xml")
        source = archive.in_language(source, office_language.named(target) if target else None, "language")
        yield "meta.xml", archive.part(source, encoding, archive.elements(source, _META))


def _language(kind: str) -> re.Pattern[str]:
    """Where a style says the language in which its texts of a kind of script are checked, with its country behind or before it."""
    names = ("fo:language", "fo:country") if kind == "western" else (f"style:language-{kind}", f"style:country-{kind}")
    return re.compile(rf'(\s{names[0]}=")([^"<>]*)(")|(\s{names[1]}=")([^"<>]*)(")')


def _in_language(source: str, own: str | None, target: str | None) -> str:
    """The source with the target as the language of the styles that have the document's own."""
    if own is None or target is None:
        return source
    language, country, kind = office_language.parts(target)
    pattern = _language(kind)

    def written(tag: re.Match[str]) -> str:
        if own not in (office_language.primary(match[2]) for match in pattern.finditer(tag.group()) if match[2]):
            return tag.group()
        return pattern.sub(lambda match: match[1] + language + '"' if match[1] else f'{match[4]}{country or "none"}"', tag.group())

    return _PROPERTIES.sub(written, source)


@dataclass
class _Open:
    """An open element. slots: of a paragraph, up to here. spaced: where texts begin that an element of spaces follows, which their
    slots have as one. owner: the paragraph that its text belongs to.
    """

    name: str
    slots: list[Slot] = field(default_factory=list)
    spaced: set[int] = field(default_factory=set)
    owner: _Open | None = None


def _units(source: str) -> Iterator[Unit | None]:
    """The paragraphs, each when it ends; one in a note or a frame is none of the paragraph around it."""
    lines = Lines(source)
    stack: list[_Open] = []
    deleted = 0
    for token in xml.tokens(source):
        owner = stack[-1].owner if stack else None
        if token.kind == "start":
            opened = _Open(token.name)
            opened.owner = opened if token.name in _PARAGRAPHS | _TITLES else owner if token.name in _INLINE else None
            stack.append(opened)
            deleted += token.name == "tracked-changes"
        elif token.kind == "end" and stack:
            closed = stack.pop()
            deleted -= token.name == "tracked-changes"
            if closed.owner is closed:
                yield _unit(closed, lines)
        elif token.kind == "empty" and token.name in _CUTS and owner is not None:
            yield _unit(owner, lines)
            owner.slots = []
        elif token.kind == "empty" and token.name == "s" and owner is not None and owner.slots:
            last = owner.slots[-1]
            if not last.text.endswith(" "):
                owner.slots[-1] = Slot(f"{last.text} ", last.places)
                owner.spaced.add(last.places[0][0])
        elif owner is not None and not deleted and (words := xml.words(source, token)) is not None:
            owner.slots.append(Slot(_SPACE.sub(" ", words), ((token.begin, token.end),)))


def _unit(paragraph: _Open, lines: Lines) -> Unit | None:
    slots, spaced = paragraph.slots, paragraph.spaced

    def write(text: str, begin: int, _: int) -> str:
        return xml.escape(text.rstrip(" ") if begin in spaced else text)

    return slotted(slots, lines.at(slots[0].places[0][0]), write) if slots else None
