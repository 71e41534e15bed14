"""The entries of a gettext catalog, each with the places of what may be written anew.

Read as gettext's own lexer does, token by token: only a line feed ends a line, and what stands on which line says nothing.
polib counts other characters as line ends, so its places can't be used. https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmkit.errors import InputError
from llmkit.translation.documents.edits import Lines

_TOKEN = re.compile(
    r"[ \t\f\v\r\n\ufeff]+|(?P<comment>#[^\n]*\n?)"
    r"|(?P<keyword>(?:msgctxt|msgid_plural|msgid|msgstr|domain)(?!\w))(?:\s*\[\s*(?P<form>\d+)\s*\])?"
    r'|(?P<string>"(?:[^"\\\n]|\\.)*+")'
)
_LONGEST_INDENT = 200
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass
class Entry:
    """texts: by keyword, with the number of a plural form. begin and end: from the first msgstr to the end of the last one's text.

    flagged: where the line of flags stands, or where it would, before the keywords. line: of the first keyword, from 1.
    """

    line: int = 0
    flags: str = ""
    flagged: tuple[int, int] | None = None
    head: int = -1
    texts: dict[str, str] = field(default_factory=dict)
    begin: int = -1
    end: int = -1
    indent: str = ""

    @property
    def fuzzy(self) -> bool:
        """Whether its flags say that a person is to read its translation."""
        return "fuzzy" in (flag.strip() for flag in self.flags.split(","))


def read(source: str, name: str) -> Iterator[Entry]:
    """The entries that are not obsolete. Raises InputError naming the line of what is none of a catalog's."""
    lines = Lines(source)
    entry, keyword = Entry(), ""
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None or (match["string"] and not keyword):
            raise InputError("is not a line of a gettext catalog", path=name, line=lines.at(at), hint='for example: msgid "Hello"')
        begin, at = at, match.end()
        if match["comment"]:
            if entry.begin >= 0 or match["comment"].startswith("#~"):
                if entry.begin >= 0:
                    yield entry
                entry, keyword = Entry(), ""  # the flags before an obsolete entry are its own
            if match["comment"].startswith("#,"):
                entry.flags += "," + match["comment"][2:]
                entry.flagged = entry.flagged or (begin - len(_indent(source, begin)), at)
        elif match["keyword"]:
            if match["keyword"] in ("msgctxt", "msgid", "domain") and entry.begin >= 0:
                yield entry
                entry = Entry()
            keyword = match["keyword"] + (match["form"] or "")
            _begin(entry, source, begin, keyword, lines)
        elif match["string"]:
            entry.texts[keyword] = entry.texts.get(keyword, "") + _unescaped(match["string"][1:-1])
            if keyword.startswith("msgstr"):
                entry.end = at
    if entry.begin >= 0:
        yield entry


def _begin(entry: Entry, source: str, begin: int, keyword: str, lines: Lines) -> None:
    """Notes where a keyword stands."""
    indent = _indent(source, begin)
    if entry.head < 0 and keyword != "domain":
        entry.line, entry.head = lines.at(begin), begin - len(indent)
    if keyword.startswith("msgstr") and entry.begin < 0:
        entry.begin = entry.end = begin
        entry.indent = indent


def _indent(source: str, at: int) -> str:
    """The white space between the beginning of a line and a place in it; nothing where other things stand before it."""
    before = source[max(at - _LONGEST_INDENT, 0) : at].rpartition("\n")[2]
    return "" if before.strip("\ufeff \t\f\v\r") else before.lstrip("\ufeff")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", _character, text)


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPES.get(code, code)
