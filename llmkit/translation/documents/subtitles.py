"""SubRip (.srt) and WebVTT (.vtt): what each speaker says in a cue is a segment; numbers, timing, notes and styles stay.

A sentence that goes on in the next cue is translated whole, and cut again where it was, as far into it.

SubRip has no standard and is read as players read it; WebVTT: https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from itertools import pairwise

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
from llmkit.translation.placeholders import SYMBOL

#: Players also read times without leading zeros or without a fraction.
_TIME = r"(?:\d+:)?\d{1,2}:\d{1,2}(?:[.,]\d{1,3})?"
#: ... and with other arrows or spaces, as other translators leave them.
_FULL = r"\d+[ \t]*:[ \t]*\d{1,2}[ \t]*:[ \t]*\d{1,2}(?:[ \t]*[.,][ \t]*\d{1,3})?"
_TIMING = re.compile(rf"\s*(?:{_TIME}\s*-->\s*{_TIME}|{_FULL}\s*(?:-*[-=–—]>?|→)\s*{_FULL})")
_TAG = r"</?[a-zA-Z][^<>\n]*>|<[\d:.]+>|</>|\{\\[^{}\n]*\}"
#: <i>, <v Name>, <00:01.000>, SubStation's {\an8}.
_MARKS = re.compile(_TAG)
_STAY = re.compile(f"<rt[^<>]*>[^<>\n]*|{_TAG}|{SYMBOL}")
#: The beginning of what a speaker says: a dash, >>, a song, WebVTT's voice, also behind tags.
_SPEAKER = re.compile(rf"\s*(?:{_TAG})*?(?:[-–—‐‑](?:[ \t]+(?=\S)|(?=[^\s\d-]))|>>|[♪♫]|<v[ .])")
#: A speaker's name before what is said.
_NAME = re.compile(rf"\s*((?:{_TAG})*?)([A-Z][A-Z0-9][A-Z0-9 .'’#-]{{0,24}}(?:[ ]?\([^()\n]{{1,40}}\))?:)(?=\s|\Z)")
#: A line that says what is heard: [door opens]; one that ends a song.
_ASIDE = re.compile(rf"(?:\s*(?:{_TAG})*?[\[(][^\[\]()]+[\])]|(?=[^\w\n]*+\w)(?:[^\n♪♫]*+[♪♫]++)++)(?:{_TAG})*\s*\Z")
_DASH = re.compile(rf"\s*((?:{_TAG})*)([-–—‐‑][ \t]*|>>+[ \t]*|[♪♫]+[ \t]*)")
#: A line that players show whole; the longest of the cue counts, too.
_WIDTH = 42

#: What stands between the texts of two cues that follow each other: a number or name, and the timing.
_BETWEEN = re.compile(rf"(?:\s*\n|\r)(?:([^\r\n]*)(?:\r\n|\n|\r))?{_TIMING.pattern}[^\r\n]*(?:\r\n|\n|\r)")
#: The language that a file names in its head, as YouTube's do.
_LANGUAGE = re.compile(r"(\A\ufeff?WEBVTT[^\r\n]*(?:(?:\r\n|\n|\r)(?!Language:)[^\r\n]+)*(?:\r\n|\n|\r)Language:[ \t]*)[A-Za-z-]+")
#: Cues that a sentence may go over.
LONGEST = 4

Lines = list[tuple[int, int]]


def parse(data: bytes, name: str, target: str | None = None) -> TextDocument:
    """Raises InputError for a file without a cue."""
    source = decoded(data, name)
    vtt = source.lstrip("\ufeff").startswith("WEBVTT")
    if vtt and target is not None:
        source = _LANGUAGE.sub(lambda match: match[1] + target, source, count=1)
    cues = list(_cues(source, vtt))
    if not cues and not any(_TIMING.match(line) for _, line in lines_of(source)) and source.strip("\ufeff \r\n\t") not in ("", "WEBVTT"):
        raise InputError("holds no cue (no line with -->)", path=name)
    spans = [
        _span(source, group, vtt)
        for group in _sentences(source, [lines for cue in cues for lines in _speeches(source, cue, _SPEAKER, _NAME, _ASIDE)])
    ]
    worded = [span for span in spans if has_letters(Segment(span.text, "", 0, span.marks).prose()) and not _is_data(span.text)]
    return cut(source, worded, _write, shape=lambda built: _skeleton(decoded(built, name), vtt))


def _is_data(text: str) -> bool:
    """Whether a cue holds JSON for a program, as tracks of metadata have it."""
    if not text.startswith("{") or not text.endswith("}"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _sentences(source: str, speeches: list[Lines]) -> Iterator[list[Lines]]:
    """Speeches; those of cues that follow each other together where a sentence goes on in the next one."""
    group: list[Lines] = []
    for lines in speeches:
        if group and (len(group) == LONGEST or not _goes_on(source, group[-1], lines)):
            yield group
            group = []
        group.append(lines)
    if group:
        yield group


def _goes_on(source: str, before: Lines, after: Lines) -> bool:
    """Whether a sentence that does not end goes on in a small letter, with nothing but the next cue's timing between."""
    between = _BETWEEN.fullmatch(source, before[-1][1], after[0][0])
    if between is None or (between[1] or "").strip().startswith(("NOTE", "STYLE", "REGION")):
        return False
    first, second = (_MARKS.sub("", source[lines[0][0] : lines[-1][1]]).strip() for lines in (before, after))
    if second.startswith(first.splitlines()[-1:][0] if first else "\0"):
        return False  # captions that roll: a cue shows the line before once more
    return (first[-1:].isalnum() or first[-1:] == ",") and second[:1].islower()


