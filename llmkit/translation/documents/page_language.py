"""What a page of HTML says of itself: its encoding, and its language, which becomes that of the translation.

Knows declarations; not what people read of a page.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from llmkit.translation.documents.base import decoded
from llmkit.translation.documents.edits import changed
from llmkit.translation.documents.html_tokens import tokens

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def read(data: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """The text of a file, and its encoding: the one given, or that it declares. What declares another and is UTF-8 is that."""
    encoding = encoding or _encoding(data)
    if encoding == "utf-8":
        return decoded(data, name), encoding
    try:
        source = data.decode(encoding)
        same = source.encode(encoding) == data
    except UnicodeError:
        same = False
    return (source, encoding) if same else (decoded(data, name), "utf-8")


def changed_to(source: str, target: str) -> str:
    """The source with the language of the whole page, if it names one, changed, there and where an element names it again."""
    tags = (token for token in tokens(source) if token.kind == "start")
    named = [(tag.name, begin, end) for tag in tags for name, begin, end in tag.attributes if name in ("lang", "xml:lang") and begin < end]
    page = {_primary(source[begin:end]) for name, begin, end in named if name == "html"}
    named += [("meta", *place) for place in _content_language(source)]
    return changed(source, [(begin, end, target) for _, begin, end in named if _primary(source[begin:end]) in page])


def _content_language(source: str) -> Iterator[tuple[int, int]]:
    """Where <meta http-equiv="content-language"> names the language."""
    for token in tokens(source):
        values = {name: (begin, end) for name, begin, end in token.attributes}
        if token.name == "meta" and "content" in values and source[slice(*values.get("http-equiv", (0, 0)))].lower() == "content-language":
            yield values["content"]


def _primary(tag: str) -> str:
    return re.split("[-_]", tag.strip().lower())[0]


def _encoding(data: bytes) -> str:
    match = _CHARSET.search(data[:4096])
    try:
        named = codecs.lookup(match[1].decode("ascii")).name if match else "utf-8"
    except (LookupError, UnicodeDecodeError):
        return "utf-8"
    # the standard reads Latin-1 and ASCII as windows-1252; what both have in common is written either way
    return "utf-8" if named.startswith(("utf", "rot", "hex", "base64", "zlib", "bz2", "uu", "quopri")) else named
