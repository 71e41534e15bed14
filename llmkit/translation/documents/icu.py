"""ICU messages: arguments stay, and each branch of a plural, select or choice is a text of its own inside its sentence.

As https://unicode-org.github.io/icu/userguide/format_parse/messages/ says; an apostrophe quotes only before a brace, or in
a branch before #, which is ICU's default. Knows messages; not the files that they stand in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmkit.translation.documents.base import Places, joined, with_marks

_COMPLEX = re.compile(r"\{\s*[\w.-]+\s*,\s*(?:plural|select|selectordinal|choice)\s*,")
_ARGUMENT = re.compile(r"\{\s*[\w.-]+\s*(?:(\})|,\s*(\w+)\s*(?:(\})|,))")
_SELECTOR = re.compile(r"\s*(?:offset:\s*\d+\s*)?(?:=\d+|[^\s{}=,']+)\s*\{")
#: A limit of Java's choice and of ICU's older ones: 0#, 1<, -∞≤.
_LIMIT = re.compile(r"\s*[-+]?(?:∞|[\d.]+(?:[eE][-+]?\d+)?)\s*[#<≤]")
#: Levels of a message; more is no text of people.
_DEEPEST = 20


@dataclass(frozen=True)
class Branch:
    """A text with its marks. holes: of marks that hold branches, what they are made of, by the mark's number.

    choice: read twice by Java, with | as its end. quote: what ends it, as the value of a tag's attribute.
    """

    text: str
    marks: Places
    holes: tuple[tuple[int, tuple[str | Branch, ...]], ...] = ()
    choice: bool = False
    quote: str = ""


class NotAMessage(ValueError):  # noqa: N818 - it says what a text is, and no user sees it
    """A text that looks like an ICU message and can't be read as one."""


def is_complex(text: str) -> bool:
    """Whether a text holds a plural, a select or a choice."""
    return _COMPLEX.search(text) is not None


def starts(text: str, at: int = 0) -> int | None:
    """Where the first plural, select or choice from `at` on begins."""
    match = _COMPLEX.search(text, at)
    return match.start() if match else None


def innermost(text: str, begin: int = 0) -> list[tuple[int, int]]:
    """The places of the branches of a plural or a select at `begin` that hold no other; none for what can't be read.

    As Angular reads it: nothing is quoted.
    """
    opened = _COMPLEX.match(text, begin)
    out: list[tuple[int, int]] = []
    at = opened.end() if opened else len(text)
    while (selector := _SELECTOR.match(text, at)) is not None:
        at, depth = selector.end(), 1
        for brace in re.compile(r"[{}]").finditer(text, at):
            depth += 1 if brace.group() == "{" else -1
            if not depth:
                inner = sorted({place for found in _COMPLEX.finditer(text, at, brace.start()) for place in innermost(text, found.start())})
                out += inner or [(at, brace.start())]
                at = brace.end()
                break
        else:
            return []
    return out


def message(text: str, marks: re.Pattern[str]) -> Branch:
    """A whole message. marks: what in its prose stays. Raises NotAMessage."""
    branch, end = _Reader(text, marks).branch(0, 0)
    if end != len(text):
        raise NotAMessage
    return branch


class _Reader:
    def __init__(self, text: str, marks: re.Pattern[str]) -> None:
        self.text, self.marks = text, marks

    def branch(self, at: int, depth: int, *, choice: bool = False) -> tuple[Branch, int]:
        """The text from `at` to the brace (of a choice also the bar) that ends it, or to the end of the message, and where it ends."""
        if depth > _DEEPEST:
            raise NotAMessage
        pieces: list[tuple[str, bool, tuple[str | Branch, ...]]] = []
        prose: list[str] = []
        text, size = self.text, len(self.text)
        while at < size and text[at] != "}" and not (choice and text[at] == "|"):
            character, end = text[at], at + 1
            if character == "'" and text[at + 1 : at + 2] in ("'", "{", "}", "#" if depth else "'"):
                if text[at + 1] == "'":
                    prose.append("'")
                    at += 2
                    continue
                end = self._quoted(at)
            elif character == "{":
                end, inner = self._argument(at, depth)
                pieces += [("".join(prose), False, ()), (text[at:end], True, inner)]
                prose, at = [], end
                continue
            elif character != "#":
                end = _next(text, at + 1)
                prose.append(text[at:end])
                at = end
                continue
            pieces += [("".join(prose), False, ()), (text[at:end], True, ())]
            prose, at = [], end
        return replace(_branch([*pieces, ("".join(prose), False, ())], self.marks), choice=choice), at

    def _quoted(self, at: int) -> int:
        """Where a quotation that begins at `at` ends."""
        match = re.compile(r"'(?:[^']|'')*(?:'|\Z)").match(self.text, at)
        return match.end() if match else len(self.text)

    def _argument(self, at: int, depth: int) -> tuple[int, tuple[str | Branch, ...]]:
        """Where an argument ends, and what it is made of if it has branches."""
        match = _ARGUMENT.match(self.text, at)
        if match is None:
            raise NotAMessage
        if match[1] or match[3]:
            return match.end(), ()
        if match[2] == "choice":
            return self._choice(at, match.end(), depth)
        if match[2] not in ("plural", "select", "selectordinal"):
            return self._style(match.end()), ()
        out: list[str | Branch] = []
        begin, at = at, match.end()
        while selector := _SELECTOR.match(self.text, at):
            inner, at = self.branch(selector.end(), depth + 1)
            if self.text[at : at + 1] != "}":
                raise NotAMessage
            out += [self.text[begin : selector.end()], inner]
            begin, at = at, at + 1
        end = re.compile(r"\s*\}").match(self.text, at)
        if end is None or not out:
            raise NotAMessage
        return end.end(), (*out, self.text[begin : end.end()])

    def _choice(self, begin: int, at: int, depth: int) -> tuple[int, tuple[str | Branch, ...]]:
        """The same for a choice, whose limits begin at `at`: https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/text/ChoiceFormat.html"""
        out: list[str | Branch] = []
        while limit := _LIMIT.match(self.text, at):
            inner, at = self.branch(limit.end(), depth + 1, choice=True)
            out += [self.text[begin : limit.end()], inner]
            begin, at = at, at + 1
            if self.text[begin : begin + 1] != "|":
                break
        if not out or self.text[begin : begin + 1] != "}":
            raise NotAMessage
        return at, (*out, self.text[begin:at])

    def _style(self, at: int) -> int:
        depth = 1
        for match in re.compile(r"'(?:[^']|'')*'|[{}]").finditer(self.text, at):
            depth += {"{": 1, "}": -1}.get(match.group(), 0)
            if not depth:
                return match.end()
        raise NotAMessage


def _next(text: str, at: int) -> int:
    """The next place with a character of the syntax."""
    match = re.compile(r"[{}#'|]").search(text, at)
    return match.start() if match else len(text)


def _branch(pieces: list[tuple[str, bool, tuple[str | Branch, ...]]], marks: re.Pattern[str]) -> Branch:
    flat: list[tuple[str, bool]] = []
    holes: list[tuple[int, tuple[str | Branch, ...]]] = []
    number = 0
    for text, mark, inner in pieces:
        parts = [(text, True)] if mark else with_marks(text, marks)
        if inner:
            holes.append((number, inner))
        number += sum(is_mark and bool(piece) for piece, is_mark in parts)
        flat += parts
    text, places = joined(flat)
    return Branch(text, places, tuple(holes))
