"""Markup inside a sentence: taken out before it is translated, and put back at the words where it stood.

A model of translation knows no tags, and pieces between tags are no sentences. So the sentence is translated whole, and each
piece of markup goes to the sign, number or name that it stood at, where the translation has it. Else it goes as far into the
translation as it stood in the text, counted between the words that both have, and to the edge of a word. That is exact where word
order is alike, and near where it is not; nothing is ever lost or doubled, and order stays.
"""

from __future__ import annotations

import bisect
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

from llmkit.translation.pieces import Pieces


class Match(Protocol):
    """A place in a text."""

    def start(self) -> int:
        """Where it begins."""
        ...

    def end(self) -> int:
        """Behind its last character."""
        ...

    def group(self) -> str:
        """The text of the match."""
        ...


@dataclass(frozen=True)
class Mark:
    """A place in a text, with the methods of a match."""

    begin: int
    stop: int
    text: str

    def start(self) -> int:
        """Where it begins."""
        return self.begin

    def end(self) -> int:
        """Behind its last character."""
        return self.stop

    def group(self) -> str:
        """The text of the mark."""
        return self.text


class Finder(Protocol):
    """Finds the markup of a text: a compiled pattern, or a document's marks."""

    def finditer(self, text: str, /) -> Iterable[Match]:
        """The markup of `text`, in order."""
        ...


class Item(NamedTuple):
    """A piece of markup. offset: where it stood in the plain text; opens: it belongs to the word after it; breaks: a line end is there."""

    offset: int
    text: str
    opens: bool
    breaks: bool = False


@dataclass(frozen=True)
class Marked:
    """A text, the text without its markup, and the markup."""

    text: str
    plain: str
    items: tuple[Item, ...]

    def joined(self, pieces: Pieces, translations: Sequence[str]) -> str:
        """The translations of the plain text's pieces put together, the markup in them."""
        if all(piece.text == translation for piece, translation in zip(pieces.pieces, translations, strict=True)):
            return self.text
        out: list[str] = []
        left = list(self.items)
        at = 0
        for piece, translation in zip(pieces.pieces, translations, strict=True):
            begin, end = at + len(piece.before), at + len(piece.before) + len(piece.text)
            before = _take(left, begin, inner=True)
            out.append(_exact(piece.before, at, before))
            inside = _take(left, end)
            out.append(translation if not inside else _placed(piece.text, translation, [_moved(i, -begin) for i in inside]))
            at = end
        out.append(_exact(pieces.after, at, left))
        return "".join(out)


def strip(text: str, keep: Finder) -> Marked:
    """Takes out what `keep` finds. What stood between two spaces, or a space and a stop, takes one of them with it."""
    plain: list[str] = []
    size, last = 0, ""
    items: list[Item] = []
    at = 0
    matches = list(_enclosed(text, list(_glued(text, keep.finditer(text)))))
    following = _following(text, matches)
    paired = False  # whether the piece before began inside this word
    for number, (match, after) in enumerate(zip(matches, following, strict=True)):
        run = text[at : match.start()]
        plain += [run] if run else []
        size += len(run)
        last = run[-1:] or last
        marked, at = match.group(), match.end()
        if _BREAK.fullmatch(marked):  # what is on both sides of it are texts of their own
            items.append(Item(size, marked, True, True))
            plain.append("\n")
            size, last, paired = size + 1, "\n", False
            continue
        opens = bool(after) and not after.isspace() and after not in _STOPS and not last.isalnum()
        if last.isalnum() and after.isalnum() and not paired and number + 1 < len(matches):
            opens = text[at : matches[number + 1].start()].isalnum()  # both ends of it are in one word: un*house*able
        paired = opens and last.isalnum()
        if last in _SPACES and after in _SPACES:
            opens = True
            if text[at : at + 1] in _SPACES:
                marked, at = marked + text[at], at + 1
        elif last in _SPACES and run and size > 1 and (not after or after in _STOPS):
            marked, opens = last + marked, False
            plain[-1] = run[:-1]
            size, last = size - 1, run[-2:-1]
        elif last in _SPACES and not run and items and size > 1 and (not after or after in _STOPS):
            # several pieces one after another: the space before the first of them goes with it
            space = last
            plain[-1], size, opens = plain[-1][:-1], size - 1, False
            first = next((n for n in range(len(items) - 1, -1, -1) if items[n].offset <= size), -1) + 1
            items[first:] = [Item(size, (space if n == first else "") + items[n].text, False) for n in range(first, len(items))]
            last = ""
        items.append(Item(size, marked, opens))
    return Marked(text, "".join([*plain, text[at:]]), tuple(items))


