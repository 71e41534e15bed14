"""SubRip (.srt) and WebVTT (.vtt): each cue's text is a segment; numbers, timing, notes and styles stay.

SubRip has no standard; WebVTT: https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import re
import textwrap

from llmkit.errors import InputError
from llmkit.translation.documents.base import Segment, TextDocument, cut, decoded, has_letters, lines_of

_TIMING = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
#: <i>, <v Name>, <00:01.000>, SubStation's {\an8}, and the dash of a speaker.
_MARKUP = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}|^[-–]\s*")
#: A line that players show whole; the longest of the cue counts, too.
_WIDTH = 42


def parse(data: bytes, name: str) -> TextDocument:
    """Raises InputError for a file without a cue."""
    source = decoded(data, name)
    cues: list[list[tuple[int, int]]] = []
    inside = False
    for at, line in lines_of(source):
        body = line.rstrip("\r\n")
        if _TIMING.match(body):
            cues.append([])
            inside = True
        elif not body.strip():
            inside = False
        elif inside:
            cues[-1].append((at, at + len(body)))
    if not cues and source.strip("\ufeff \r\n\t") not in ("", "WEBVTT"):
        raise InputError("holds no cue (no line with -->)", path=name)
    spans = [span for cue in cues if cue for span in _segments(source, cue)]
    return cut(source, [(a, b) for a, b in spans if has_letters(_MARKUP.sub("", source[a:b]))], _read, _write, _MARKUP)


def _segments(source: str, lines: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """One for the cue, or a line each where two people speak."""
    if len(lines) > 1 and all(source[a:b].lstrip().startswith(("-", "–")) for a, b in lines):
        return lines
    return [(lines[0][0], lines[-1][1])]


def _read(raw: str) -> str:
    return re.sub(r"\s*(?:\r\n|\r|\n)\s*", " ", raw)


def _write(text: str, segment: Segment) -> str:
    """The translation in lines no longer than the cue's longest, or what players show."""
    end = "\r\n" if "\r\n" in segment.raw else "\n"
    width = max(_WIDTH, *(len(line) for line in segment.raw.splitlines()))
    lines = -(-len(text) // width)
    balanced = min(width, max(len(text) // max(lines, 1) + 8, 1))
    return end.join(textwrap.wrap(text, balanced, break_long_words=False, break_on_hyphens=False)) or text
