"""LaTeX (.tex): the prose of the body and the title; commands, math, code, comments, labels and citations stay.

A conservative reader, as TeX can't be parsed without running it: an argument is a text only of commands known to print it, all
others keep theirs. Knows LaTeX's own commands; not those that a file defines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmkit.errors import InputError
from llmkit.translation.documents.base import Segment, decoded
from llmkit.translation.documents.edits import EditedDocument, Lines, Slot, Unit, slotted

#: Commands whose last argument is part of the sentence.
_INLINE = frozenset(
    ("textbf", "textit", "emph", "textsl", "textsc", "textsf", "textrm", "textup", "textmd", "textnormal", "underline", "uline", "text",
     "mbox", "enquote", "textquote", "fbox", "framebox", "makebox", "centerline", "hl", "st", "so", "ul", "textcolor", "href",
     "hyperref", "alert", "structure", "only", "onslide", "uncover", "visible", "colorbox", "parbox", "raisebox", "rotatebox", "scalebox",
     "resizebox", "multicolumn", "multirow", "foreignquote")
)  # fmt: skip
#: ... and how many arguments come before the text.
_BEFORE = {"href": 1, "textcolor": 1, "colorbox": 1, "parbox": 1, "raisebox": 1, "rotatebox": 1, "scalebox": 1, "resizebox": 2,
           "multicolumn": 2, "multirow": 2, "foreignquote": 1}  # fmt: skip
#: Commands whose argument is a text of its own, wherever it stands.
_OWN = frozenset(
    ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph", "title", "subtitle", "caption", "footnote",
     "footnotetext", "thanks", "marginpar", "frametitle", "framesubtitle", "sidenote", "todo", "note")
)  # fmt: skip
#: ... and whose argument in brackets is one: a short title, a term.
_LABELED = _OWN | {"item"}
#: Environments that hold no prose.
_VERBATIM = frozenset(
    ("verbatim", "Verbatim", "lstlisting", "minted", "alltt", "comment", "filecontents", "equation", "align", "alignat", "flalign",
     "gather", "multline", "eqnarray", "math", "displaymath", "tikzpicture", "pgfpicture", "picture", "axis", "algorithm", "algorithmic",
     "thebibliography", "tikzcd", "dmath", "IEEEeqnarray")
)  # fmt: skip
_TOKEN = re.compile(
    r"(?P<comment>%[^\n]*(?:\n[ \t]*(?!\s*\n))?)"
    r"|(?P<math>\$\$(?:[^$\\\n]|\\.|\n(?![ \t\r]*\n))*+\$\$|\$(?:[^$\\\n]|\\.|\n(?![ \t\r]*\n))++\$"
    r"|\\\((?:[^\\\n]|\\[^()]|\n(?![ \t\r]*\n))*+\\\)|\\\[(?:[^\\\n]|\\[^\[\]]|\n(?![ \t\r]*\n))*+\\\])"
    r"|(?P<tie>~(?=\\[a-zA-Z]|\$))|(?P<code>\\(?:verb|lstinline)\*?([^a-zA-Z\s*\[{])[^\n]*?\5)|(?P<break>\\\\\*?(?:\[[^\]\n]*\])?|&)"
    r"|(?P<prose>\\[%&#_${} -]|\{\}|\\text(?:backslash|asciitilde|asciicircum)(?![a-zA-Z])(?:\{\}|[ \t])?|~"
    r"|\\(?:['`^\"~=.](?:\{\\?[a-zA-Z]\}|\\?[a-zA-Z])|[cvukHr]\{[a-zA-Z]\})"
    r"|\\(?:ss|ae|oe|AE|OE|aa|AA|[oOlLi])(?![a-zA-Z])(?:\{\}|[ \t])?|[^\\{}$%~&\r\n]+|\r?\n(?![ \t\r]*\n))"
    r"|(?P<command>\\(?:[a-zA-Z@]+\*?|.|\Z))|(?P<open>\{)|(?P<close>\})|(?P<paragraph>\r?\n[ \t]*\r?\n\s*)|(?P<other>.)",
    re.DOTALL,
)
#: Environments with a title, those of slides; and those whose title is in brackets.
_FRAME = re.compile(r"\\begin\{(?:frame|block|alertblock|exampleblock)\}(?:\[[^\]\n]*\]|<[^>\n]*>)*")
_NAMED = re.compile(
    r"\\begin\{(?:theorem|lemma|proposition|corollary|definition|remark|example|proof|claim|conjecture|exercise|note)\*?\}(?=\[)"
)
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
            "c": "\u0327", "v": "\u030c", "u": "\u0306", "k": "\u0328", "H": "\u030b", "r": "\u030a"}  # fmt: skip
_LETTERS = {"ss": "ß", "ae": "æ", "oe": "œ", "AE": "Æ", "OE": "Œ", "aa": "å", "AA": "Å", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "i": "ı",
            "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^"}  # fmt: skip
_QUOTES = (("``", "“"), ("''", "”"))
_SPECIAL = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\xa0": "~"} | {
    c: f"\\{c}" for c in "%&#_${}"
}
#: Accents, letters, escapes, ties and space in prose.
_PRINTED = re.compile(
    r"\\(['`^\"~=.cvukHr])(?:\{\\?([a-zA-Z])\}|\\?([a-zA-Z])(?<![cvukHr][a-zA-Z]))|\\([a-zA-Z]+)(?:\{\}|[ \t])?|\\(.)|~|\{\}|\s+"
)
#: On which slides a command works: <1-2>, <+->, <alert@1>.
_OVERLAY = re.compile(r"<[\d+.,|@:a-z-]+>")
_BRACES = re.compile(r"\\.|[{}]|%[^\n]*", re.DOTALL)

#: The encoding that a file says it has; what is written is UTF-8.
_ENCODING = re.compile(r"(?m)(?<=\\usepackage\[)(?!utf8)\w+(?=\]\{inputenc\})")


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError naming the line of a brace that is not closed."""
    source = decoded(data, name)
    if target is not None:
        source = _ENCODING.sub("utf8", source)
    reader = _Reader(source, name)
    body = re.search(r"^[^%\n]*?\\begin\{document\}", source, re.MULTILINE)
    end = re.compile(r"^[^%\n]*?\\end\{document\}", re.MULTILINE).search(source, body.end() if body else 0)
    units: list[Unit] = []
    if body is not None:
        for title in re.finditer(r"(?m)^[^%\n]*?\\(?:title|subtitle)\s*\{", source[: body.start()]):
            units += reader.units(title.end(), reader.group(title.end() - 1) - 1)
    units += reader.units(body.end() if body else 0, end.start() if end else len(source))
    return EditedDocument(source, tuple(units), _compare, shape=lambda new: _shape(decoded(new, name)))


