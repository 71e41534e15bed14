"""reStructuredText (.rst): paragraphs, titles, lists, and directives that hold prose; code, roles, targets and tables stay.

Read line by line as https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html says; a directive that is not known to
hold prose is left alone. The lines under a title grow with it. A title that is referred to by its words keeps them as a target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llmkit.translation.documents import rst_tables as tables
from llmkit.translation.documents.base import Segment, decoded, has_letters, joined, lines_of, parts, with_marks
from llmkit.translation.documents.edits import Change, EditedDocument, Lines, Unit, masked
from llmkit.translation.placeholders import IN_PROSE

#: Directives whose content is prose, and those whose argument is, too.
_PROSE = frozenset(
    ("note", "warning", "tip", "important", "hint", "caution", "danger", "attention", "error", "seealso", "admonition", "topic", "sidebar",
     "figure", "epigraph", "highlights", "pull-quote", "container", "compound", "list-table", "versionadded", "versionchanged",
     "deprecated", "rst-class", "class", "only", "glossary", "rubric", "abstract", "dedication", "todo", "tab-set", "dropdown")
)  # fmt: skip
_TITLED = frozenset(("admonition", "topic", "sidebar", "list-table", "rubric", "note", "warning", "tip", "important", "hint", "caution",
                     "danger", "attention", "error", "seealso", "dropdown", "todo", "contents"))  # fmt: skip
#: Directives that describe a name of a program: their content is prose, their argument is not.
_OBJECT = re.compile(
    r"(?:(?:py|c|cpp|js|rst|std):)?(?:function|method|classmethod|staticmethod|class|attribute|property|data|exception|module|decorator|macro"
    r"|type|member|var|enum|enumerator|struct|option|envvar|describe|object|directive|role|program|confval|autofunction|autoclass|automodule)"
)
_VERSIONS = frozenset(("versionadded", "versionchanged", "deprecated", "versionremoved"))
_SHOWN = frozenset((":alt:", ":caption:", ":title:", ":header:"))
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*")
_DIRECTIVE = re.compile(r"\.\.[ \t]+(?:\|[^|\n]+\|[ \t]+)?([\w:.+-]+?)::(?:[ \t]+|\Z)")
_FOOTNOTE = re.compile(r"\.\.[ \t]+\[[^\]\n]+\][ \t]+")
_BULLET = re.compile(r"(?:[-*+•‣][ \t]+|\(?(?:\d{1,4}|#|[a-zA-Z]|[ivxlcIVXLC]{2,5})[.)][ \t]+)+(?=\S)|\|[ \t]+(?=\S)")
_FIELD = re.compile(r":(?![\s:`])(?:[^:\n\\]|\\.|:(?![ \t]|\Z))+:(?:[ \t]+|\Z)(?!`)")
_OPTION = re.compile(r"--?[\w-]++(?:[ =]\S++)?+(?:, --?[\w-]++(?:[ =]\S++)?+)*+[ ]{2,}(?=\S)")
_BEGINS = re.compile(rf"{_BULLET.pattern}|{_FIELD.pattern}|{_OPTION.pattern}|\.\.(?=\s|\Z)|>>>|__ |\+[-=]|{_ADORNMENT.pattern}\Z")
_REFERENCE = re.compile(r"`([^`<>\n]+)`_(?!_)")
#: Of the whole document, and types of arguments; they are data.
_BIBLIOGRAPHIC = re.compile(
    r":(?:author|authors|contact|address|version|date|status|revision|organization|copyright|orphan|alt(?!:)"
    r"|(?:type|kwtype|paramtype|vartype)[ ]|rtype(?=:))[^:]*:",
    re.IGNORECASE,
)
_MARKS = re.compile(
    rf"\b\w+(?:\*\w+)+\b|``(?:[^`]|`(?!`))+``|(?<![\w:.+-]):[\w:.+-]+:`[^`]+`|`[^`]+`:[\w:.+-]+:|`[^`]+`(?:__?)?"
    rf"|\|[^\s|][^|\n]*\|_?|\[[^\[\]\s]+\]_|\\.|(?<!\w)\w+(?:[-.]\w+){{0,8}}__?(?![\w`])|(?<![\w*])\*\*?(?=[^\s*])|(?<=[^\s*])\*\*?(?![\w*])|::\Z|{IN_PROSE.pattern}"
)
#: Links and roles whose words are not their target.
_EMBEDDED = re.compile(r"(?<![`:])(`)([^`<]+)( <[^<>`]+>`__?)|(?<![\w:.+-])(:[\w:.+-]+:`)([^`<]*[^`<\s])(\s+<[^<>`]+>`)")
#: A line of a table of contents that has a title of its own.
_ENTRY = re.compile(r"([^<>\s](?:[^<>]*[^<>\s])?)\s*<[^<>]+>")
_TARGET = re.compile(r"(?m)^[ \t]*\.\. _`?([^`:\n]+)`?:")


@dataclass(frozen=True)
class _Line:
    """A line's place [begin, end) without its indentation and line end."""

    begin: int
    end: int
    indent: int
    text: str

    @property
    def blank(self) -> bool:
        return not self.text


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """The document of a file in reStructuredText."""
    source = decoded(data, name)
    return EditedDocument(source, tuple(_Reader(source).units()), _compare, shape=lambda new: _shape(decoded(new, name)))


