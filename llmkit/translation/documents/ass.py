"""SubStation Alpha (.ass, .ssa): the text of dialogue lines; styles, times, comments, override tags and drawings stay.

A cue's lines are one sentence and are laid back on as many; a line that begins with a dash is another speaker's.
https://aegisub.org/docs/latest/ass_tags/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents.base import Segment, Span, decoded, has_letters, joined, lines_of, parts, with_marks
from llmkit.translation.documents.edits import EditedDocument, masked, spanned
from llmkit.translation.placeholders import IN_PROSE

_BLOCK = re.compile(r"(\{[^{}\n]*\})")
_BREAK = re.compile(r"(?<![ \t])[ \t]*\\[Nn][ \t]*|\\[Nn][ \t]*")
#: The beginning of another speaker's line.
_SPEAKER = re.compile(r"\\[Nn](?=(?:\{[^{}\n]*\})*[ \t]*[-–—])")
_DASH = re.compile(r"(?:\{[^{}\n]*\}|[ \t])*[-–—][ \t]*")
_LEADING = re.compile(r"(?:[ \t]*\\[Nn])*[ \t]*")
_DRAWING = re.compile(r"\\p(\d+)")
#: Fields of a dialogue line before its text, where no Format line says it.
_FIELDS = 9


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError for a file without events."""
    source = decoded(data, name)
    spans = [span for begin, end in _texts(source, name) for span in _cue(source, begin, end)]
    return spanned(source, spans, _write, _compare, "utf-8", partial(_shape, name=name))


def _shape(data: bytes, name: str) -> object:
    """All but the cues' texts, and their override tags and drawings."""
    source = decoded(data, name)
    texts = list(_texts(source, name))
    return masked(source, texts), [_BLOCK.findall(source, begin, end) for begin, end in texts]


def _texts(source: str, name: str) -> Iterator[tuple[int, int]]:
    """The places of the cues' texts. Raises InputError for a file without events."""
    events, fields = False, _FIELDS
    seen = False
    for at, line in lines_of(source):
        body = line.strip("\ufeff \t\r\n")
        if body.startswith("["):
            events = body.lower() == "[events]"
            seen = seen or events
        elif events and body.lower().startswith("format:"):
            fields = body.count(",")
        elif events and body.lower().startswith("dialogue:"):
            text = re.compile(rf"[^\r\n:]*:(?:[^,\r\n]*,){{{fields}}}").match(line)
            if text is not None:
                yield at + text.end(), at + len(line.rstrip("\r\n"))
    if not seen:
        raise InputError("holds no [Events]", path=name)


def _cue(source: str, begin: int, end: int) -> Iterator[Span]:
    """The speeches of a cue's text [begin, end)."""
    at = begin
    for match in (*_SPEAKER.finditer(source, begin, end), None):
        stop = match.start() if match else end
        span = _speech(source, at, stop)
        if has_letters(Segment(span.text, "", 0, span.marks).prose()):
            yield span
        at = match.end() if match else end


def _speech(source: str, begin: int, end: int) -> Span:
    # lines left empty put the text where it is to be
    begin, end = _LEADING.match(source, begin, end).end(), _trailing(source, begin, end)  # type: ignore[union-attr]
    dash = _DASH.match(source, begin, end)
    begin = dash.end() if dash else begin
    raw = source[begin:end]
    pieces: list[tuple[str, bool]] = []
    drawing = False
    for number, part in enumerate(_BLOCK.split(raw)):
        if number % 2:
            pieces.append((part, True))
            for mode in _DRAWING.finditer(part):
                drawing = mode[1] != "0"
        elif drawing:
            pieces.append((part, True))
        else:
            pieces += with_marks(_BREAK.sub(" ", part).replace("\\h", "\xa0"), IN_PROSE)
    text, marks = joined(pieces)
    return Span(begin, end, text, marks, "".join(re.findall(r"\\[Nn]", raw)))


def _trailing(source: str, begin: int, end: int) -> int:
    """Where a text [begin, end) ends without the empty lines at its end."""
    while source.endswith(("\\N", "\\n"), begin, end):
        end -= 2
    return end


def _write(text: str, segment: Segment) -> str:
    """On as many lines as the source's, which are about as long."""
    breaks = re.findall(r"\\[Nn]", segment.kind)
    words: list[tuple[str, int]] = [("", 0)]  # a word with its tags, and its length without
    for part, mark in parts(text, segment) or parts(segment.text, segment) or []:
        for number, run in enumerate([part] if mark else re.split(r"[ \n]", part)):
            if number:
                words.append(("", 0))
            written = run if mark else run.replace("\xa0", "\\h").replace("{", "(").replace("}", ")")
            words[-1] = (words[-1][0] + written, words[-1][1] + (0 if mark and run.startswith("{") else len(run)))
    left, lines = sum(size + 1 for _, size in words), len(breaks) + 1
    out, length = [words[0][0]], words[0][1] + 1
    for word, size in words[1:]:
        dash = re.match(r"(?:\{[^{}]*\})*[-–—]", word)  # at the beginning of a line it would be another speaker's
        if breaks and not dash and length + size / 2 >= left / lines:
            left, lines, length = left - length, lines - 1, 0
            out.append(breaks.pop(0) + word)
        else:
            out.append(f" {word}")
        length += size + 1
    return "".join(out)


def _compare(text: str, segment: Segment) -> object:
    return _BLOCK.findall(_write(text, segment))