def _shape(source: str) -> list[str]:
    """All but the prose."""
    matches = _TOKEN.finditer(source)
    return [match.group() for match in matches if match.lastgroup != "prose"]


@dataclass
class _Text:
    """A text that is being read. runs: its prose in places without a gap; closes: what ends at its closing brace."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    open: bool = False  # whether the last run goes on

    def add(self, begin: int, end: int) -> None:
        if self.open:
            self.runs[-1] = (self.runs[-1][0], end)
        else:
            self.runs.append((begin, end))
        self.open = True


class _Reader:
    def __init__(self, source: str, name: str) -> None:
        self.source, self.name, self.lines = source, name, Lines(source)

    def group(self, at: int) -> int:
        """Behind the brace that closes the one at `at`."""
        depth = 0
        for match in _BRACES.finditer(self.source, at):
            depth += {"{": 1, "}": -1}.get(match.group(), 0)
            if not depth and match.group() in "{}":
                return match.end()
        raise InputError("a brace is not closed", path=self.name, line=self.lines.at(at))

    def units(self, begin: int, end: int) -> Iterator[Unit]:
        """The texts of a part of the source."""
        texts = [_Text()]
        braces: list[bool] = []  # of open ones, whether a text of its own ends with it
        at = begin
        while at < end:
            match = _TOKEN.match(self.source, at, end)
            if match is None:
                return
            kind, at = match.lastgroup, match.end()
            if kind == "prose":
                texts[-1].add(match.start(), match.end())
                continue
            texts[-1].open = False
            if kind in ("break", "paragraph"):
                yield from self._flush(texts[-1])
            elif kind == "open":
                braces.append(False)
            elif kind == "close" and braces:
                if braces.pop():
                    yield from self._flush(texts.pop())
            elif kind == "command":
                if match.group()[1:].rstrip("*") in _LABELED and (stop := self._optional(at, end)) > at:
                    yield from self.units(at + 1, stop - 1)
                if (named := _NAMED.match(self.source, match.start(), end)) and (stop := self._optional(named.end(), end)) > named.end():
                    yield from self._flush(texts[-1])
                    yield from self.units(named.end() + 1, stop - 1)
                if frame := _FRAME.match(self.source, match.start(), end):
                    yield from self._flush(texts[-1])
                    at = frame.end()
                    while self.source.startswith("{", at):
                        begin, at = at + 1, self.group(at)
                        yield from self.units(begin, at - 1)
                    continue
                own, at = self._command(match, end)
                if own == "cut":
                    yield from self._flush(texts[-1])
                elif own:
                    texts += [_Text()] if own == "own" else []
                    braces.append(own == "own")
        for text in reversed(texts):
            yield from self._flush(text)

    def _command(self, match: re.Match[str], end: int) -> tuple[str, int]:
        """What a command does, and the place behind what it keeps. "own" and "inline": it opens a text; "cut": it ends one."""
        source, name, at = self.source, match.group()[1:].rstrip("*"), match.end()
        if name.isalpha() and (overlay := _OVERLAY.match(source, at, end)):
            at = overlay.end()
        if name in ("begin", "end"):
            return "cut", self._environment(at, end) if name == "begin" else self._arguments(at, end)
        if name in ("else", "fi", "or"):
            return "cut", at
        if name == "item":
            return "cut", self._optional(at, end)
        if name == "def":
            brace = re.compile(r"\\(?:[a-zA-Z@]+|.)[^\\{}%\n]*(?=\{)").match(source, at, end)
            return "", self._arguments(brace.end(), end) if brace else at
        if name in _INLINE | _OWN:
            at = self._optional(at, end)
        for _ in range(_BEFORE.get(name, 0)):
            at = self._optional(self.group(at) if source.startswith("{", at) else at, end)
        if name in _INLINE | _OWN and source.startswith("{", at):
            return "own" if name in _OWN else "inline", at + 1
        return "", self._arguments(at, end) if name.isalpha() or "@" in name else at

    def _optional(self, at: int, end: int) -> int:
        match = re.compile(r"\[(?:[^\[\]{}]|\{[^{}]*\})*\]").match(self.source, at, end)
        return match.end() if match else at

    def _arguments(self, at: int, end: int) -> int:
        """Behind the arguments that follow at once."""
        while at < end:
            if self.source[at] == "{":
                at = self.group(at)
            elif self.source[at] == "[" and self._optional(at, end) > at:
                at = self._optional(at, end)
            else:
                break
        return at

    def _environment(self, at: int, end: int) -> int:
        """Behind the beginning of an environment, or behind all of one that holds no prose."""
        named = re.compile(r"\{([a-zA-Z]+)(\*?)\}").match(self.source, at, end)
        if named is None or named[1] not in _VERBATIM:
            return self._arguments(at, end)
        closing = f"\\end{{{named[1]}{named[2]}}}"
        stop = self.source.find(closing, at, end)
        return end if stop < 0 else stop + len(closing)

    def _flush(self, text: _Text) -> Iterator[Unit]:
        """The text as a unit, without space at its ends."""
        runs, text.runs, text.open = text.runs, [], False
        places = [(a, b) for a, b in runs]
        while places and not self.source[slice(*places[0])].strip():
            places.pop(0)
        while places and not self.source[slice(*places[-1])].strip():
            places.pop()
        if not places:
            return
        first, last = self.source[slice(*places[0])], self.source[slice(*places[-1])]
        places[0] = (places[0][0] + len(first) - len(first.lstrip()), places[0][1])
        if not re.search(r"(?<!\\)(?:\\\\)*\\\s+\Z", last):
            places[-1] = (places[-1][0], places[-1][1] - len(last) + len(last.rstrip()))
        slots = [Slot(_read(self.source[a:b]), ((a, b),)) for a, b in places]
        unit = slotted(slots, self.lines.at(places[0][0]), self._write)
        if unit is not None:
            yield unit

    def _write(self, text: str, begin: int, end: int) -> str:
        raw = self.source[begin:end]
        written = "".join(_SPECIAL.get(character, character) for character in text)
        for code, character in _QUOTES:
            written = written.replace(character, code) if code in raw or character not in raw else written
        # a letter right behind a command would be part of its name, a bracket its argument
        command = re.search(r"\\[a-zA-Z@]+\Z", self.source[max(begin - 60, 0) : begin])
        if written[:1] in ("[", "*") and raw[:1] != written[:1] and (command or self.source[begin - 1 : begin] in ("}", "]")):
            return f"{{}}{written}"
        return f" {written}" if command and written[:1].isalpha() else written


def _read(raw: str) -> str:
    """Prose as it is printed."""
    for code, character in _QUOTES:
        raw = raw.replace(code, character)
    return _PRINTED.sub(_printed, raw)


def _printed(match: re.Match[str]) -> str:
    if match[1]:
        return unicodedata.normalize("NFC", (match[2] or match[3]) + _ACCENTS[match[1]])
    if match[4]:
        return _LETTERS.get(match[4], match[4])
    if match[5]:
        return "" if match[5] == "-" else match[5]
    return {"~": "\xa0", "{}": ""}.get(match.group(), " ")


def _compare(text: str, segment: Segment) -> object:
    """The marks of a text: what is written around them is escaped."""
    return sorted(re.findall(r"<\d+>", text)), segment.kind