def _shape(source: str) -> object:
    """All but the texts, the length of the lines at titles, and targets that are titles' words."""
    reader = _Reader(source)
    places = [unit.place for unit in reader.units() if unit.place is not None]
    tables = (_as_table([line for line in reader.lines if begin <= line.begin < end]) for begin, end in reader.blocks)
    rest = masked(source, places).replace("\r\n", "\n")
    rest = re.sub(r"(?m)(?:^\.\. _[^\n]*:\n\n)+(?=(?:([!-/:-@\[-`{-~])\1{2,}\n)?\0)", "", rest)
    return re.sub(r"(?m)^([!-/:-@\[-`{-~])\1{2,}[ \t]*$", r"\1\1\1", rest), [table.shape() for table in tables if table is not None]


class _Reader:
    def __init__(self, source: str) -> None:
        self.source, self.places = source, Lines(source)
        self.lines = list(_lines(source))
        self.blocks: list[tuple[int, int]] = []  # the places of tables
        self.terms: set[int] = set()  # lines of a glossary that other pages name: :term:`...`
        self.end = "\r\n" if "\r\n" in source else "\n"
        named, targets = ({" ".join(m[1].split()).lower() for m in pattern.finditer(source)} for pattern in (_REFERENCE, _TARGET))
        self.named = named - targets

    def units(self) -> Iterator[Unit]:
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            if line.blank or at in self.terms:
                at += 1
            elif line.text.startswith("..") and (len(line.text) == 2 or line.text[2] in " \t"):
                made, at = self._explicit(at)
                yield from made
            elif (title := self._title(at)) is not None:
                made, at = title
                yield from made
            elif (end := self._opaque(at)) > at:
                yield from self._table(self.lines[at:end])
                at = end
            else:
                made, at = self._paragraph(at)
                yield from made

    def _block(self, at: int) -> int:
        """Behind the lines that are indented more than this one, and blank ones between them."""
        end = at + 1
        while end < len(self.lines) and (self.lines[end].blank or self.lines[end].indent > self.lines[at].indent):
            end += 1
        return end

    def _explicit(self, at: int) -> tuple[list[Unit], int]:
        """A directive, a footnote, a target or a comment."""
        line = self.lines[at]
        if note := _FOOTNOTE.match(line.text):
            return self._text(at, note.end())
        directive = _DIRECTIVE.match(line.text)
        if directive is None:
            return [], self._block(at)
        name, known = directive[1], directive[1] in _PROSE or bool(_OBJECT.fullmatch(directive[1]))
        made: list[Unit] = []
        following = at + 1
        version = re.compile(r"\S+[ \t]+(?=\S)").match(line.text, directive.end()) if name in _VERSIONS else None
        if name in _TITLED or (name == "replace" and "|" in directive.group()) or name == "csv-table":
            made, following = self._text(at, directive.end())
        elif version:
            made, following = self._text(at, version.end())
        while following < len(self.lines) and not self.lines[following].blank and self.lines[following].indent > line.indent:
            option = _FIELD.match(self.lines[following].text)
            if option is None:
                break
            if option.group().strip() in _SHOWN - {":header:"}:
                made += self._made(self.lines[following : following + 1], option.end())
            elif option.group().strip() == ":header:" and name == "csv-table":
                made += self._values(self.lines[following], option.end())
            following += 1
        if name == "glossary":
            body = [number for number in range(following, self._block(at)) if not self.lines[number].blank]
            least = min((self.lines[number].indent for number in body), default=0)
            self.terms |= {number for number in body if self.lines[number].indent == least}
        if known:
            return made, following
        end = max(self._block(at), following)
        for line in self.lines[following:end]:
            if name == "csv-table":
                made += self._values(line, 0)
            elif name == "toctree" and (entry := _ENTRY.fullmatch(line.text)):
                made += self._cell(line.begin, entry[1], lambda text: text.replace("<", "‹"))
        return made, end

    def _values(self, line: _Line, begin: int) -> Iterator[Unit]:
        """The quoted values of a line of a table in CSV."""
        for value in re.finditer(r'"((?:[^"]|"")*)"(?=[ \t]*(?:,|\Z))', line.text[begin:]):
            yield from self._cell(line.begin + begin + value.start(1), value[1], lambda text: re.sub('"+', '""', text))

    def _cell(self, begin: int, raw: str, write: Callable[[str], str]) -> Iterator[Unit]:
        """A text of one line that begins at `begin`. write: what a translation becomes there."""
        text, marks = joined(_pieces(_linked(raw)))
        segment = Segment(text, raw, self.places.at(begin), marks)
        place = (begin, begin + len(raw))
        if has_letters(segment.prose()):
            yield Unit((segment,), lambda texts: ((*place, write(_written(texts[0], segment))),), place)

    def _title(self, at: int) -> tuple[list[Unit], int] | None:
        """A title with the line under it, and over it."""
        lines = self.lines[at : at + 3]
        over = len(lines) == 3 and bool(_ADORNMENT.fullmatch(lines[0].text)) and lines[2].text == lines[0].text and not lines[1].blank
        if over:
            return self._titled(lines[1], (lines[0], lines[2])), at + 3
        under = len(lines) > 1 and _ADORNMENT.fullmatch(lines[1].text) and not _ADORNMENT.fullmatch(lines[0].text)
        if under and lines[1].indent == lines[0].indent == 0:
            return self._titled(lines[0], (lines[1],)), at + 2
        return None

    def _titled(self, line: _Line, adornments: Sequence[_Line]) -> list[Unit]:
        made = self._made([line], 0)
        if not made:
            return []
        named = " ".join(line.text.split())

        def write(texts: Sequence[str]) -> Iterable[Change]:
            for begin, end, text in made[0].write(texts):
                yield begin, end, text
                for adornment in adornments:
                    if tables.width(text) > len(adornment.text):
                        yield adornment.begin, adornment.end, adornment.text[0] * tables.width(text)
            if named.lower() in self.named:
                first = min(line.begin - line.indent, *(a.begin for a in adornments))
                yield first, first, f".. _{named}:{self.end * 2}"

        return [Unit(made[0].segments, write, made[0].place)]

    def _opaque(self, at: int) -> int:
        """Behind a table, a transition, a doctest or an anonymous target; `at` where there is none."""
        line = self.lines[at]
        end = at
        if re.match(r"\+[-=]{2,}|>>> ?|__ ", line.text):
            while end < len(self.lines) and not self.lines[end].blank:
                end += 1
        elif re.fullmatch(r"=+(?:[ ]+=+)+", line.text):
            borders = 0
            while end < len(self.lines):
                borders += self.lines[end].text == line.text or bool(re.fullmatch(r"[=-]+(?:[ ]+[=-]+)*", self.lines[end].text))
                end += 1
                if borders > 1 and (end == len(self.lines) or self.lines[end].blank) and self.lines[end - 1].text.startswith("="):
                    break
        elif _ADORNMENT.fullmatch(line.text) and line.text.strip() != "::":
            end += 1
        return end

    def _table(self, lines: Sequence[_Line]) -> Iterator[Unit]:
        """The texts of a table, which is written as a whole."""
        while lines and lines[-1].blank:
            lines = lines[:-1]
        table = _as_table(lines)
        if table is None:
            return
        segments: dict[tables.Cell, Segment] = {}
        for place, raw in table.texts().items():
            text, marks = joined(_pieces(_linked(raw)))
            segment = Segment(text, raw, self.places.at(lines[0].begin), marks)
            if has_letters(segment.prose()):
                segments[place] = segment
        place, between = (lines[0].begin, lines[-1].end), self.source[lines[0].end : lines[1].begin]

        def write(texts: Sequence[str]) -> Iterable[Change]:
            words = {cell: _words(text, segment) for (cell, segment), text in zip(segments.items(), texts, strict=True)}
            yield *place, between.join(tables.laid(table, words))

        if segments:
            self.blocks.append(place)
            yield Unit(tuple(segments.values()), write, place)

    def _paragraph(self, at: int) -> tuple[list[Unit], int]:
        line = self.lines[at]
        begin = 0
        if field := _FIELD.match(line.text):
            begin = field.end()
            if _BIBLIOGRAPHIC.match(line.text):
                return [], self._block(at)
        elif marker := _BULLET.match(line.text) or _OPTION.match(line.text):
            begin = marker.end()
        return self._text(at, begin)

    def _text(self, at: int, begin: int) -> tuple[list[Unit], int]:
        """A text that begins in a line, with the lines that go on with it, and a block of code that it announces."""
        line = self.lines[at]
        column = line.indent + begin
        end = at + 1
        if begin == 0 or len(line.text) > begin:
            while end < len(self.lines) and self._goes_on(at, end, column if begin else line.indent, begin):
                end += 1
        made = self._made(self.lines[at:end], begin)
        if self.lines[end - 1].text.endswith("::") and (end > at + 1 or len(line.text) > begin):
            following = end
            while following < len(self.lines) and self.lines[following].blank:
                following += 1
            if following < len(self.lines) and self.lines[following].indent > line.indent:
                end = following
                while end < len(self.lines) and (self.lines[end].blank or self.lines[end].indent > line.indent):
                    end += 1
        return made, end

    def _goes_on(self, at: int, number: int, column: int, begin: int) -> bool:
        """Whether a line belongs to the text that begins in line `at`."""
        line, first = self.lines[number], self.lines[at]
        if line.blank or first.text.startswith("| "):
            return False
        if begin == 0:
            return line.indent == column
        if line.indent <= first.indent or (_BULLET.match(first.text) and line.indent < column):
            return False
        return number > at + 1 or not _FIELD.match(line.text) if first.text.startswith("..") else line.indent == self.lines[at + 1].indent

    def _made(self, lines: Sequence[_Line], begin: int) -> list[Unit]:
        """The lines as one segment."""
        place = (lines[0].begin + begin, lines[-1].end)
        raw = " ".join([lines[0].text[begin:], *(line.text for line in lines[1:])])
        text, marks = joined(_pieces(_linked(raw)))
        segment = Segment(text, self.source[slice(*place)], self.places.at(place[0]), marks)
        if not has_letters(segment.prose()):
            return []
        return [Unit((segment,), lambda texts: ((*place, _written(texts[0], segment)),), place)]


