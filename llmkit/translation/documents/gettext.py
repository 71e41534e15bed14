"""gettext catalogues (.po): entries without a translation get one, plural forms included; everything else stays.

Entries come from polib, which tells the line of each; what is written replaces their empty msgstr lines alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.errors import InputError, UnavailableError
from llmkit.translation.documents.base import Segment, decoded, lines_of

_EMPTY = re.compile(r'(msgstr(?:\[(\d+)\])?)[ \t]+""[ \t]*(?=\r?\n|\Z)')


@dataclass(frozen=True)
class Catalogue:
    """source: the whole file; places: where each segment's empty string stands, [begin, end)."""

    source: str
    places: tuple[tuple[int, int], ...]
    segments: tuple[Segment, ...]
    keep: re.Pattern[str] | None = None

    def build(self, translations: Sequence[str]) -> bytes:
        end_of_line = "\r\n" if "\r\n" in self.source else "\n"
        out, at = [], 0
        for (begin, end), text in zip(self.places, translations, strict=True):
            out += [self.source[at:begin], _quoted(text, end_of_line)]
            at = end
        return "".join([*out, self.source[at:]]).encode("utf-8")


def parse(data: bytes, name: str) -> Catalogue:
    """Raises InputError for a file that is no catalogue, UnavailableError without polib."""
    try:
        import polib
    except ImportError as exc:
        raise UnavailableError("translating .po files needs polib", hint="pip install 'llmkit[documents]'") from exc
    source = decoded(data, name)
    try:
        entries = polib.pofile(source)
    except (OSError, ValueError) as exc:
        raise InputError(f"is no gettext catalogue: {exc}", path=name) from exc
    forms = _forms(entries.metadata.get("Plural-Forms", ""))
    lines = list(lines_of(source))
    places: list[tuple[int, int]] = []
    segments: list[Segment] = []
    for entry in entries:
        if not entry.obsolete and entry.msgid:
            for number, (begin, end, plural) in enumerate(_empty(source, lines, entry)):
                text = entry.msgid_plural if plural is not None and (number > 0 or forms == 1) else entry.msgid
                places.append((begin, end))
                segments.append(Segment(text, '""', entry.linenum))
    return Catalogue(source, tuple(places), tuple(segments))


def _empty(source: str, lines: list[tuple[int, str]], entry: Any) -> list[tuple[int, int, str | None]]:
    """Places of the entry's empty strings: (begin, end, number of the plural form)."""
    out = []
    begun = False
    for at, line in lines[max(entry.linenum - 1, 0) :]:
        if line.startswith("msgstr"):
            begun = True
        elif begun and not line.lstrip().startswith('"'):
            break
        match = _EMPTY.match(line)
        if match and not source[at + len(line) :].lstrip(" \t").startswith('"'):  # not the head of a string on several lines
            out.append((at + match.end(1) + 1, at + match.end(), match[2]))
    return out


def _forms(header: str) -> int:
    match = re.search(r"nplurals\s*=\s*(\d+)", header)
    return int(match[1]) if match else 2


def _quoted(text: str, end: str) -> str:
    """The string as catalogues write it: on one line, or an empty one and then a line each."""
    lines = [_escaped(line) for line in text.splitlines(keepends=True)]
    return f'"{lines[0]}"' if len(lines) == 1 else end.join(['""', *(f'"{line}"' for line in lines)])


def _escaped(line: str) -> str:
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\t", "\\t"), ("\r", "\\r"), ("\n", "\\n")):
        line = line.replace(character, written)
    return line
