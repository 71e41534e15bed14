"""The tokens of HTML, as the standard reads them (13.2.5, tokenization), each with its place.

What the program of a template reads is a token, too. Knows tags; not what people read of a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmkit.translation.documents.page_templates import next_of

#: Elements whose content the standard reads up to their end tag, whatever it holds.
RAW = frozenset(("script", "style", "textarea", "xmp", "iframe", "noembed", "noframes"))
_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)((?>[^>"'=]++|=\s*+"[^"]*+"|=\s*+'[^']*+'|=\s*+[^\s>"']*+|["'])*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']++)))?+""")
#: What begins with a `<` and is no tag; programs in pages (PHP, ERB, JSP) reach to their own ends.
_BLOCKS = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<!", ">"), ("<?php", "?>"), ("<?=", "?>"), ("<?", ">"), ("<%", "%>"))
Kind = Literal["text", "start", "end", "other"]


@dataclass(frozen=True)
class Token:
    """A part [begin, end) of the source. name: of a tag, in small letters."""

    kind: Kind
    begin: int
    end: int
    name: str = ""
    attributes: tuple[tuple[str, int, int], ...] = ()


def tokens(source: str) -> Iterator[Token]:
    """All of a page, in order: together they are the source. Any text has tokens; what never ends reaches to its end."""
    at, size = 0, len(source)
    following = next_of(source)
    while at < size:
        match = following.search(source, at)
        begin = match.start() if match else size
        if begin > at:
            yield Token("text", at, begin)
        if match is None:
            return
        token = Token("other", *match.span()) if match.end() > begin + 1 else _markup(source, begin)
        yield token
        at = token.end
        if token.kind == "start" and token.name in RAW:
            close = re.compile(rf"</{token.name}(?=[\s/>])", re.IGNORECASE).search(source, at)
            end = close.start() if close else size
            if end > at:
                yield Token("other", at, end)
            at = end


def _markup(source: str, at: int) -> Token:
    """The token that begins with a `<`. What never ends reaches to the end of the file."""
    size = len(source)
    for opening, closing in _BLOCKS:
        if source.startswith(opening, at):
            end = source.find(closing, at + len(opening))
            return Token("other", at, size if end < 0 else end + len(closing))
    following = source[at + 1 : at + 3]
    if not re.match(r"/?[a-zA-Z]", following):
        return Token("text", at, at + 1)
    match = _TAG.match(source, at)
    if match is None:
        return Token("other", at, size)
    attributes = tuple(_attributes(match))
    return Token("end" if match[1] else "start", at, match.end(), match[2].lower(), attributes)


def _attributes(match: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    for attribute in _ATTRIBUTE.finditer(match.string, match.start(3), match.end(3)):
        group = next((n for n in (2, 3, 4) if attribute[n] is not None), 0)
        begin, end = attribute.span(group) if group else (attribute.end(), attribute.end())
        yield attribute[1].lower(), begin, end