def _skeleton(source: str, vtt: bool) -> list[object]:
    """What is around the cues; of each cue its speeches: the dash, the tags, whether there are words."""
    out: list[object] = []
    at = 0
    for cue in _cues(source, vtt):
        out.append(source[at : cue[0][0]])
        at = cue[-1][1]
        for lines in _speeches(source, cue, _SPEAKER):
            raw = source[lines[0][0] : lines[-1][1]]
            dash = _DASH.match(raw)
            out.append(
                (dash[2].strip() if dash else "", [match.group() for match in _MARKS.finditer(raw)], has_letters(_MARKS.sub("", raw)))
            )
    return [*out, source[at:]]


def _cues(source: str, vtt: bool) -> Iterator[Lines]:
    """The lines of text that stand together in a cue. In SubRip a cue reaches to the next number and timing."""
    lines = [(at, at + len(line.rstrip("\r\n"))) for at, line in lines_of(source)]
    timed = [bool(_TIMING.match(source, a, b)) for a, b in lines]
    # whether a timing is the next line that is not blank
    before = [False] * (len(lines) + 1)
    for number in range(len(lines) - 1, -1, -1):
        blank = number + 1 < len(lines) and not source[slice(*lines[number + 1])].strip()
        before[number] = before[number + 1] if blank else number + 1 < len(lines) and timed[number + 1]
    inside, group = False, []  # type: bool, Lines
    for number, (a, b) in enumerate(lines):
        body = source[a:b].strip()
        counts = body.isdecimal() and not vtt and before[number]
        if vtt and inside and not body and a < b:
            continue  # a line of spaces ends no cue
        if timed[number] or not body or counts:
            if group:
                yield group
            group = []
            inside = timed[number] or (inside and not vtt and not counts)
        elif inside:
            group.append((a, b))
    if group:
        yield group


def _speeches(source: str, lines: Lines, *speaker: re.Pattern[str]) -> Iterator[Lines]:
    """One for the cue, or one from each speaker to the next. speaker: what a speech begins with."""
    texts = [source[a:b] for a, b in lines]
    asides = [_ASIDE in speaker and bool(_ASIDE.match(text)) for text in texts]
    begins = [n for n, text in enumerate(texts) if n and (asides[n - 1] or any(pattern.match(text) for pattern in speaker))]
    for begin, end in zip([0, *begins], [*begins, len(lines)], strict=True):
        yield lines[begin:end]


