"""Markup inside a sentence: taken out before it is translated, and put back at the words where it stood.

A model of translation knows no tags, and pieces between tags are no sentences. So the sentence is translated whole, and `placing`
says where each piece of markup goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmkit.translation.pieces import Pieces
from llmkit.translation.placing import SPACES, Item, exact, placed


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
            out.append(exact(piece.before, at, before))
            inside = _take(left, end)
            out.append(translation if not inside else placed(piece.text, translation, [_moved(i, -begin) for i in inside]))
            at = end
        out.append(exact(pieces.after, at, left))
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
        if last in SPACES and after in SPACES:
            opens = True
            if text[at : at + 1] in SPACES:
                marked, at = marked + text[at], at + 1
        elif last in SPACES and run and size > 1 and (not after or after in _STOPS):
            marked, opens = last + marked, False
            plain[-1] = run[:-1]
            size, last = size - 1, run[-2:-1]
        elif last in SPACES and not run and items and size > 1 and (not after or after in _STOPS):
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
#: Signs between two pieces of markup that make one of them: Ctrl+C, %s/%s.
_GLUE = re.compile(r"[-+/|→>·×:@&~–=.]{1,2}")
_ENCLOSING = {"(": ")", "<": ">", "[": "]", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
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
