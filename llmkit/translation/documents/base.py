"""What every document format gives: its segments in order, and the file again from their translations.

A segment whose translation is its own text is written exactly as it stood, so translating into the same words changes no
byte. Knows texts; not models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmkit.errors import InputError


@dataclass(frozen=True)
class Segment:
    """A text to translate. raw: as it stands in the file, escapes and line ends included. line: where it begins, from 1."""

    text: str
    raw: str
    line: int


class Document(Protocol):
    """keep: markup inside segments that is not to be translated, None where there is none."""

    @property
    def keep(self) -> re.Pattern[str] | None: ...

    @property
    def segments(self) -> Sequence[Segment]: ...

    def build(self, translations: Sequence[str]) -> bytes:
        """The file, with a translation in the place of each segment."""
        ...


@dataclass(frozen=True)
class TextDocument:
    """A text file: `between[i]` comes before segment i, the last one after all. write: a translation as the format writes it."""

    between: tuple[str, ...]
    segments: tuple[Segment, ...]
    write: Callable[[str, Segment], str]
    keep: re.Pattern[str] | None = None

    def build(self, translations: Sequence[str]) -> bytes:
        out = [self.between[0]]
        for segment, text, after in zip(self.segments, translations, self.between[1:], strict=True):
            out += [segment.raw if text == segment.text else self.write(text, segment), after]
        return "".join(out).encode("utf-8")


def cut(
    source: str,
    spans: Sequence[tuple[int, int]],
    read: Callable[[str], str],
    write: Callable[[str, Segment], str],
    keep: re.Pattern[str] | None = None,
) -> TextDocument:
    """A document from the places [begin, end) of its segments in `source`, in order; `read` makes the text of what stands there."""
    between, segments, at, line = [], [], 0, 1
    for begin, end in spans:
        line += source.count("\n", at, begin)
        between.append(source[at:begin])
        raw = source[begin:end]
        segments.append(Segment(read(raw), raw, line))
        line += raw.count("\n")
        at = end
    return TextDocument((*between, source[at:]), tuple(segments), write, keep)


def decoded(data: bytes, name: str) -> str:
    """The text of a UTF-8 file, line ends and a byte order mark as they are. Raises InputError naming the byte and line."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(f"byte {exc.start + 1} is not UTF-8", path=name, line=line, hint="convert it: iconv -t utf-8") from exc


def lines_of(source: str) -> Iterator[tuple[int, str]]:
    """(where it begins, the line with its end). Only \\n, \\r\\n and \\r end a line."""
    for match in re.finditer(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", source):
        yield match.start(), match.group()


def has_letters(text: str) -> bool:
    return any(c.isalpha() for c in text)
