"""Documents that are a zip of XML files: what they share. Parts without a change keep their bytes, the others all but the words.

Entries keep their order and compression and get a fixed date, so the same translation is the same file. What an archive may
unpack to is bounded before anything is read.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from llmkit.errors import InputError, one_line
from llmkit.translation.documents import xml
from llmkit.translation.documents.base import Marks, Segment, TextDocument
from llmkit.translation.documents.edits import EditedDocument, Lines, Slot, Unit, changed, slotted
from llmkit.translation.placeholders import IN_PROSE, TAGS_IN_PROSE

#: Bytes that an archive may unpack to, and how many times its own size.
_MOST, _RATIO = 500_000_000, 200
#: Bytes of an entry that is read as text; its parser needs some times as much.
_MOST_TEXT, _TEXTS = 100_000_000, (".xml", ".xhtml", ".html", ".htm", ".opf", ".ncx")
#: Entries; more is no document.
_ENTRIES = 50_000
#: Attributes that a translation may change.
_CHANGES = re.compile(r"""\s(?:xml:space|descr|tooltip|(?:prompt|error)(?:Title)?)\s*=\s*(?:"[^"]*"|'[^']*')""")
_MARKS = re.compile(rf"<\d+>|{TAGS_IN_PROSE}|{IN_PROSE.pattern}")
_TAG = re.compile(r"</?[a-zA-Z][^\s/<>]*")
_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, zlib.error)
Part = EditedDocument | TextDocument


class Entries:
    """The entries of a zip file. Raises InputError for one that is damaged, encrypted or a bomb."""

    def __init__(self, data: bytes, name: str, what: str) -> None:
        self.data, self.file_name, self.what = data, name, what
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as exc:
            raise InputError(f"is not {what}: {one_line(exc)}", path=name) from exc
        self.infos = self._zip.infolist()
        size = sum(info.file_size for info in self.infos)
        if size > min(_MOST, max(_RATIO * len(data), 1_000_000)) or len(self.infos) > _ENTRIES:
            raise InputError(f"unpacks to {size:,} bytes from {len(data):,}, so it is not opened", path=name)
        large = next((info for info in self.infos if info.file_size > _MOST_TEXT and info.filename.endswith(_TEXTS)), None)
        if large is not None:
            raise InputError(f"holds {one_line(large.filename)} of {large.file_size:,} bytes, so it is not opened", path=name)
        if any(info.flag_bits & 1 for info in self.infos):
            raise InputError("is encrypted", path=name, hint="save it without a password")
        self.names = {info.filename for info in self.infos}

    def read(self, entry: str) -> bytes:
        """The bytes of an entry. Raises InputError for one that is missing or damaged."""
        try:
            return self._zip.read(entry)
        except (*_DAMAGE, KeyError) as exc:
            raise InputError(f"is not {self.what}: {entry}: {one_line(exc)}", path=self.file_name) from exc

    def source(self, entry: str) -> tuple[str, str]:
        """The text of an entry of XML, and its encoding."""
        return xml.read(self.read(entry), f"{self.file_name}: {entry}")

    def matching(self, pattern: str) -> list[str]:
        """The entries whose names match, as people count them: slide2 before slide10."""
        names = [name for name in self.names if re.fullmatch(pattern, name)]
        return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def opened(data: bytes, name: str, what: str, holds: str) -> Entries:
    """The entries of a file that is `what` if it holds the entry `holds`. Raises InputError."""
    entries = Entries(data, name, what)
    if holds not in entries.names:
        raise InputError(f"is not {what}: it holds no {holds}", path=name)
    return entries