def _span(source: str, group: list[Lines], vtt: bool) -> Span:
    """What is said in one cue, or in several with what stands between them as marks."""
    begin, end = group[0][0][0], group[-1][-1][1]
    raw = one_line(source[begin : group[0][-1][1]])
    pieces: list[tuple[str, bool]] = []
    if dash := _DASH.match(raw):
        pieces = [*with_marks(dash[1], _MARKS), (dash[2], True)]
        begin, raw = begin + dash.start(1), raw[dash.end() :]
    if name := _NAME.match(raw):
        pieces += [(raw[: name.start(1)], False), *with_marks(name[1], _MARKS), (name[2], True)]
        raw = raw[name.end() :]
    pieces += with_marks(raw, _STAY)
    for before, lines in pairwise(group):
        pieces += [(" ", False), (source[before[-1][1] : lines[0][0]], True)]
        pieces += with_marks(one_line(source[lines[0][0] : lines[-1][1]]), _STAY)
    text, marks = joined([(text if mark or not vtt else html.unescape(text), mark) for text, mark in pieces])
    return Span(begin, end, text, marks, "vtt" if vtt else "")


Word = tuple[str, int]  # with its tags, and its length without


def _write(text: str, segment: Segment) -> str:
    """The translation in the lines of its cues, none longer than the cue's longest, or what players show; tags have no length."""
    end = "\r\n" if "\r\n" in segment.raw else "\n"
    cues: list[list[Word]] = [[("", 0)]]
    between: list[str] = []
    first = not _DASH.match(_MARKS.sub("", segment.text))
    for part, mark in parts(text, segment) or [(text, False)]:
        if mark and _BETWEEN.fullmatch(part):
            between.append(part)
            cues.append([("", 0)])
            continue
        first = first and (not mark or part.startswith(("<", "{")))  # behind a speaker's name the dash is the text's
        if first and not mark and part.strip():
            part, first = re.sub(r"^\s*[-–—‐‑]+\s*(?!\d)", "", part), False  # of a speaker that the source does not have
        words = cues[-1]
        for number, run in enumerate([part] if mark else part.replace("\n", " ").split(" ")):
            written = html.escape(run, quote=False) if segment.kind == "vtt" and not mark else run
            if number:
                words.append(("", 0))
            size = 0 if mark and part[0] in "<{" else len(run)
            words[-1] = (words[-1][0] + written, words[-1][1] + size)
    filled = [[word for word in words if word[0]] for words in cues]
    sources = _cut_at(segment.raw, between)
    out = [end.join(_wrapped(words, _width(words, raw))) for words, raw in zip(filled, sources, strict=True)]
    return "".join(piece for pair in zip(out, [*between, ""], strict=True) for piece in pair)


def _cut_at(raw: str, between: list[str]) -> list[str]:
    out = []
    for each in between:
        before, _, raw = raw.partition(each)
        out.append(before)
    return [*out, raw]


def _width(words: list[Word], raw: str) -> int:
    """Of lines that are about as long as each other."""
    shown = sum(size + 1 for _, size in words) - 1
    width = max(_WIDTH, *(len(_MARKS.sub("", line)) for line in raw.splitlines()), 0)
    return min(width, shown // max(-(-shown // width), 1) + 8)


def _wrapped(words: list[Word], width: int) -> list[str]:
    """Lines of at most `width`. None but the first begins with a dash, which would be another speaker's."""
    lines: list[str] = []
    left = 0
    for number, (word, size) in enumerate(words):
        if lines and (size < left or _SPEAKER.match(" ".join(word for word, _ in words[number : number + 2]))):
            lines[-1] += f" {word}"
            left -= size + 1
        else:
            lines.append(word)
            left = width - size
    return [line.replace("-->", "->") for line in lines]
