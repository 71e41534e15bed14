"""What every document format gives: its segments in order, and the file again from their translations.

A segment whose translation is its own text is written exactly as it stood, so translating into the same words changes no
byte. Knows texts; not models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from llmkit.errors import InputError
from llmkit.translation.markup import Mark

#: Places [begin, end) of marks in a text, in order.
Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Segment:
    """A text to translate. raw: as it stands in the file, escapes and line ends included. line: where it begins, from 1.

    marks: what in `text` is no prose and goes back as it is: tags, links, code, placeholders. kind: how the format writes it.
    within: where `raw` stands in the raw text of the segment before that has no place of its own (a title inside a sentence's tag).
    """

    text: str
    raw: str
    line: int
    marks: Places = ()
    kind: str = ""
    within: int | None = None

    def prose(self) -> str:
        """The text without its marks."""
        return "".join(text for text, mark in parts(self.text, self) or () if not mark)


class Document(Protocol):
    """keep: the marks inside segments, and the verification of a translation."""

    @property
    def keep(self) -> Marks:
        """The marks inside the segments: what a translation may not change."""
        ...

    @property
    def segments(self) -> Sequence[Segment]:
        """The texts to translate, in the order of the file."""
        ...

    def build(self, translations: Sequence[str | None]) -> bytes:
        """The file, with a translation in the place of each segment; None leaves the segment as it was."""
        ...


@dataclass(frozen=True)
class Marks:
    """Marks of a document's segments. compare: what a segment's structure is, from its translation.

    By the text alone the first segment of that text is meant; another one may read it differently (`<b>` of a tag, of `&lt;b>`).
    """

    segments: Sequence[Segment]
    compare: Callable[[str, Segment], object] | None = None

    @cached_property
    def _by_text(self) -> dict[str, Segment]:
        return {segment.text: segment for segment in reversed(self.segments)}

    def of(self, number: int) -> Marks:
        """The marks of one segment."""
        return Marks((self.segments[number],), self.compare)

    def finditer(self, text: str) -> Iterator[Mark]:
        """The marks of the segment that has this text, in order; none for any other text."""
        segment = self._by_text.get(text)
        for begin, end in segment.marks if segment else ():
            yield Mark(begin, end, text[begin:end])

    def problem(self, text: str, translation: str) -> str | None:
        """What is wrong with the structure of a translation, or nothing. text: the segment's."""
        segment = self._by_text.get(text)
        if segment is None or text == translation:
            return None
        if parts(translation, segment) is None:
            return "some of its markup is missing"
        if self.compare is not None and self.compare(translation, segment) != self.compare(text, segment):
            return "its markup would change"
        return None


def parts(translation: str, segment: Segment) -> list[tuple[str, bool]] | None:
    """A translation as (text, whether it is a mark), or None where a mark of the segment is missing or out of order."""
    if translation == segment.text:
        out, at = [], 0
        for begin, end in segment.marks:
            out += [(translation[at:begin], False), (translation[begin:end], True)]
            at = end
        return [*out, (translation[at:], False)]
    out, at = [], 0
    for begin, end in segment.marks:
        mark = segment.text[begin:end]
        place = translation.find(mark, at)
        if place < 0:
            return None
        out += [(translation[at:place], False), (mark, True)]
        at = place + len(mark)
    return [*out, (translation[at:], False)]


@dataclass(frozen=True)
class TextDocument:
    """A text file: `between[i]` comes before segment i, the last one after all. write: a translation as the format writes it.
    A segment within another follows it, with nothing between.

    compare: see Marks. encoding: of the file that is built; what it lacks is written as character references. shape: the skeleton of a
    file of the format (see verification.py).
    """

    between: tuple[str, ...]
    segments: tuple[Segment, ...]
    write: Callable[[str, Segment], str]
    compare: Callable[[str, Segment], object] | None = None
    encoding: str = "utf-8"
    shape: Callable[[bytes], object] | None = None
    keep: Marks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", Marks(self.segments, self.compare))

    def skeleton(self, data: bytes) -> object:
        """As `verification.HasSkeleton`; without `shape` nothing is compared."""
        return None if self.shape is None else self.shape(data)

    def build(self, translations: Sequence[str | None]) -> bytes:
        """As `Document.build`. A character that the encoding lacks is written as a reference (`&#233;`)."""
        out = [self.between[0]]
        for number, (segment, after) in enumerate(zip(self.segments, self.between[1:], strict=True)):
            out += [self._written(number, translations) if segment.within is None else "", after]
        return "".join(out).encode(self.encoding, errors="strict" if self.encoding == "utf-8" else "xmlcharrefreplace")

    def _written(self, number: int, translations: Sequence[str | None]) -> str:
        """A segment as it stands in the file, with the translations of those within it."""
        segment, text = self.segments[number], translations[number]
        inner: list[tuple[int, int, str]] = []
        for place in range(number + 1, len(self.segments)):  # a slice of all that follow would be copied for each segment
            child, other = self.segments[place], translations[place]
            if child.within is None:
                break
            if other is not None and other != child.text:
                inner.append((child.within, child.within + len(child.raw), self.write(other, child)))
        if text is None or text == segment.text:
            return _filled(segment.raw, 0, inner)
        pieces, sources = parts(text, segment), parts(segment.text, segment)
        if not inner or pieces is None or sources is None:
            return self.write(text, segment)
        changed = _changed_marks(segment, inner)
        whole, marks = joined(_with(sources, changed))
        written = "".join(piece for piece, _ in _with(pieces, changed))
        return self.write(written, replace(segment, text=whole, marks=marks))


def _filled(raw: str, begin: int, inner: Sequence[tuple[int, int, str]]) -> str:
    """A raw text that begins at `begin`, with other texts in some of its places."""
    for first, last, text in reversed(inner):
        if begin <= first and last <= begin + len(raw):
            raw = raw[: first - begin] + text + raw[last - begin :]
    return raw


def _changed_marks(segment: Segment, inner: Sequence[tuple[int, int, str]]) -> list[str]:
    """A segment's marks, in order, with the translations of what is within them."""
    out, at = [], 0
    for begin, end in segment.marks:
        mark = segment.text[begin:end]
        place = segment.raw.find(mark, at)
        at = place + len(mark) if place >= 0 else at
        out.append(_filled(mark, place, inner) if place >= 0 else mark)
    return out


def _with(pieces: Sequence[tuple[str, bool]], marks: Sequence[str]) -> list[tuple[str, bool]]:
    """The pieces, with other marks in the places of theirs."""
    following = iter(marks)
    return [(next(following) if mark else piece, mark) for piece, mark in pieces]


@dataclass(frozen=True)
class Span:
    """A segment before it is cut out: its place [begin, end) in the source, its text and marks."""

    begin: int
    end: int
    text: str
    marks: Places = ()
    kind: str = ""


def cut(
    source: str,
    spans: Sequence[Span],
    write: Callable[[str, Segment], str],
    compare: Callable[[str, Segment], object] | None = None,
    encoding: str = "utf-8",
    shape: Callable[[bytes], object] | None = None,
) -> TextDocument:
    """A document from the places of its segments in `source`, in order."""
    between: list[str] = []
    segments: list[Segment] = []
    at, line = 0, 1
    top = 0  # where the last segment with a place of its own begins
    for span in spans:
        if span.end <= at and segments:
            raw = source[span.begin : span.end]
            segments.append(Segment(span.text, raw, segments[-1].line, span.marks, span.kind, span.begin - top))
            between.append("")
            continue
        top = span.begin
        line += source.count("\n", at, span.begin)
        between.append(source[at : span.begin])
        raw = source[span.begin : span.end]
        segments.append(Segment(span.text, raw, line, span.marks, span.kind))
        line += raw.count("\n")
        at = span.end
    return TextDocument((*between, source[at:]), tuple(segments), write, compare, encoding, shape)


def joined(pieces: Sequence[tuple[str, bool]]) -> tuple[str, Places]:
    """The text of (text, whether it is a mark), and the places of the marks; an empty mark has none."""
    text, marks, at = [], [], 0
    for piece, mark in pieces:
        if mark and piece:
            marks.append((at, at + len(piece)))
        text.append(piece)
        at += len(piece)
    return "".join(text), tuple(marks)


def marked(span: Span, pattern: re.Pattern[str]) -> Span:
    """The span with what `pattern` finds in its prose as marks, too."""
    pieces = parts(span.text, Segment(span.text, "", 0, span.marks)) or []
    text, marks = joined([each for piece, mark in pieces for each in ([(piece, True)] if mark else with_marks(piece, pattern))])
    return replace(span, text=text, marks=marks)


def with_marks(text: str, pattern: re.Pattern[str]) -> list[tuple[str, bool]]:
    """The text in pieces (text, whether `pattern` finds it)."""
    out, at = [], 0
    for match in pattern.finditer(text):
        out += [(text[at : match.start()], False), (match.group(), True)]
        at = match.end()
    return [*out, (text[at:], False)]


def decoded(data: bytes, name: str) -> str:
    """The text of a UTF-8 file, line ends and a byte order mark as they are. Raises InputError naming the byte and line."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        hint = "name its encoding with `encoding`, for example `encoding` latin-1"
        raise InputError(f"byte {exc.start + 1} is not UTF-8", path=name, line=line, hint=hint) from exc


def lines_of(source: str) -> Iterator[tuple[int, str]]:
    """(where it begins, the line with its end). Only \\n, \\r\\n and \\r end a line."""
    for match in re.finditer(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", source):
        yield match.start(), match.group()


def stripped_end(source: str, end: int, characters: str) -> int:
    """Where the text before `end` ends without these characters. (`rstrip` would copy all of it.)"""
    while end and source[end - 1] in characters:
        end -= 1
    return end


def one_line(raw: str) -> str:
    """Lines as one, a space between them; space at the ends of the text stays."""
    lines = re.split(r"\r\n|\n|\r", raw)
    if len(lines) == 1:
        return raw
    inner = [line.strip(" \t") for line in lines[1:-1]]
    return " ".join([lines[0].rstrip(" \t"), *(line for line in inner if line), lines[-1].lstrip(" \t")])


def has_letters(text: str) -> bool:
    """Whether a text has a letter, so that there is something to translate."""
    return any(c.isalpha() for c in text)
