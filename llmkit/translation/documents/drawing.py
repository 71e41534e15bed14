"""DrawingML: the paragraphs of slides, charts, diagrams and shapes, over the runs that they are cut into."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from llmkit.translation.documents import messages, office_language, xml
from llmkit.translation.documents.edits import Lines, Slot, Unit, slotted
from llmkit.translation.documents.xml import Token

#: What a program notes in a run's properties; no format.
_NOTED = re.compile(r"""\s(?:lang|altLang|dirty|err|smtClean|noProof|bmk)="[^"]*\"""")
#: Attributes that people read: of pictures, for those who don't see them, and of links that are pointed at.
_SAID = {"cNvPr": "descr", "hlinkClick": "tooltip"}
#: The language in which a run is checked.
_LANGUAGE = re.compile(r"""(<(?:\w+:)?(?:rPr|endParaRPr|defRPr)\b[^<>]*?\slang=["'])([A-Za-z-]+)""")
Run = tuple[str, str, tuple[int, int]]


def units(source: str, *, fixed_only: bool = False) -> Iterator[Unit]:
    """A unit from each paragraph, cut at line breaks. fixed_only: of shapes that are no placeholders for a slide's own text."""
    reader = _Reader(source)
    placeholder = False
    for token in xml.tokens(source):
        if token.name == "sp" and token.kind == "start":
            placeholder = False
        elif token.name == "ph":
            placeholder = True
        elif (name := _SAID.get(token.name)) and not fixed_only and (unit := _said(source, token, name, reader.lines)) is not None:
            yield unit
        unit = reader.take(token)
        if unit is not None and not (fixed_only and placeholder):
            yield unit


def languages(source: str) -> list[str]:
    """Those in which runs are checked."""
    return [match[2] for match in _LANGUAGE.finditer(source)]


def in_language(source: str, own: str | None, target: str | None) -> str:
    """The source with the target as the language of what is in a language of its own."""
    if own is None or target is None:
        return source
    named = office_language.named(target)
    return _LANGUAGE.sub(lambda match: match[1] + (named if office_language.primary(match[2]) == own else match[2]), source)


def _said(source: str, token: Token, name: str, lines: Lines) -> Unit | None:
    """What an attribute says to people."""
    place = xml.attributes(source, token).get(name)
    text = html.unescape(source[slice(*place)]) if place else ""
    if place is None or not messages.is_text(text):
        return None
    return slotted([Slot(text, (place,))], lines.at(place[0]), lambda new, *_: xml.escape(new, quote=True))


class _Reader:
    def __init__(self, source: str) -> None:
        self.source, self.lines = source, Lines(source)
        self.runs: list[Run | None] = []  # format, text, place; None: something that is no text stands there
        self.inside = self.text = self.run = self.math = False
        self.format = ""
        self.properties = -1

    def take(self, token: Token) -> Unit | None:
        """The unit that a token ends."""
        if (words := xml.words(self.source, token)) is not None:
            if self.inside and self.text and self.run and not self.math:
                self.runs.append((self.format, words, (token.begin, token.end)))
            return None
        if token.kind == "other":
            return None
        begins, ends = token.kind != "end", token.kind != "start"
        if token.name == "p" or token.name == "br":
            unit = self._unit() if ends or token.name == "br" else None
            self.inside = begins if token.name == "p" and not (begins and ends) else self.inside
            return unit
        if token.name == "r":
            self.run, self.format = begins and not ends, ""
        elif token.name in ("fld", "oMath"):
            self.math = token.name == "oMath" and begins and not ends
            self.runs.append(None)
        elif token.name == "t":
            self.text = begins and not ends
        elif token.name == "rPr" and self.run:
            self.properties = token.begin if begins else self.properties
            if ends:
                self.format = _NOTED.sub("", self.source[self.properties : token.end])
        return None

    def _unit(self) -> Unit | None:
        slots: list[Slot] = []
        before: str | None = None
        for run in self.runs:
            if run is None:
                before = None
                continue
            format, text, place = run
            if format == before:
                slots[-1] = Slot(slots[-1].text + text, (*slots[-1].places, place))
            else:
                slots.append(Slot(text, (place,)))
            before = format
        line = self.lines.at(slots[0].places[0][0]) if slots else 0
        self.runs = []
        return slotted(slots, line, lambda text, *_: xml.escape(text)) if slots else None
