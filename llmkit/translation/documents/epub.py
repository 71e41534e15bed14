"""EPUB 2 and 3 (.epub): chapters, navigation, table of contents (.ncx) and the book's title; links and styles stay.

https://www.w3.org/TR/epub-33/. Chapters are read by `html`, as the tags of XHTML are HTML's.
"""

from __future__ import annotations

import bisect
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from llmkit.errors import InputError
from llmkit.translation.documents import archive, xml
from llmkit.translation.documents import html as pages
from llmkit.translation.documents.archive import ArchiveDocument, Entries, Part
from llmkit.translation.documents.base import Segment, Span, cut, parts
from llmkit.translation.documents.edits import changed

#: Elements that HTML reads up to an end tag, closed at once as only XHTML can.
_CLOSED = re.compile(r"<(script|style|textarea|iframe|title)(?=[\s/])((?:[^<>\"']|\"[^<\"]*\"|'[^<']*')*)/>")
#: The signs around text that is written as it is. Where that looks like a reference it would have to stay.
_LITERAL = re.compile(r"<!\[CDATA\[(?=(?:[^&\]]++|&(?!#?\w+;)|\](?!\]>))*+\]\]>)|\]\]>")
_HIDDEN = {"<![CDATA[": "<wbr   />", "]]>": "<U>"}
_PAGE = re.compile(r"<html\b[^<>]*>")
#: The kind of a segment that begins in literal text.
_IN_LITERAL = "literal"
_META = frozenset(("title", "description"))
_NCX = frozenset(("text",))


def parse(data: bytes, name: str, target: str | None = None) -> ArchiveDocument:
    """target: what the book's language becomes. Raises InputError for a file that is no book, or is locked."""
    entries = archive.opened(data, name, "an EPUB book", "META-INF/container.xml")
    if "META-INF/rights.xml" in entries.names or _locked(entries):
        raise InputError("is locked (DRM), so its chapters can't be read", path=name)
    return ArchiveDocument(entries, tuple(_parts(entries, target)), _compare, text_tags=True)


def _locked(entries: Entries) -> bool:
    """Whether chapters are encrypted; fonts often are."""
    if "META-INF/encryption.xml" not in entries.names:
        return False
    source, _ = entries.source("META-INF/encryption.xml")
    return bool(re.search(r"""URI\s*=\s*["'][^"']*\.(?:x?html?|opf|ncx|xml)["']""", source, re.IGNORECASE))


def _parts(entries: Entries, target: str | None) -> Iterator[tuple[str, Part]]:
    container, _ = entries.source("META-INF/container.xml")
    roots = [xml.attribute(container, token, "full-path") for token in xml.tokens(container) if token.name == "rootfile"]
    done: set[str] = set()
    for root in roots:
        if root is None or root not in entries.names:
            raise InputError(f"is not an EPUB book: it holds no {root}", path=entries.file_name)
        source, encoding = entries.source(root)
        for entry, kind in _manifest(source, posixpath.dirname(root)):
            if entry in entries.names and entry not in done:
                done.add(entry)
                if kind == "application/xhtml+xml":
                    yield entry, _chapter(entries, entry, target)
                elif kind == "application/x-dtbncx+xml":
                    contents, own = entries.source(entry)
                    yield entry, archive.part(contents, own, archive.elements(contents, _NCX))
        if root not in done:
            done.add(root)
            source = archive.in_language(source, target, "language")
            yield root, archive.part(source, encoding, archive.elements(source, _META))


def _manifest(source: str, folder: str) -> Iterator[tuple[str, str]]:
    """The entries that the package names, and their media types."""
    for token in xml.tokens(source):
        if token.name == "item" and token.kind in ("start", "empty"):
            href, kind = xml.attribute(source, token, "href"), xml.attribute(source, token, "media-type")
            if href and kind:
                yield posixpath.normpath(posixpath.join(folder, unquote(href))), kind


def _chapter(entries: Entries, entry: str, target: str | None) -> Part:
    source, encoding = xml.decode(entries.read(entry), f"{entries.file_name}: {entry}")
    if target is not None and (page := _PAGE.search(source)):
        tag = xml.Token("start", page.start(), page.end(), "html")
        places = [place for name, place in xml.attributes(source, tag).items() if name in ("lang", "xml:lang")]
        source = changed(source, [(*place, target) for place in places])
    return cut(source, list(_spans(source)), _write, _compare, encoding)


def _spans(source: str) -> Iterator[Span]:
    """The segments. What only XHTML has is hidden from HTML's rules, at the same length."""
    literal = list(_literal(source))
    closed = [(match.start(), match.group(), _hidden(match)) for match in _CLOSED.finditer(source)]
    closed = sorted([*closed, *((begin, sign, _HIDDEN[sign]) for begin, sign in literal)])
    begins = [begin for begin, _, _ in closed]
    signs = [begin for begin, _ in literal]
    for span in pages.spans(changed(source, [(begin, begin + len(raw), hidden) for begin, raw, hidden in closed])):
        text = span.text
        for _, raw, hidden in closed[bisect.bisect_left(begins, span.begin) : bisect.bisect_left(begins, span.end)]:
            text = text.replace(hidden, raw, 1)
        inside = bisect.bisect_right(signs, span.begin) % 2
        yield replace(span, text=text, kind=_IN_LITERAL if inside else span.kind)


def _literal(source: str) -> Iterator[tuple[int, str]]:
    """Where the signs around literal text stand, in pairs."""
    inside = False
    for match in _LITERAL.finditer(source):
        if (match.group() == "]]>") == inside:
            yield match.span()[0], match.group()
            inside = not inside


def _hidden(match: re.Match[str]) -> str:
    return f"<wbr {' ' * (len(match.group()) - 7)}/>"


def _write(text: str, segment: Segment) -> str:
    """XHTML has no names of characters but XML's, unless a DTD declares them. Literal text is written as it is."""
    inside = segment.kind == _IN_LITERAL
    out = []
    for part, mark in parts(text, segment) or [(text, False)]:
        if mark:
            inside = (part != "]]>") if part in _HIDDEN else inside
            out.append(part)
        else:
            out.append(part.replace("]]>", "]]]]><![CDATA[>") if inside else _escaped(part, segment))
    return "".join(out)


def _escaped(part: str, segment: Segment) -> str:
    return pages.write(part, Segment(part, part, segment.line, (), segment.kind)).replace("&nbsp;", "&#160;")


def _compare(text: str, segment: Segment) -> object:
    return pages.compare(_CLOSED.sub(_hidden, _shown(text)), replace(segment, text=_CLOSED.sub(_hidden, _shown(segment.text))))


def _shown(text: str) -> str:
    for sign, hidden in _HIDDEN.items():
        text = text.replace(sign, hidden)
    return text
