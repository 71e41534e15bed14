"""Markup inside a sentence: taken out before it is translated, and put back at the words where it stood.

A model of translation knows no tags, and pieces between tags are no sentences. So the sentence is translated whole, and each
piece of markup goes to the place as far into the translation as it stood in the text, moved to the edge of a word. That is
exact where word order is alike, and near where it is not; nothing is ever lost or doubled, and order stays.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmkit.translation.pieces import Pieces


class Match(Protocol):
    """A place in a text."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def group(self) -> str: ...


class Finder(Protocol):
    """Finds the markup of a text: a compiled pattern, or a document's marks."""

    def finditer(self, text: str, /) -> Iterable[Match]: ...


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
    for match, after in zip(matches, following, strict=True):
        run = text[at : match.start()]
        plain += [run] if run else []
        size += len(run)
        last = run[-1:] or last
        marked, at = match.group(), match.end()
        opens = bool(after) and not after.isspace() and after not in _STOPS and not last.isalnum()
        if last == " " and text[at : at + 1] == " ":
            marked, at, opens = marked + " ", at + 1, True
        elif last == " " and run.strip() and (not after or after in _STOPS):
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
    """The items at the words of the translation that stand as far into it as theirs in the source."""
    starts = [0, *(m.start() for m in re.finditer(r"(?<=[\s'’(«“-])\w", translation))]
    ends = [*(m.end() for m in re.finditer(r"\w(?=$|[^\w'’-])", translation)), len(translation)]
    out: list[Item] = []
    least = 0
    for item in items:
        wanted = max(round(len(translation) * item.offset / max(len(source), 1)), least)
        place = len(translation) if item.offset >= len(source) else _nearest(starts if item.opens else ends, wanted, least)
        out.append(Item(len(translation) if place is None else place, item.text, item.opens))
        least = out[-1].offset
    return _exact(translation, 0, out)


def _nearest(places: Sequence[int], wanted: int, least: int) -> int | None:
    """The one of the sorted places, from `least` on, that is nearest to `wanted`."""
    number = bisect.bisect_left(places, wanted)
    near = [place for place in places[max(number - 1, 0) : number + 1] if place >= least]
    return min(near, key=lambda place: abs(place - wanted), default=None)
