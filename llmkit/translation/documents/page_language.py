"""What a page of HTML says of itself: its encoding, and its language, which becomes that of the translation.

Knows declarations; not what people read of a page.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping

from llmkit.translation.documents.base import decoded
from llmkit.translation.documents.edits import changed
from llmkit.translation.documents.html_tokens import Token, tokens
from llmkit.translation.languages import Language

Place = tuple[int, int]
_TAG = re.compile(r"\s*[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*\s*")
#: Scripts that are written from the right: Arabic, Hebrew, Syriac, Thaana, N'Ko, Adlam.
_FROM_THE_RIGHT = frozenset(("Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm"))
_CHARSET = re.compile(rb"""(?:\A<\?xml\b[^<>]{0,200}?encoding|<meta[^>]{0,200}?charset)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


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
    """The source with the language of the whole page, if it names one, changed, there and where an element names it again.

    The direction of the page becomes that of the language.
    """
    tags = [token for token in tokens(source) if token.kind == "start"]
    named = [(tag.name, begin, end) for tag in tags for name, begin, end in tag.attributes if _names_it(source, name, begin, end)]
    whole = [(begin, end) for name, begin, end in named if name in ("html", "body")]
    if not whole and tags:  # a part of a page
        whole = [(begin, end) for name, begin, end in tags[0].attributes if _names_it(source, name, begin, end)]
    page = {_primary(source[begin:end]) for begin, end in whole}
    named += [("meta", *place) for place in _content_language(source)]
    changes = {(begin, end): target for _, begin, end in named if _primary(source[begin:end]) in page}
    for tag in tags:
        if tag.name in ("html", "body") and any(place in changes for place in whole):
            changes |= dict(_direction(source, tag, target, changes))
    return changed(source, [(begin, end, text) for (begin, end), text in changes.items()])


def _names_it(source: str, attribute: str, begin: int, end: int) -> bool:
    """Whether an attribute names a language, and no template does."""
    return attribute in ("lang", "xml:lang") and _TAG.fullmatch(source, begin, end) is not None


def _direction(source: str, tag: Token, target: str, changes: Mapping[Place, str]) -> Iterator[tuple[Place, str]]:
    """The direction of a page's text, which is told where it is not that of most languages."""
    direction = "rtl" if Language(target).script in _FROM_THE_RIGHT else "ltr"
    places = {name: (begin, end) for name, begin, end in tag.attributes}
    if "dir" in places and source[slice(*places["dir"])].lower() in ("ltr", "rtl"):
        yield places["dir"], direction
    elif "dir" not in places and direction == "rtl" and tag.name == "html":
        for place in [places[name] for name in ("lang", "xml:lang") if places.get(name) in changes][:1]:
            quote = source[place[0] - 1] if source[place[0] - 1] in "\"'" else ""
            yield place, f"{changes[place]}{quote} dir={quote}rtl"


def _content_language(source: str) -> Iterator[tuple[int, int]]:
    """Where <meta http-equiv="content-language"> names the language."""
    for token in tokens(source):
        values = {name: (begin, end) for name, begin, end in token.attributes}
        told = source[slice(*values.get("http-equiv", (0, 0)))].lower() == "content-language"
        if token.name == "meta" and told and "content" in values and _TAG.fullmatch(source, *values["content"]):
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
