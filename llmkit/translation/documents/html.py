"""HTML: the text between tags, a segment from one block to the next; tags, attributes, scripts, comments and entities stay.

Places of tags come from the standard library's html.parser, which does not build a tree: depth costs nothing.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from llmkit.translation.documents.base import Segment, TextDocument, cut, decoded, has_letters

#: Elements inside a sentence; all others end one.
_INLINE = frozenset(
    (
        "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i", "img", "ins", "label", "mark",
        "nobr", "q", "rp", "rt", "ruby", "s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "wbr",
    )
)  # fmt: skip
#: Elements whose content is no prose.
_VERBATIM = frozenset(("script", "style", "pre", "code", "kbd", "samp", "var", "textarea", "svg", "math", "template"))
#: Tags, and entities that would be markup if they were characters.
_TAG = re.compile(r"""<(?:"[^"]*"|'[^']*'|[^<>"'])*>|&(?:lt|gt);|&amp;(?=\#?\w+;)|&\#(?:0*(?:38|60|62)|[xX]0*(?:26|3[cCeE]));""")


def parse(data: bytes, name: str) -> TextDocument:
    """The document of an HTML file."""
    source = decoded(data, name)
    finder = _Finder(source)
    finder.feed(source)
    finder.close()
    finder.end_segment()
    return cut(source, finder.spans, _read, _write, _TAG)


class _Finder(HTMLParser):
    """Collects the places of segments: runs of text and inline tags that hold a letter."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self.source = source
        self.spans: list[tuple[int, int]] = []
        self._lines = [0, *(m.end() for m in re.finditer("\n", source))]
        self._begin: int | None = None
        self._end = 0
        self._verbatim: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        untranslated = dict(attrs).get("translate") == "no"
        if self._verbatim:
            if tag == self._verbatim[-1]:
                self._verbatim.append(tag)
            return
        if tag in _VERBATIM or untranslated:
            self.end_segment()
            self._verbatim.append(tag)
        elif tag not in _INLINE:
            self.end_segment()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._verbatim and tag not in _INLINE:
            self.end_segment()

    def handle_endtag(self, tag: str) -> None:
        if self._verbatim:
            if tag == self._verbatim[-1]:
                self._verbatim.pop()
        elif tag not in _INLINE:
            self.end_segment()

    def handle_data(self, data: str) -> None:
        self._text(len(data), has_letters(data))

    def handle_entityref(self, name: str) -> None:
        self._reference(f"&{name}", has_letters(html.unescape(f"&{name};")))

    def handle_charref(self, name: str) -> None:
        self._reference(f"&#{name}", has_letters(html.unescape(f"&#{name};")))

    def handle_comment(self, data: str) -> None:
        self.end_segment()

    def handle_pi(self, data: str) -> None:
        self.end_segment()

    def unknown_decl(self, data: str) -> None:
        self.end_segment()

    def end_segment(self) -> None:
        if self._begin is not None:
            self.spans.append((self._begin, self._end))
        self._begin = None

    def _reference(self, text: str, letters: bool) -> None:
        at = self._at()
        self._text(len(text) + (self.source[at + len(text) : at + len(text) + 1] == ";"), letters)

    def _text(self, length: int, letters: bool) -> None:
        """Text that belongs to a segment: one begins with its first letter's run, and ends with the last that holds one."""
        if self._verbatim or not letters:
            return
        at = self._at()
        if self._begin is None:
            self._begin = at
        self._end = at + length

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column


def _read(raw: str) -> str:
    """Entities as characters, lines joined; tags, and entities that would be markup, stay as they are written."""
    parts = re.split(f"({_TAG.pattern})", re.sub(r"[ \t]*\r?\n[ \t\r\n]*", " ", raw))
    return "".join(part if i % 2 else html.unescape(part) for i, part in enumerate(parts))


def _write(text: str, _: Segment) -> str:
    parts = re.split(f"({_TAG.pattern})", text)
    return "".join(part if i % 2 else html.escape(part, quote=False).replace("\xa0", "&nbsp;") for i, part in enumerate(parts))