@dataclass(frozen=True)
class ArchiveDocument:
    """parts: the documents of the entries that hold text, by the entries' names.

    text_tags: their tags hold texts, too, as HTML's do, so that only the tags' names are compared.
    """

    entries: Entries
    parts: tuple[tuple[str, Part], ...]
    compare: Callable[[str, Segment], object] | None = None
    text_tags: bool = False
    segments: tuple[Segment, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = [segment for _, part in self.parts for segment in part.segments]
        # a line of XML says nothing; the number of the segment does
        object.__setattr__(self, "segments", tuple(replace(segment, line=number) for number, segment in enumerate(every, 1)))

    @cached_property
    def keep(self) -> Marks:
        """The marks of all parts' segments."""
        return Marks(self.segments, self.compare)

    def skeleton(self, data: bytes) -> object:
        """For the verification of a translated file: its entries, those without text by their hashes, the tags of the others."""
        entries = Entries(data, self.entries.file_name, self.entries.what)
        read = {name for name, _ in self.parts}
        shapes = [self._shape(entries, info.filename, info.filename in read) for info in entries.infos]
        return [info.filename for info in entries.infos], shapes

    def _shape(self, entries: Entries, name: str, read: bool) -> str:
        digest = hashlib.sha256()
        if not read:
            digest.update(entries.read(name))
            return digest.hexdigest()
        source, _ = xml.decode(entries.read(name), f"{self.entries.file_name}: {name}")
        if self.text_tags:
            tags = [match.group() for match in _TAG.finditer(source)]
        else:
            xml.check(source, f"{self.entries.file_name}: {name}")
            # what a changed text may bring, or change: whether space counts, the description of a picture
            others = (t for t in xml.tokens(source) if t.kind not in ("text", "cdata"))
            tags = [_CHANGES.sub("", source[t.begin : t.end]) for t in others]
        digest.update("\n".join(tags).encode("utf-8", "replace"))
        return digest.hexdigest()

    def build(self, translations: Sequence[str | None]) -> bytes:
        """As `Document.build`. Entries keep their order and get a fixed date; without a change the file is the source, byte for byte."""
        new: dict[str, bytes] = {}
        at = 0
        for name, part in self.parts:
            end = at + len(part.segments)
            content = part.build(translations[at:end])
            if content != self.entries.read(name):
                new[name] = content
            at = end
        return self._written(new) if new else self.entries.data

    def _written(self, new: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
            for info in self.entries.infos:
                fixed = zipfile.ZipInfo(info.filename, date_time=_DATE)
                fixed.compress_type, fixed.external_attr, fixed.create_system = info.compress_type, info.external_attr, info.create_system
                content = new.get(info.filename)
                after.writestr(fixed, self.entries.read(info.filename) if content is None else content)
        return out.getvalue()


def part(source: str, encoding: str, units: Iterable[Unit | None]) -> EditedDocument:
    """An entry of XML with its units; None is a text without words."""
    return EditedDocument(source, tuple(unit for unit in units if unit is not None), compare, encoding)


def elements(source: str, names: frozenset[str]) -> Iterator[Unit | None]:
    """A unit from each element of these names that holds text only."""
    lines = Lines(source)
    inside: list[xml.Token] | None = None
    for token in xml.tokens(source):
        if token.kind in ("text", "cdata") and inside is not None:
            inside.append(token)
        elif token.kind == "end" and inside:
            text = "".join(xml.words(source, part) or "" for part in inside)
            slot = Slot(text, tuple((part.begin, part.end) for part in inside))
            yield slotted([slot], lines.at(inside[0].begin), lambda new, *_: xml.escape(new))
        if token.kind in ("start", "end", "empty"):
            inside = [] if token.kind == "start" and token.name in names else None


def in_language(source: str, target: str | None, element: str) -> str:
    """A source in whose first element of that name, which says the document's language, that of the translation stands."""
    before = None
    for token in xml.tokens(source):
        if target is not None and token.kind == "text" and before is not None and before.kind == "start" and before.name == element:
            return changed(source, [(token.begin, token.end, target)])
        before = token
    return source


def properties(entries: Entries) -> Iterator[tuple[str, Part]]:
    """The title of a document of Microsoft's formats."""
    if "docProps/core.xml" in entries.names:
        source, encoding = entries.source("docProps/core.xml")
        yield "docProps/core.xml", part(source, encoding, elements(source, frozenset(("title", "subject", "description"))))


def compare(text: str, segment: Segment) -> object:
    """The placeholders and numbered marks of a text, and whether it is longer than its program reads: its kind is that many characters."""
    marks = sorted(match.group() for match in _MARKS.finditer(text))
    return marks, segment.kind.isdigit() and len(text) > int(segment.kind)
