"""XML, read token by token with the place of each: what formats of XML share. Nothing outside of a segment changes a byte.

Whether a file is well-formed says expat, which loads nothing from outside and expands no entity here; then a plain tokenizer is
exact. An entity of the file's own stays as it is written. https://www.w3.org/TR/xml/
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from llmkit.errors import InputError
from llmkit.translation.documents.base import with_marks
from llmkit.translation.placeholders import MARKUP, PLACEHOLDER

Kind = Literal["text", "cdata", "start", "end", "empty", "other"]
_TOKEN = re.compile(
    r"(?P<cdata><!\[CDATA\[.*?\]\]>)|(?P<other><!--.*?-->|<\?.*?\?>"
    r"|<!DOCTYPE(?:[^\[\]<>\"']|\"[^\"]*\"|'[^']*'|\[(?:<!--.*?-->|<\?.*?\?>|\"[^\"]*\"|'[^']*'|[^\]\"'])*\])*>)"
    r"|<(?P<close>/?)(?:[^\s/>:]+:)?(?P<name>[^\s/>:]+)(?:[^>\"']|\"[^\"]*\"|'[^']*')*?(?P<empty>/?)>|(?P<text>[^<]+)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([^\s=/<>"']+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_OWN_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);|#)[^\s;&<]+;")
#: What XML 1.0 does not allow in a text.
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: In the texts of programs.
MARKS = re.compile(f"{MARKUP}|{PLACEHOLDER.pattern}")


@dataclass(frozen=True, slots=True)
class Token:
    """A part [begin, end) of the source. name: of a tag, without its prefix."""

    kind: Kind
    begin: int
    end: int
    name: str = ""


def whole(tokens: Iterable[Token], is_one: Callable[[Token], bool]) -> Iterator[Token]:
    """The tokens; an element whose start tag `is_one`, with all that it holds, is one token of kind other."""
    depth, begin = 0, 0
    for token in tokens:
        if depth:
            depth += {"start": 1, "end": -1}.get(token.kind, 0)
            if not depth:
                yield Token("other", begin, token.end)
        elif token.kind == "start" and is_one(token):
            depth, begin = 1, token.begin
        else:
            yield token


def read(data: bytes, name: str) -> tuple[str, str]:
    """The source of a well-formed XML file, and its encoding. Raises InputError naming byte or line."""
    source, encoding = decode(data, name)
    check(source, name)
    return source, encoding


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text of an XML file, and its encoding by byte order mark or declaration. Raises InputError naming the byte."""
    encoding = "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16-le" if data.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
    elif not data.startswith(codecs.BOM_UTF8) and (declared := _DECLARED.match(data[:200])):
        try:
            encoding = codecs.lookup(declared[1].decode()).name
        except LookupError as exc:
            raise InputError(f"declares an unknown encoding, {declared[1].decode()}", path=name, line=1) from exc
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(f"byte {exc.start + 1} is not {encoding}", path=name, line=line) from exc
    except (LookupError, UnicodeError) as exc:  # "base64" and the like
        raise InputError(f"declares {encoding}, which is not a text encoding", path=name, line=1) from exc


def check(source: str, name: str) -> None:
    """Raises InputError naming the line of what is not well-formed."""
    from xml.parsers import expat

    parser = expat.ParserCreate("utf-8")
    parser.DefaultHandler = lambda _: None  # with it, no entity is expanded
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(source.encode("utf-8", errors="replace"), True)
    except expat.ExpatError as exc:
        said = expat.errors.messages.get(exc.code, "it can't be parsed")
        raise InputError(f"is not well-formed XML: {said} (column {exc.offset + 1})", path=name, line=exc.lineno) from exc


def tokens(source: str, begin: int = 0, end: int | None = None) -> Iterator[Token]:
    """All of a well-formed source, in order; or of a part of it that ends between two tokens."""
    for match in _TOKEN.finditer(source, begin, len(source) if end is None else end):
        kind = match.lastgroup
        if kind == "empty":
            tag: Kind = "end" if match["close"] else "empty" if match["empty"] else "start"
            yield Token(tag, match.start(), match.end(), match["name"])
        elif kind == "text":
            yield Token("text", match.start(), match.end())
        else:
            yield Token("cdata" if kind == "cdata" else "other", match.start(), match.end())


def attributes(source: str, token: Token) -> dict[str, tuple[int, int]]:
    """The places of a tag's values by the names as they are written."""
    matches = _ATTRIBUTE.finditer(source, token.begin, token.end)
    return {match[1]: match.span(2 if match[2] is not None else 3) for match in matches}


def attribute(source: str, token: Token, name: str) -> str | None:
    """A tag's value, its references read."""
    place = attributes(source, token).get(name)
    return None if place is None else html.unescape(source[slice(*place)])


def pieces(source: str, inside: Iterable[Token], marks: re.Pattern[str] = MARKS) -> list[tuple[str, bool]]:
    """Tokens as (text, whether it is a mark): prose as it reads, marks as they are written."""
    out: list[tuple[str, bool]] = []
    for token in inside:
        raw = source[token.begin : token.end]
        if token.kind == "text":
            out += text_pieces(raw, marks)
        elif token.kind == "cdata":
            out += [("<![CDATA[", True), *with_marks(raw[9:-3], marks), ("]]>", True)]
        else:
            out.append((raw, True))
    return out


def words(source: str, token: Token) -> str | None:
    """What a token of text says, as text or in a CDATA section; None for any other token."""
    if token.kind == "text":
        return unescape(source[token.begin : token.end])
    return source[token.begin + 9 : token.end - 3] if token.kind == "cdata" else None


def text_pieces(raw: str, marks: re.Pattern[str] = MARKS) -> list[tuple[str, bool]]:
    """The same for the text between two tags."""
    out: list[tuple[str, bool]] = []
    for part, own in with_marks(raw, _OWN_ENTITY):
        out += [(part, True)] if own else [(escape(p) if m else p, m) for p, m in with_marks(unescape(part), marks)]
    return out


def unescape(raw: str) -> str:
    """Text with XML's references read; others stay."""
    return re.sub(r"&(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);", lambda match: html.unescape(match.group()), raw)


def escape(text: str, *, quote: bool = False) -> str:
    """Text as XML writes it; what it does not allow is left out."""
    return html.escape(_NOT_ALLOWED.sub("", text), quote=quote)


def written(split: Iterable[tuple[str, bool]]) -> str:
    """A translation's (text, whether it is a mark) as XML."""
    out: list[str] = []
    cdata = False
    for part, mark in split:
        if mark:
            cdata = part == "<![CDATA[" or (cdata and part != "]]>")
            out.append(part)
        else:
            out.append(_NOT_ALLOWED.sub("", part).replace("]]>", "]] >") if cdata else escape(part))
    return "".join(out)


def skeleton(fragment: str) -> list[str]:
    """The tags of a part of a file, in order, and its placeholders, sorted."""
    every = list(tokens(fragment))
    tags = [fragment[t.begin : t.end] if t.kind != "cdata" else "<![CDATA[" for t in every if t.kind != "text"]
    words = [match.group() for t in every if t.kind in ("text", "cdata") for match in MARKS.finditer(unescape(fragment[t.begin : t.end]))]
    return [*tags, *sorted(words)]
