"""A text in pieces that a model can read, and back: sentences by sentencex, shorter ones where a sentence is too long.

What lies between pieces (spaces, line ends) is kept as it was. Knows texts; lengths come from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

#: What stands between texts of their own: line ends, tabs, bars.
_LINES = re.compile(r"[^\n\t|]+|[\n\t|]+")
#: What is said of a text before it: [door opens] The cat is here.
_ASIDE = re.compile(r"\s*+[(\[][^()\[\]]++[)\]]\s+(?=[A-Z])")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]+)[)\]][.,;:!?]?")
_CLAUSE = re.compile(r"(?<=[,;:—–])\s+")

#: What ends a sentence or leads on; the full stops.
_SENTENCE_ENDS = frozenset(".!?…:;,。！？：；।؟۔")
_STOPS = (".", "。", "।", "۔")


@dataclass(frozen=True)
class Piece:
    """text: without space around it, with a letter in it. before: what leads up to it and is not translated: space, numbers, markup."""

    text: str
    before: str = ""


@dataclass(frozen=True)
class Pieces:
    """The pieces of a text in order, and what is after the last one."""

    pieces: tuple[Piece, ...]
    after: str = ""

    def joined(self, translations: list[str] | None = None) -> str:
        """The text again, with a translation in the place of each piece."""
        texts = [p.text for p in self.pieces] if translations is None else translations
        return "".join(p.before + text for p, text in zip(self.pieces, texts, strict=True)) + self.after


def split(text: str, tag: str, fits: Callable[[str], bool]) -> Pieces:
    """Sentences; a sentence that does not fit in clauses, words, at last characters.

    tag: the language's BCP-47 tag, which decides where sentences end.
    """
    import sentencex

    lines = _LINES.findall(text)
    sentences = [s for line in lines for s in (sentencex.segment(tag.split("-")[0], line) if line.strip() else [line])]
    return _pieces([part for sentence in sentences for half in _asides(sentence) for part in _fitting(half, fits)])


def _asides(sentence: str) -> list[str]:
    aside = _ASIDE.match(sentence)
    return [sentence] if aside is None else [aside.group(), sentence[aside.end() :]]


def clauses(text: str, fits: Callable[[str], bool]) -> Pieces:
    """Smaller pieces of one sentence: its clauses, or its halves where it has one clause only."""
    parts = _at(_CLAUSE, text)
    if len(parts) == 1:
        words = re.findall(r"\s*\S+\s*", text)
        middle = len(words) // 2
        parts = ["".join(words[:middle]), "".join(words[middle:])] if middle else [text]
    return _pieces([part for clause in parts for part in _fitting(clause, fits)])


def without_stop(text: str, translation: str) -> str:
    """The translation of a text that ends no sentence, a title or a cell, without the full stop that a model puts behind it."""
    ended = text.rstrip("\"'”’»)]}*_ ")[-1:] in _SENTENCE_ENDS
    last = translation.rpartition(" ")[2]
    if ended or not translation.endswith(_STOPS) or last.casefold() == "etc." or "." in last[:-1]:
        return translation
    return translation[:-1].rstrip()


def around(text: str, kept: re.Pattern[str], cut: Callable[[str], Pieces]) -> Pieces:
    """The text's pieces with what `kept` finds left out of them: it stands between pieces, word for word.

    cut: makes the pieces of what lies between. What holds no letter is left out, too.
    """
    out: list[Piece] = []
    literal, at = "", 0
    for match in (*kept.finditer(text), None):
        run = text[at : match.start() if match else len(text)]
        if any(c.isalpha() for c in run):
            inner = cut(run)
            first, *others = inner.pieces
            out += [Piece(first.text, literal + first.before), *others]
            literal = inner.after
        else:
            literal += run
        if match:
            literal += match.group()
            at = match.end()
    return Pieces(tuple(out), literal)


def _pieces(parts: list[str]) -> Pieces:
    out: list[Piece] = []
    space = ""
    for part in parts:
        body = part.strip()
        if not any(c.isalpha() for c in body):  # nothing to translate: a model would make words of it
            space += part
            continue
        if inside := _BRACKETS.fullmatch(body):  # brackets around all of it stay
            body = inside[1].strip()
        at = part.index(body)
        out.append(Piece(body, space + part[:at]))
        space = part[at + len(body) :]
    return Pieces(tuple(out), space)


def _fitting(text: str, fits: Callable[[str], bool]) -> list[str]:
    if not text.strip() or fits(text.strip()):
        return [text]
    parts = _at(_CLAUSE, text)
    if len(parts) == 1:
        parts = re.findall(r"\s*\S+\s*", text)
    if len(parts) == 1:
        middle = len(text) // 2
        parts = [text[:middle], text[middle:]] if middle else [text]
        return [text] if len(parts) == 1 else [p for part in parts for p in _fitting(part, fits)]
    return [p for group in _grouped(parts, fits) for p in (_fitting(group, fits) if group != text else [group])]


def _grouped(parts: list[str], fits: Callable[[str], bool]) -> list[str]:
    """Neighbours put together as long as they fit."""
    out: list[str] = []
    for part in parts:
        if out and fits((out[-1] + part).strip()):
            out[-1] += part
        else:
            out.append(part)
    return out


def _at(pattern: re.Pattern[str], text: str) -> list[str]:
    """Cut behind each match; the matches stay at the ends of the parts."""
    parts, at = [], 0
    for match in pattern.finditer(text):
        parts.append(text[at : match.end()])
        at = match.end()
    return [part for part in (*parts, text[at:]) if part]
