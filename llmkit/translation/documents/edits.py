"""Documents whose segments are written back by small changes of the source: everything else keeps its bytes.

A unit is what is written together: one message with the branches of its plural, one paragraph over several runs.
Knows places and texts; not formats.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from llmkit.translation.documents.base import Marks, Segment, Span, has_letters, joined, parts, with_marks
from llmkit.translation.placeholders import IN_PROSE, TAGS_IN_PROSE

#: [begin, end) of the source, and what takes its place.
Change = tuple[int, int, str]
#: Marks between slots, and what looks like one: a segment's marks are known by its text alone; tags that a text is about.
_SLOT = re.compile(rf"<\d+>|{TAGS_IN_PROSE}|{IN_PROSE.pattern}")


@dataclass(frozen=True)
class Unit:
    """Segments that are written together. write: their texts, each translated or as it was, to changes of the source.

    place: where those changes are, if they are in one place.
    """

    segments: tuple[Segment, ...]
    write: Callable[[Sequence[str]], Iterable[Change]]
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class EditedDocument:
    """compare: see Marks. encoding: of the file that is built; what it lacks is written as character references.

    shape: what a translation must not change in a file of the format, compared for equality. Raises InputError.
    """

    source: str
    units: tuple[Unit, ...]
    compare: Callable[[str, Segment], object] | None = None
    encoding: str = "utf-8"
    shape: Callable[[bytes], object] | None = None
    segments: tuple[Segment, ...] = field(init=False)
    keep: Marks = field(init=False)

    def __post_init__(self) -> None:
        segments = tuple(segment for unit in self.units for segment in unit.segments)
        object.__setattr__(self, "segments", segments)
        object.__setattr__(self, "keep", Marks(segments, self.compare))

    def skeleton(self, data: bytes) -> object:
        """The shape of a file, for the verification of a translated one."""
        return None if self.shape is None else self.shape(data)

    def build(self, translations: Sequence[str | None]) -> bytes:
        """As `Document.build`. A character that the encoding lacks is written as a reference (`&#233;`)."""
        return self.text(translations).encode(self.encoding, errors="strict" if self.encoding == "utf-8" else "xmlcharrefreplace")

    def text(self, translations: Sequence[str | None]) -> str:
        """The source with its changes. A unit none of whose segments has changed keeps its characters."""
        changes: list[Change] = []
        at = 0
        for unit in self.units:
            end = at + len(unit.segments)
            texts = [s.text if t is None else t for s, t in zip(unit.segments, translations[at:end], strict=True)]
            if any(text != segment.text for text, segment in zip(texts, unit.segments, strict=True)):
                changes += unit.write(texts)
            at = end
        return changed(self.source, changes)


def spanned(
    source: str,
    spans: Sequence[Span],
    write: Callable[[str, Segment], str],
    compare: Callable[[str, Segment], object],
    encoding: str,
    shape: Callable[[bytes], object],
) -> EditedDocument:
    """A document whose segments stand in one place each. write: a translation as the format writes it."""
    lines = Lines(source)

    def unit(span: Span) -> Unit:
        segment = Segment(span.text, source[span.begin : span.end], lines.at(span.begin), span.marks, span.kind)
        place = (span.begin, span.end)
        return Unit((segment,), lambda texts: ((*place, write(texts[0], segment)),), place)

    return EditedDocument(source, tuple(unit(span) for span in spans), compare, encoding, shape)


def masked(source: str, places: Iterable[tuple[int, int]]) -> str:
    """The source without what stands in these places."""
    return changed(source, [(begin, end, "\0") for begin, end in places])


def changed(source: str, changes: Iterable[Change]) -> str:
    """The source with changes, none of which lies over another."""
    out: list[str] = []
    at = 0
    for begin, end, text in sorted(changes):
        out += [source[at:begin], text]
        at = end
    return "".join([*out, source[at:]])


class Lines:
    """Tells the line of a place in a text, from 1."""

    def __init__(self, source: str) -> None:
        self._ends = [match.start() for match in re.finditer("\n", source)]

    def at(self, place: int) -> int:
        """The line of the character at `place`, counted from 1; found in logarithmic time."""
        return bisect.bisect_left(self._ends, place) + 1


@dataclass(frozen=True)
class Slot:
    """Neighboring texts of one format, at their places in the source: the first gets the text, the others none."""

    text: str
    places: tuple[tuple[int, int], ...]


def slotted(
    slots: Sequence[Slot], line: int, write: Callable[[str, int, int], str], marks: re.Pattern[str] = _SLOT, kind: str = ""
) -> Unit | None:
    """A unit from slots, with a mark `<1>` from each to the next; None where there is nothing to translate.

    write: a slot's text and the place [begin, end) whose content it becomes, to the source there. kind: the segment's.
    """
    texts = [slot.text for slot in slots]
    taken = {match for text in texts for match in re.findall(r"<\d+>", text)}
    first = 1
    while any(f"<{first + n}>" in taken for n in range(len(texts))):
        first += len(texts)
    pieces: list[tuple[str, bool]] = []
    for number, text in enumerate(texts):
        pieces += [*([(f"<{first + number - 1}>", True)] if number else []), *with_marks(text, marks)]
    text, places = joined(pieces)
    segment = Segment(text, text, line, places, kind)
    if not has_letters(segment.prose()):
        return None
    between = [f"<{first + number}>" for number in range(len(texts) - 1)]

    def changes(translated: Sequence[str]) -> Iterable[Change]:
        for slot, part in zip(slots, _parted(translated[0], segment, between), strict=True):
            if part != slot.text:
                for number, (begin, end) in enumerate(slot.places):
                    yield begin, end, write("" if number else part, begin, end)

    return Unit((segment,), changes)


def _parted(text: str, segment: Segment, between: Sequence[str]) -> list[str]:
    """The text of each slot."""
    out, number = [""], 0
    for part, mark in parts(text, segment) or parts(segment.text, segment) or []:
        if mark and number < len(between) and part == between[number]:
            out.append("")
            number += 1
        else:
            out[-1] += part
    return out
