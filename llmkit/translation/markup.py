"""Markup inside a sentence: taken out before it is translated, and put back at the words where it stood.

A model of translation knows no tags, and pieces between tags are no sentences. So the sentence is translated whole, and each
piece of markup goes to the place as far into the translation as it stood in the text, moved to the edge of a word. That is
exact where word order is alike, and near where it is not; nothing is ever lost or doubled, and order stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmkit.translation.pieces import Pieces


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


def strip(text: str, keep: re.Pattern[str]) -> Marked:
    """Takes out what `keep` finds. What stood between two spaces, or a space and a stop, takes one of them with it."""
    plain = ""
    items: list[Item] = []
    at = 0
    matches = list(keep.finditer(text))
    for number, match in enumerate(matches):
        plain += text[at : match.start()]
        found, at = match.group(), match.end()
        before, after = plain[-1:], _next(text, matches, number)
        opens = bool(after) and not after.isspace() and after not in _STOPS and not before.isalnum()
        if before == " " and text[at : at + 1] == " ":
            found, at, opens = found + " ", at + 1, True
        elif before == " " and plain.strip() and (not after or after in _STOPS) and not (items and items[-1].offset == len(plain)):
            found, plain, opens = " " + found, plain[:-1], False
        items.append(Item(len(plain), found, opens))
    return Marked(text, plain + text[at:], tuple(items))


#: What belongs to the word before it.
_STOPS = frozenset(".,;:!?)]}»”…")


def _next(text: str, matches: Sequence[re.Match[str]], number: int) -> str:
    """The character after a piece of markup and those that follow it at once."""
    end = matches[number].end()
    for match in matches[number + 1 :]:
        if match.start() != end:
            break
        end = match.end()
    return text[end : end + 1]


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
    out, at = "", 0
    for item in items:
        place = min(max(item.offset - begin, at), len(text))
        out += text[at:place] + item.text
        at = place
    return out + text[at:]


def _placed(source: str, translation: str, items: Sequence[Item]) -> str:
    """The items at the words of the translation that stand as far into it as theirs in the source."""
    starts = [0, *(m.start() for m in re.finditer(r"(?<=[\s'’(«“-])\w", translation))]
    ends = [*(m.end() for m in re.finditer(r"\w(?=$|[^\w'’-])", translation)), len(translation)]
    out: list[Item] = []
    least = 0
    for item in items:
        wanted = round(len(translation) * item.offset / max(len(source), 1))
        places = [p for p in (starts if item.opens else ends) if p >= least] or [len(translation)]
        last = item.offset >= len(source)
        place = len(translation) if last else min(places, key=lambda p: abs(p - wanted))
        out.append(Item(place, item.text, item.opens))
        least = place
    return _exact(translation, 0, out)
