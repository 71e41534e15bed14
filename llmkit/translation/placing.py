"""Where the markup of a sentence goes in its translation.

Each piece goes to the sign, number or name that it stood at, where the translation has it. Else it goes as far into the translation
as it stood in the text, counted between the words that both have, and to the edge of a word. That is exact where word order is
alike, and near where it is not; nothing is ever lost or doubled, and order stays.
"""

from __future__ import annotations

import bisect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

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
#: Edges of a piece of markup at which a letter, or another piece, would become part of it.
_EDGE = re.compile(r"[\w`#@$-]")
#: What stands between two words; some do not break.
SPACES = frozenset(" \xa0\u202f")


class Item(NamedTuple):
    """A piece of markup. offset: where it stood in the plain text; opens: it belongs to the word after it; breaks: a line end is there."""

    offset: int
    text: str
    opens: bool
    breaks: bool = False


def exact(text: str, begin: int, items: Sequence[Item]) -> str:
    """The text, which begins at `begin`, with the items at their offsets."""
    out: list[str] = []
    at = 0
    for item in items:
        place = min(max(item.offset - begin, at), len(text))
        out += [text[at:place], item.text]
        at = place + item.breaks
    return "".join([*out, text[at:]])


def placed(source_text: str, translation: str, items: Sequence[Item]) -> str:
    """The items where the translation has the same signs, numbers or names; else at the words that stand as far into it as theirs.

    Each that opens has a word of its own, if there are enough, so that no link is left without one.
    """
    anchors = _anchors(source_text, translation)
    sure = _sure(source_text, translation, items, anchors)
    out = _at_words(source_text, translation, items, anchors, sure)
    pairs = zip(pairwise(out), pairwise(items), strict=True)
    if any(sure) and any(a.opens and a.offset == b.offset and c.offset < d.offset for (a, b), (c, d) in pairs):
        out = _at_words(source_text, translation, items, anchors, [None] * len(items))  # an order in which something would be left empty
    return exact(translation, 0, list(_spaced(source_text, translation, items, out)))


def _spaced(source_text: str, translation: str, items: Sequence[Item], out: Sequence[Item]) -> Iterator[Item]:
    """The items in their places, a space between one and a letter or an item that it did not touch in the source."""
    last, touches, stood = "", -1, -1
    for before, item in zip(items, out, strict=True):
        text, at = item.text, before.offset
        left = last if item.offset == touches else translation[max(item.offset - 1, 0) : item.offset]
        beside = at > 0 and (source_text[at - 1].isalnum() or source_text[at - 1] == left)  # it stood there without a space
        beside = beside or (item.offset == touches and at == stood)
        text = f" {text}" if _EDGE.match(text) and _EDGE.match(left) and not beside else text
        if _EDGE.match(text[-1:]) and translation[item.offset : item.offset + 1].isalnum() and not source_text[at : at + 1].isalnum():
            text = f"{text} "
        last, touches, stood = text[-1:], item.offset, at
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
        out.append(item.opens and (item.text[-1:] in SPACES or touches))
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
