"""SubStation Alpha (.ass, .ssa): the text of dialogue lines; styles, times, comments, override tags and drawings stay.

A cue's lines are one sentence and are laid back on as many; a line that begins with a dash is another speaker's. A sentence that goes
on in the next cue of the style is translated whole, and cut again where it was, as far into it.
https://aegisub.org/docs/latest/ass_tags/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from llmkit.errors import InputError
from llmkit.translation.documents.base import Segment, Span, decoded, has_letters, joined, lines_of, parts, with_marks
from llmkit.translation.documents.edits import EditedDocument, masked, spanned
from llmkit.translation.documents.subtitles import LONGEST
from llmkit.translation.placeholders import IN_PROSE

_BLOCK = re.compile(r"(\{[^{}\n]*\})")
_BREAK = re.compile(r"(?<![ \t])[ \t]*\\[Nn][ \t]*|\\[Nn][ \t]*")
_DRAWING = re.compile(r"\\p(\d+)")
#: Fields of a dialogue line before its text, where no Format line says it; those of its style and its speaker.
_FIELDS = 9
_STYLE = slice(3, 5)
#: The beginning of another speaker's line.
_SPEAKER = re.compile(r"\\[Nn](?=(?:\{[^{}\n]*\})*[ \t]*[-–—])")
#: What stands before a speech.
_DASH = re.compile(r"(?:\{[^{}\n]*\}|[ \t])*[-–—][ \t]*")
_LEADING = re.compile(r"(?:[ \t]*\\[Nn])*[ \t]*")
#: What stands between the texts of two cues that follow each other, but for the fields.
_BETWEEN = re.compile(r"(?:[ \t]|\\[Nn])*(?:\r\n|\n|\r)Dialogue:[^\r\n]*", re.IGNORECASE)
Place = tuple[int, int]


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError for a file without events."""
    source = decoded(data, name)
    speeches = [(place, begin, who) for begin, end, who in _texts(source, name) for place in _cue(source, begin, end)]
    spans = [_span(source, group) for group in _sentences(source, speeches)]
    worded = [span for span in spans if has_letters(Segment(span.text, "", 0, span.marks).prose())]
    return spanned(source, worded, _write, _compare, "utf-8", partial(_shape, name=name))


def _sentences(source: str, speeches: Sequence[tuple[Place, int, str]]) -> Iterator[list[Place]]:
    """Speeches (their places, where their cue's text begins, whose they are); those that are one sentence together."""
    group: list[Place] = []
    before = ""
    for place, begin, who in speeches:
        if group and (len(group) == LONGEST or who != before or not _goes_on(source, group[-1], place, begin)):
            yield group
            group = []
        group.append(place)
        before = who
    if group:
        yield group


def _goes_on(source: str, before: Place, after: Place, begin: int) -> bool:
    """Whether a sentence that does not end goes on in a small letter in the next cue, whose text begins at `begin`."""
    if begin < before[1] or not _BETWEEN.fullmatch(source, before[1], begin) or not _LEADING.fullmatch(source, begin, after[0]):
        return False
    if _DRAWING.search(source, before[0], after[1]):
        return False
    first, second = (_BLOCK.sub("", source[slice(*place)]).strip() for place in (before, after))
    return (first[-1:].isalnum() or first[-1:] == ",") and second[:1].islower()


def _shape(data: bytes, name: str) -> object:
    """All but the cues' texts, and their override tags and drawings."""
    source = decoded(data, name)
    texts = [(begin, end) for begin, end, _ in _texts(source, name)]
    cues = [(_BLOCK.findall(source, begin, end), has_letters(_BLOCK.sub("", source[begin:end]))) for begin, end in texts]
    return masked(source, texts), cues


def _texts(source: str, name: str) -> Iterator[tuple[int, int, str]]:
    """The places of the cues' texts, and whose they are. Raises InputError for a file without events."""
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
                yield at + text.end(), at + len(line.rstrip("\r\n")), ",".join(text.group().split(",")[_STYLE])
    if not seen:
        raise InputError("holds no [Events]", path=name)


