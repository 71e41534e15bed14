"""Markup inside a sentence: taken out before it is translated, and put back at the words where it stood.

A model of translation knows no tags, and pieces between tags are no sentences. So the sentence is translated whole, and each
piece of markup goes to the place as far into the translation as it stood in the text, counted between the words that both have
(names, numbers, stops), and moved to the edge of a word. That is exact where word order is alike, and near where it is not;
nothing is ever lost or doubled, and order stays.
"""

from __future__ import annotations

import bisect
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Finder(Protocol):
    """Finds the markup of a text: a compiled pattern, or a document's marks."""

    def finditer(self, text: str, /) -> Iterable[Match]:
        """The markup of `text`, in order."""
        ...


@dataclass(frozen=True)
class Item:
    """A piece of markup. offset: where it stood in the plain text; opens: it belongs to the word after it."""

    offset: int
    text: str
    opens: bool


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
    matches = list(keep.finditer(text))
    following = _following(text, matches)
    paired = False  # whether the piece before began inside this word
    for number, (match, after) in enumerate(zip(matches, following, strict=True)):
        run = text[at : match.start()]
        plain += [run] if run else []
        size += len(run)
        last = run[-1:] or last
        marked, at = match.group(), match.end()
        opens = bool(after) and not after.isspace() and after not in _STOPS and not last.isalnum()
        if last.isalnum() and after.isalnum() and not paired and number + 1 < len(matches):
            opens = text[at : matches[number + 1].start()].isalnum()  # both ends of it are in one word: un*house*able
        paired = opens and last.isalnum()
        if last == " " and after == " ":
            opens = True
            if text[at : at + 1] == " ":
                marked, at = marked + " ", at + 1
        elif last == " " and run and size > 1 and (not after or after in _STOPS):
            marked, opens = " " + marked, False
            plain[-1] = run[:-1]
            size, last = size - 1, run[-2:-1]
        elif last == " " and not run and items and size > 1 and (not after or after in _STOPS):
            # several pieces one after another: the space before the first of them goes with it
            plain[-1], size, opens = plain[-1][:-1], size - 1, False
            first = next((n for n in range(len(items) - 1, -1, -1) if items[n].offset <= size), -1) + 1
            items[first:] = [Item(size, (" " if n == first else "") + items[n].text, False) for n in range(first, len(items))]
            last = ""
        items.append(Item(size, marked, opens))
    return Marked(text, "".join([*plain, text[at:]]), tuple(items))


#: Words, numbers and stops; how far, as a part of the text, the same one may stand from where it would without others.
_SAME = re.compile(r"[^\W_]{2,}|[,;:?!()]")
_NEAR = 0.25
#: What belongs to the word before it.
_STOPS = frozenset(".,;:!?)]}»”…")


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
    return Item(item.offset + by, item.text, item.opens)


def _exact(text: str, begin: int, items: Sequence[Item]) -> str:
    out: list[str] = []
    at = 0
    for item in items:
        place = min(max(item.offset - begin, at), len(text))
        out += [text[at:place], item.text]
        at = place
    return "".join([*out, text[at:]])


def _placed(source: str, translation: str, items: Sequence[Item]) -> str:
    """The items at the words of the translation that stand as far into it as theirs in the source.

    Each that opens has a word of its own, if there are enough, so that no link is left without one.
    """
    starts = [0, *(m.start() for m in re.finditer(r"(?<=[\s'’(«“-])\w", translation))]
    ends = [*(m.end() for m in re.finditer(r"\w(?=$|[^\w'’-])", translation)), len(translation)]
    anchors = _anchors(source, translation)
    opened = Counter(item.offset for item in items if item.opens and item.offset < len(source))
    out: list[Item] = []
    least, opened_at = 0, len(source)
    for item in items:
        if item.opens:
            opened.pop(item.offset, None)
            opened_at = item.offset
        free = len(starts) - len(opened)  # words that those that follow do not need
        wanted = max(_mapped(item.offset, anchors), least)
        if item.offset >= len(source):
            place: int | None = len(translation)
        elif item.opens:
            place = _nearest(starts, wanted, least, free)
        else:
            before = bisect.bisect_right(ends, starts[free]) if 0 < free < len(starts) else len(ends)
            place = _nearest(ends, wanted, least + (bool(out) and out[-1].opens and item.offset > opened_at), before)
        least = least if place is None else place
        out.append(Item(least, item.text, item.opens))
    return _exact(translation, 0, out)


def _anchors(source: str, translation: str) -> list[tuple[int, int]]:
    """Places in the source that are sure in the translation, in order: both ends, and words, numbers and stops that both have once."""
    there = {match.group().casefold(): match.start() for match in _SAME.finditer(translation)}
    times = Counter(match.group().casefold() for match in _SAME.finditer(translation))
    times_before = Counter(match.group().casefold() for match in _SAME.finditer(source))
    out = [(0, 0)]
    for match in _SAME.finditer(source):
        token = match.group().casefold()
        if times[token] == times_before[token] == 1:
            place = there[token]
            near = abs(place / len(translation) - match.start() / len(source)) < _NEAR
            if near and place >= out[-1][1] and match.start() >= out[-1][0]:
                out += [(match.start(), place), (match.end(), place + len(token))]
    return [*out, (len(source), len(translation))]


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