def _lines(source: str) -> Iterator[_Line]:
    for at, line in lines_of(source):
        body = line.rstrip("\r\n")
        text = body.strip(" \t\ufeff")
        indent = len(body) - len(body.lstrip(" \t\ufeff"))
        yield _Line(at + indent, at + indent + len(text), len(body[:indent].replace("\ufeff", "").expandtabs(8)), text)


def _as_table(lines: Sequence[_Line]) -> tables.Table | None:
    """Lines as a table, with the indentation that they have beside that of the first."""
    return tables.read([" " * max(line.indent - lines[0].indent, 0) + line.text for line in lines])


def _linked(raw: str) -> str:
    """References by their own words as such with a target, so that the words may change."""
    return _REFERENCE.sub(lambda match: f"`{match[1]} <{' '.join(match[1].split())}_>`__", raw)


def _pieces(raw: str) -> list[tuple[str, bool]]:
    """A text as (text, whether it is a mark); the words of a link with its target are prose."""
    out: list[tuple[str, bool]] = []
    at = 0
    for link in _EMBEDDED.finditer(raw):
        opening, words, closing = (part for part in link.groups() if part is not None)
        out += [*with_marks(raw[at : link.start()], _MARKS), (opening, True), *with_marks(words, _MARKS), (closing, True)]
        at = link.end()
    return [*out, *with_marks(raw[at:], _MARKS)]


def _written(text: str, segment: Segment) -> str:
    pieces = parts(text, segment) or parts(segment.text, segment) or []
    written = "".join(part if mark else _escaped(part) for part, mark in pieces)
    # words that would begin a block
    return f"\\{written}" if _BEGINS.match(written) and not _BEGINS.match(segment.raw) else written


def _words(text: str, segment: Segment) -> list[str]:
    """A translation in words; marks are not broken."""
    words = [""]
    for part, mark in parts(text, segment) or parts(segment.text, segment) or []:
        first, *others = [part] if mark else _escaped(part).split(" ")
        words[-1] += first
        words += others
    return [word for word in words if word]


def _escaped(prose: str) -> str:
    """What would be markup in prose."""
    return re.sub(r"[*`|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", prose.replace("\n", " "))


def _compare(text: str, segment: Segment) -> object:
    """The marks that a reader finds."""
    return sorted(piece for piece, mark in _pieces(_written(text, segment)) if mark and not piece.startswith("\\"))
