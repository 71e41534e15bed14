"""SubRip (.srt) and WebVTT (.vtt): what each speaker says in a cue is a segment; numbers, timing, notes and styles stay.

SubRip has no standard and is read as players read it; WebVTT: https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from llmkit.errors import InputError
from llmkit.translation.documents.base import (
    Segment,
    Span,
    TextDocument,
    cut,
    decoded,
    has_letters,
    joined,
    lines_of,
    one_line,
    parts,
    with_marks,
)

_TIMING = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_TAG = r"</?[a-zA-Z][^<>\n]*>|<[\d:.]+>|</>|\{\\[^{}\n]*\}"
#: <i>, <v Name>, <00:01.000>, SubStation's {\an8}.
_MARKS = re.compile(_TAG)
#: The beginning of what a speaker says: a dash, or WebVTT's voice, also behind tags.
_SPEAKER = re.compile(rf"\s*(?:{_TAG})*?(?:[-–—][ \t]*(?=[^\s\d])|<v[ .])")
_DASH = re.compile(rf"\s*((?:{_TAG})*)([-–—][ \t]*)")
#: A line that players show whole; the longest of the cue counts, too.
_WIDTH = 42

Lines = list[tuple[int, int]]


def parse(data: bytes, name: str, target: str | None = None) -> TextDocument:
    """Raises InputError for a file without a cue."""
    source = decoded(data, name)
    vtt = source.lstrip("\ufeff").startswith("WEBVTT")
    cues = list(_cues(source, vtt))
    if not cues and not any(_TIMING.match(line) for _, line in lines_of(source)) and source.strip("\ufeff \r\n\t") not in ("", "WEBVTT"):
        raise InputError("holds no cue (no line with -->)", path=name)
    spans = [_span(source, lines, vtt) for cue in cues for lines in _speeches(source, cue)]
    return cut(source, [span for span in spans if has_letters(Segment(span.text, "", 0, span.marks).prose())], _write)


def _cues(source: str, vtt: bool) -> Iterator[Lines]:
    """The lines of text that stand together in a cue. In SubRip a cue reaches to the next number and timing."""
    lines = [(at, at + len(line.rstrip("\r\n"))) for at, line in lines_of(source)]
    timed = [bool(_TIMING.match(source, a, b)) for a, b in lines]
    inside, group = False, []  # type: bool, Lines
    for number, (a, b) in enumerate(lines):
        body = source[a:b].strip()
        counts = body.isdecimal() and not vtt and number + 1 < len(lines) and timed[number + 1]
        if timed[number] or not body or counts:
            if group:
                yield group
            group = []
            inside = timed[number] or (inside and not vtt and not counts)
        elif inside:
            group.append((a, b))
    if group:
        yield group


def _speeches(source: str, lines: Lines) -> Iterator[Lines]:
    """One for the cue, or one from each speaker to the next."""
    begins = [n for n, (a, b) in enumerate(lines) if n and _SPEAKER.match(source[a:b])]
    for begin, end in zip([0, *begins], [*begins, len(lines)], strict=True):
        yield lines[begin:end]


def _span(source: str, lines: Lines, vtt: bool) -> Span:
    begin, end = lines[0][0], lines[-1][1]
    raw = one_line(source[begin:end])
    pieces = [(text if mark or not vtt else html.unescape(text), mark) for text, mark in with_marks(raw, _MARKS)]
    if dash := _DASH.match(raw):
        rest = [(t if m or not vtt else html.unescape(t), m) for t, m in with_marks(raw[dash.end() :], _MARKS)]
        pieces = [*with_marks(dash[1], _MARKS), (dash[2], True), *rest]
        begin += dash.start(1)
    text, marks = joined(pieces)
    return Span(begin, end, text, marks, "vtt" if vtt else "")


def _write(text: str, segment: Segment) -> str:
    """The translation in lines no longer than the cue's longest, or what players show; tags have no length."""
    end = "\r\n" if "\r\n" in segment.raw else "\n"
    words: list[tuple[str, int]] = [("", 0)]  # a word with its tags, and its length without
    for part, mark in parts(text, segment) or [(text, False)]:
        for number, run in enumerate([part] if mark else part.replace("\n", " ").split(" ")):
            written = html.escape(run, quote=False) if segment.kind == "vtt" and not mark else run
            if number:
                words.append(("", 0))
            size = 0 if mark and part[0] in "<{" else len(run)
            words[-1] = (words[-1][0] + written, words[-1][1] + size)
    shown = sum(size + 1 for _, size in words) - 1
    width = max(_WIDTH, *(len(_MARKS.sub("", line)) for line in segment.raw.splitlines()), 0)
    return end.join(_wrapped([word for word in words if word[0]], min(width, shown // max(-(-shown // width), 1) + 8)))


def _wrapped(words: list[tuple[str, int]], width: int) -> list[str]:
    lines: list[str] = []
    left = 0
    for word, size in words:
        if lines and size < left:
            lines[-1] += f" {word}"
            left -= size + 1
        else:
            lines.append(word)
            left = width - size
    return [line.replace("-->", "->") for line in lines]