#: A line break inside a message.
_BREAK = re.compile(r"<br\b[^<>]*>|<x\b[^<>]*\b(?:ctype=\"(?:x-br|lb)\"|id=\"LINE_BREAK\")[^<>]*>", re.IGNORECASE)
#: Words, numbers and stops; how far, as a part of the text, the same one may stand from where it would without others.
_SAME = re.compile(r"[^\W_]{2,}|[,;:?!()]")
_NEAR = 0.25
#: Times that a word may stand in a text and tell a place.
_OFTEN = 8
#: Signs that a translation keeps, numbers, and what stands between spaces; how far a sign may stand from where it would without others.
_SIGN = re.compile(r"[^\w\s'’]")
_NUMBER = re.compile(r"\d+")
_RUN = re.compile(r"\S+")
_CLOSE = 0.15
#: Signs between two pieces of markup that make one of them: Ctrl+C, %s/%s.
_GLUE = re.compile(r"[-+/|→>·×:@&~–=.]{1,2}")
_ENCLOSING = {"(": ")", "<": ">", "[": "]", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
#: Edges of a piece of markup at which a letter, or another piece, would become part of it.
_EDGE = re.compile(r"[\w`#@$-]")
#: What stands between two words; some do not break.
_SPACES = frozenset(" \xa0\u202f")
#: What belongs to the word before it.
_STOPS = frozenset(".,;:!?)]}»”…")


def _glued(text: str, matches: Iterable[Match]) -> Iterator[Match]:
    """The pieces of markup; those with nothing but a sign between them, and no word before them, as one."""
    before: Match | None = None
    for match in matches:
        glued = before is not None and _GLUE.fullmatch(text, before.end(), match.start())
        if before is not None and glued and not text[max(before.start() - 1, 0) : before.start()].isalnum():
            before = Mark(before.start(), match.end(), text[before.start() : match.end()])
            continue
        if before is not None:
            yield before
        before = match
    if before is not None:
        yield before


def _enclosed(text: str, matches: Sequence[Match]) -> Iterator[Match]:
    """The pieces of markup; one that brackets or quotation marks hold alone has them with it."""
    ended = 0
    for number, match in enumerate(matches):
        begin, end = match.start(), match.end()
        following = matches[number + 1].start() if number + 1 < len(matches) else len(text)
        if ended < begin and end < following and _ENCLOSING.get(text[begin - 1]) == text[end]:
            yield Mark(begin - 1, end + 1, text[begin - 1 : end + 1])
            ended = end + 1
        else:
            yield match
            ended = end


def _following(text: str, matches: Sequence[Match]) -> list[str]:
    """For each piece of markup the character after it and those that follow it at once."""
    out: list[str] = []
    for number in range(len(matches) - 1, -1, -1):
        end = matches[number].end()
        touches = number + 1 < len(matches) and matches[number + 1].start() == end
        out.append(out[-1] if touches else text[end : end + 1])
    return out[::-1]


def _take(items: list[Item], end: int, *, inner: bool = False) -> list[Item]:
    """The items up to `end`, out of the list; inner: of those at `end` itself only what belongs to the word before."""
    count = 0
    while count < len(items) and (items[count].offset < end or (items[count].offset == end and not (inner or items[count].opens))):
        count += 1
    taken = items[:count]
    del items[:count]
    return taken


def _moved(item: Item, by: int) -> Item:
    return item._replace(offset=item.offset + by)


def _exact(text: str, begin: int, items: Sequence[Item]) -> str:
    out: list[str] = []
    at = 0
    for item in items:
        place = min(max(item.offset - begin, at), len(text))
        out += [text[at:place], item.text]
        at = place + item.breaks
    return "".join([*out, text[at:]])


def _placed(source_text: str, translation: str, items: Sequence[Item]) -> str:
    """The items where the translation has the same signs, numbers or names; else at the words that stand as far into it as theirs.

    Each that opens has a word of its own, if there are enough, so that no link is left without one.
    """
    anchors = _anchors(source_text, translation)
    sure = _sure(source_text, translation, items, anchors)
    out = _at_words(source_text, translation, items, anchors, sure)
    pairs = zip(pairwise(out), pairwise(items), strict=True)
    if any(sure) and any(a.opens and a.offset == b.offset and c.offset < d.offset for (a, b), (c, d) in pairs):
        out = _at_words(source_text, translation, items, anchors, [None] * len(items))  # an order in which something would be left empty
    return _exact(translation, 0, list(_spaced(source_text, translation, items, out)))


def _spaced(source_text: str, translation: str, items: Sequence[Item], out: Sequence[Item]) -> Iterator[Item]:
    """The items in their places, a space between one and a letter or an item that it did not touch in the source."""
    last, touches = "", -1
    for before, item in zip(items, out, strict=True):
        text, at = item.text, before.offset
        left = last if item.offset == touches else translation[max(item.offset - 1, 0) : item.offset]
        text = f" {text}" if _EDGE.match(text) and _EDGE.match(left) and not (at and source_text[at - 1].isalnum()) else text
        if _EDGE.match(text[-1:]) and translation[item.offset : item.offset + 1].isalnum() and not source_text[at : at + 1].isalnum():
            text = f"{text} "
        last, touches = text[-1:], item.offset
        yield item._replace(text=text)


def _at_words(
    source_text: str, translation: str, items: Sequence[Item], anchors: Sequence[tuple[int, int]], sure: Sequence[int | None]
) -> list[Item]:
    """The items at their places in the translation. sure: those that are known."""
    starts = [0, *(m.start() for m in re.finditer(r"(?<=[\s'’\"(\[«“‘-])\w", translation))]
    runs = [match.start() for match in _RUN.finditer(translation)]
    ends = [*(m.end() for m in re.finditer(r"\w(?=$|[^\w'’.,:@/-]|[.,:@/-](?!\w))", translation)), len(translation)]
    limits = list(accumulate((len(translation) if known is None else known for known in reversed(sure)), min))[::-1]
    opened = Counter(item.offset for n, item in enumerate(items) if item.opens and sure[n] is None and item.offset < len(source_text))
    out: list[Item] = []
    least, opened_at = 0, len(source_text)
    for item, known, limit, apart in zip(items, sure, limits, _alone(items), strict=True):
        if item.opens:
            opened.pop(item.offset, None)
            opened_at = item.offset
        free = len(starts) - len(opened)  # words that those that follow do not need
        wanted = max(_mapped(item.offset, anchors), least)
        if known is not None:
            place: int | None = max(known, least)
        elif item.offset >= len(source_text):
            place = len(translation)
        elif not item.offset and not item.opens:  # before a stop at the beginning: @tom: yes
            place = least
        elif apart:  # between two spaces it is no part of a word: l'homme
            last = min(starts[free], limit) if 0 < free < len(starts) else limit
            place = _nearest(runs, wanted, least, bisect.bisect_right(runs, last))
        elif item.opens:
            place = _nearest(starts, wanted, least, min(free, bisect.bisect_right(starts, limit)))
        else:
            before = bisect.bisect_right(ends, min(starts[free], limit) if 0 < free < len(starts) else limit)
            place = _nearest(ends, wanted, least + (bool(out) and out[-1].opens and item.offset > opened_at), before)
        least = least if place is None else place
        out.append(Item(least, item.text, item.opens))
    return out


def _alone(items: Sequence[Item]) -> list[bool]:
    """Which of the items stood between two spaces, alone or several one after another."""
    out: list[bool] = []
    for number in range(len(items) - 1, -1, -1):
        item = items[number]
        touches = bool(out) and out[-1] and items[number + 1].offset == item.offset
        out.append(item.opens and (item.text[-1:] in _SPACES or touches))
    return out[::-1]


def _sure(source_text: str, translation: str, items: Sequence[Item], anchors: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each item the place that is sure, or None."""
    before, after = _Signs(source_text), _Signs(translation)
    out: list[int | None] = []
    last = 0
    for item in items:
        wanted = _mapped(item.offset, anchors)
        place = before.same(item, after, wanted) if 0 < item.offset < len(source_text) else None
        place = None if place is None or place < last or abs(place - wanted) > _NEAR * len(translation) else place
        last = last if place is None else place
        out.append(place)
    return out


class _Signs:
    """Where signs, numbers and words of a text stand: what a translation keeps as it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.signs: dict[str, list[int]] = {}
        self.numbers: dict[str, list[int]] = {}
        self.words: dict[str, list[int]] = {}
        self.runs: list[tuple[int, str]] = []
        for match in _SIGN.finditer(text):
            self.signs.setdefault(match.group(), []).append(match.start())
        for match in _NUMBER.finditer(text):
            self.numbers.setdefault(match.group(), []).append(match.start())
        for match in _RUN.finditer(text):
            self.words.setdefault(match.group().lower(), []).append(match.start())
            self.runs.append((match.start(), match.group()))

    def same(self, item: Item, other: _Signs, wanted: int) -> int | None:
        """The place in another text that is that of the item in this one, where both have what it stands at. wanted: about where."""
        at, text = item.offset, self.text
        left, right = text[at - 1], text[at]
        if not left.isspace() and not right.isspace():
            begin, run = self.runs[bisect.bisect_right(self.runs, (at, "")) - 1]
            word = run.lower()
            if len(word) == len(run):
                there = _paired(self.words[word], other.words.get(word, ()), begin)
                if there is not None:
                    return there + at - begin
        if item.opens and right.isdigit() and not left.isdigit() and (number := _NUMBER.match(text, at)):
            return _paired(self.numbers[number.group()], other.numbers.get(number.group(), ()), at)
        sign = right if item.opens else left
        places, others = self.signs.get(sign, ()), other.signs.get(sign, ())
        there = _paired(places, others, at if item.opens else at - 1)
        if there is None and others and places:
            near = _nearest(others, wanted, 0, len(others))
            there = near if near is not None and abs(near - wanted) <= _CLOSE * len(other.text) else None
        return None if there is None else there + (not item.opens)


def _paired(places: Sequence[int], others: Sequence[int], at: int) -> int | None:
    """The one of the others that is as many as `at` is of the places, where there are as many of them."""
    number = bisect.bisect_left(places, at)
    return others[number] if len(places) == len(others) and places[number : number + 1] == [at] else None


def _anchors(source_text: str, translation: str) -> list[tuple[int, int]]:
    """Places in the source that are sure in the translation, in order: both ends, and words, numbers and stops that both have as often."""
    there, here = _places(translation), _places(source_text)
    out = [(0, 0)]
    for match in _SAME.finditer(source_text):
        token = match.group().casefold()
        place = _paired(here[token], there.get(token, ()), match.start()) if len(here[token]) <= _OFTEN else None
        if place is None or place < out[-1][1] or match.start() < out[-1][0]:
            continue
        if abs(place / len(translation) - match.start() / len(source_text)) < _NEAR:
            out += [(match.start(), place), (match.end(), place + len(token))]
    return [*out, (len(source_text), len(translation))]


def _places(text: str) -> dict[str, list[int]]:
    """Where each word, number and stop of a text stands."""
    out: dict[str, list[int]] = {}
    for match in _SAME.finditer(text):
        out.setdefault(match.group().casefold(), []).append(match.start())
    return out


def _mapped(offset: int, anchors: Sequence[tuple[int, int]]) -> int:
    """The place in the translation that is as far between two anchors as the offset is in the source."""
    number = max(bisect.bisect_right(anchors, (offset, sys.maxsize)) - 1, 0)
    (a, b), (c, d) = anchors[number], anchors[min(number + 1, len(anchors) - 1)]
    return b + (round((d - b) * (offset - a) / (c - a)) if c > a else 0)


def _nearest(places: Sequence[int], wanted: int, least: int, count: int) -> int | None:
    """The one of the first `count` sorted places, from `least` on, that is nearest to `wanted`."""
    first = bisect.bisect_left(places, least)
    number = bisect.bisect_left(places, wanted)
    near = places[max(number - 1, first) : min(number + 1, count)] or ([places[count - 1]] if first < count else [])
    return min(near, key=lambda place: abs(place - wanted), default=None)