def _cue(source: str, begin: int, end: int) -> Iterator[Place]:
    """The places of the speeches of a cue's text [begin, end), without the empty lines and the dash before them."""
    at = begin
    for match in (*_SPEAKER.finditer(source, begin, end), None):
        stop = match.start() if match else end
        # lines left empty put the text where it is to be
        first, last = _LEADING.match(source, at, stop).end(), _trailing(source, at, stop)  # type: ignore[union-attr]
        dash = _DASH.match(source, first, last)
        yield dash.end() if dash else first, last
        at = match.end() if match else end


def _span(source: str, group: Sequence[Place]) -> Span:
    """What is said in one cue, or in several with what stands between them as marks. kind: of each cue its line breaks."""
    pieces = list(_pieces(source[slice(*group[0])]))
    for before, place in pairwise(group):
        pieces += [(" ", False), (source[before[1] : place[0]], True), *_pieces(source[slice(*place)])]
    text, marks = joined(pieces)
    breaks = ("".join(re.findall(r"\\[Nn]", source[slice(*place)])) for place in group)
    return Span(group[0][0], group[-1][1], text, marks, "|".join(breaks))


def _pieces(raw: str) -> Iterator[tuple[str, bool]]:
    drawing = False
    for number, part in enumerate(_BLOCK.split(raw)):
        if number % 2:
            yield part, True
            for mode in _DRAWING.finditer(part):
                drawing = mode[1] != "0"
        elif drawing:
            yield part, True
        else:
            yield from with_marks(_BREAK.sub(" ", part).replace("\\h", "\xa0"), IN_PROSE)


def _trailing(source: str, begin: int, end: int) -> int:
    """Where a text [begin, end) ends without the empty lines at its end."""
    while source.endswith(("\\N", "\\n"), begin, end):
        end -= 2
    return end


def _write(text: str, segment: Segment) -> str:
    """Each cue on as many lines as the source's, which are about as long."""
    cues: list[list[tuple[str, bool]]] = [[]]
    between: list[str] = []
    for part, mark in parts(text, segment) or parts(segment.text, segment) or []:
        if mark and re.search(r"[\r\n]", part):
            between.append(part)
            cues.append([])
        else:
            cues[-1].append((part, mark))
    laid = [_laid(cue, re.findall(r"\\[Nn]", kind)) for cue, kind in zip(cues, segment.kind.split("|"), strict=True)]
    return "".join(piece for pair in zip(laid, [*between, ""], strict=True) for piece in pair)


def _laid(pieces: Sequence[tuple[str, bool]], breaks: list[str]) -> str:
    words: list[tuple[str, int]] = [("", 0)]  # a word with its tags, and its length without
    for part, mark in pieces:
        for number, run in enumerate([part] if mark else re.split(r"[ \n]", part)):
            if number:
                words.append(("", 0))
            written = run if mark else run.replace("\xa0", "\\h").replace("{", "(").replace("}", ")")
            words[-1] = (words[-1][0] + written, words[-1][1] + (0 if mark and run.startswith("{") else len(run)))
    words = [word for number, word in enumerate(words) if word[0] or not number]
    left, lines = sum(size + 1 for _, size in words), len(breaks) + 1
    out, length = [words[0][0]], words[0][1] + 1
    for word, size in words[1:]:
        dash = re.match(r"(?:\{[^{}]*\})*[-–—]", word)  # at the beginning of a line it would be another speaker's
        if not out[0]:
            out = [word]
        elif breaks and not dash and length + size / 2 >= left / lines:
            left, lines, length = left - length, lines - 1, 0
            out.append(breaks.pop(0) + word)
        else:
            out.append(f" {word}")
        length += size + 1
    return "".join(out)


def _compare(text: str, segment: Segment) -> object:
    return _BLOCK.findall(_write(text, segment))
