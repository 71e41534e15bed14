"""Markdown: paragraphs, headings, list items, table cells and the text of HTML blocks; all marks stay.

Blocks and marks come from markdown-it-py (CommonMark, tables) with mdit-py-plugins (footnotes, definition lists,
containers, admonitions, math). Blocks tell their lines; inside a block, `inline` tells where each mark stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents import html as pages
from llmkit.translation.documents.base import Segment, Span, TextDocument, cut, decoded, has_letters, joined, lines_of, parts, with_marks
from llmkit.translation.documents.inline import Piece, parser, pieces_of, skeleton
from llmkit.translation.placeholders import IN_PROSE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_FRONT = re.compile(
    r"\ufeff?(?:---[ \t]*\r?\n.*?\r?\n(?:---|\.\.\.)|\+\+\+[ \t]*\r?\n.*?\r?\n\+\+\+|\{[ \t]*\r?\n\s*\".*?\r?\n\})[ \t]*(?:\r?\n|\Z)",
    re.DOTALL,
)
#: Lines of a paragraph that are structure: alerts, attributes, template marks, contents, fences of containers.
_STRUCTURE = re.compile(
    r"\s*(?:\[![A-Za-z]+\][+-]?|\{:[^\n]*\}|(?:\{\{[^\n]*\}\}|\{%[^\n]*%\})+|\[TOC\]|\[\[_?TOC_?\]\]|:{3,}[^\n]*|\{/?[<%][^\n]*)\s*",
    re.IGNORECASE,
)
_MODULE = re.compile(
    r"(?:import\s.*(?:from\s*)?['\"].*['\"];?|export\s+(?:const|let|var|function|default|class|async|\{|\*).*)\s*", re.DOTALL
)
_TASK = re.compile(r"\[[ xX]\]\s+")
_IDS = re.compile(r"\s*\{:?\s*[#.][^{}\n]*\}\s*$")
_CONTAINER = re.compile(r"\s*[:]{3,}\s*\{?[\w-]+\}?(?:\s+|\[)(?P<title>[^\[\]{}\n]*[^\[\]{}\s])\]?\s*$")
#: Nesting of a cell's text: table, section, row, cell.
_CELL = 4


def parse(data: bytes, name: str, target: str | None = None) -> TextDocument:
    """The document of a Markdown file."""
    source = decoded(data, name)
    front = _FRONT.match(source)
    begin = front.end() if front else len(source) - len(source.lstrip("\ufeff"))
    lines = [(begin + at, line) for at, line in lines_of(source[begin:])]
    md, env = parser(), {}  # type: ignore[var-annotated]
    tokens = md.parse("".join(line.rstrip("\r\n") + "\n" for _, line in lines), env)
    spans: list[Span] = []
    row: tuple[int, int] | None = None
    before = ""
    for token in tokens:
        if token.type == "tr_open":
            row = (token.map[0], 0) if token.map else None
        elif token.type == "html_block" and token.map:
            spans += _page(source, lines, token.map)
        elif token.type == "container_any_open" and token.map:
            spans += _title(lines[token.map[0]])
        elif token.type == "inline" and token.content.strip():
            if token.map and not (row and token.level >= _CELL and token.map[0] == row[0]):
                spans += _paragraph(md, env, lines, token, before)
            elif row is not None:
                row = _cell(md, env, lines, row, token.content, spans)
        before = token.type
    spans.sort(key=lambda span: span.begin)
    return cut(source, tuple(_apart(spans)), _write, partial(_compare, md, env))


def _apart(spans: Sequence[Span]) -> Iterator[Span]:
    """Those with prose in them, none over another."""
    end = 0
    for span in spans:
        if span.begin >= end and has_letters(Segment(span.text, "", 0, span.marks).prose()):
            yield span
            end = span.end


def _page(source: str, lines: list[tuple[int, str]], block: list[int]) -> Iterator[Span]:
    """The text of a block of HTML."""
    begin = lines[block[0]][0]
    end = lines[block[1]][0] if block[1] < len(lines) else len(source)
    for span in pages.spans(source[begin:end]):
        yield Span(span.begin + begin, span.end + begin, span.text, span.marks, f"html {span.kind}")


def _title(line: tuple[int, str]) -> Iterator[Span]:
    """The title of a container."""
    at, text = line
    match = _CONTAINER.match(text)
    if match:
        yield Span(at + match.start("title"), at + match.end("title"), match["title"])


def _paragraph(md: MarkdownIt, env: dict[str, Any], lines: list[tuple[int, str]], token: Any, before: str) -> Iterator[Span]:
    """A block's text: one span from its first to its last line, cut at structure and where a line break is meant."""
    if _MODULE.fullmatch(token.content):
        return
    contents = token.content.split("\n")
    chunk: list[int] = []
    for number, content in enumerate([*contents, None]):
        if content is None or _STRUCTURE.fullmatch(content):
            yield from _chunk(md, env, lines, token, contents, chunk, before)
            chunk = []
        else:
            chunk.append(number)


def _chunk(
    md: MarkdownIt, env: dict[str, Any], lines: list[tuple[int, str]], token: Any, contents: list[str], numbers: list[int], before: str
) -> Iterator[Span]:
    places: list[int] = []  # of each character of `text` in the source
    text = ""
    for number in numbers:
        index = token.map[0] + number
        body = contents[number].strip()
        column = lines[index][1].find(body) if index < len(lines) else -1
        if column < 0:
            return
        end = contents[number].rstrip("\n")
        shift = lines[index][0] + column
        tail = end[len(end.rstrip(" ")) :] if number != numbers[-1] else ""
        text += ("\n" if text else "") + body + tail
        places += ([shift] if places else []) + list(range(shift, shift + len(body) + len(tail)))
    begin, end_of_text = 0, len(text)
    if task := _TASK.match(text):
        begin = task.end()
    if before == "heading_open" and (ids := _IDS.search(text)):
        end_of_text = ids.start()
    pieces = [_shifted(piece, begin) for piece in pieces_of(md, env, text[begin:end_of_text])]
    group: list[Piece] = []
    for piece in [*pieces, None]:
        if piece is not None and not piece.breaks:
            group.append(piece)
            continue
        span = _span(group, places)
        if span is not None:
            yield span
        group = []


def _shifted(piece: Piece, by: int) -> Piece:
    return Piece(piece.begin + by, piece.end + by, piece.text, piece.mark, piece.breaks)


def _span(group: list[Piece], places: list[int]) -> Span | None:
    """The pieces as one span, without space at its ends."""
    while group and not group[0].mark and not group[0].text.strip():
        group = group[1:]
    while group and not group[-1].mark and not group[-1].text.strip():
        group = group[:-1]
    if not group:
        return None
    begin, end = group[0].begin, group[-1].end
    texts = [(piece.text, piece.mark) for piece in group]
    if not group[0].mark:
        begin += len(texts[0][0]) - len(texts[0][0].lstrip())
        texts[0] = (texts[0][0].lstrip(), False)
    if not group[-1].mark:
        end -= len(texts[-1][0]) - len(texts[-1][0].rstrip())
        texts[-1] = (texts[-1][0].rstrip(), False)
    text, marks = joined(_placeholders(texts))
    return Span(places[begin], places[end - 1] + 1, text, marks)


def _placeholders(texts: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Neighbors of prose as one, and the placeholders in it as marks."""
    out: list[tuple[str, bool]] = []
    prose: list[str] = []
    for text, mark in [*texts, ("", True)]:
        if not mark:
            prose.append(text)
            continue
        out += [*with_marks("".join(prose), IN_PROSE), (text, True)]
        prose = []
    return out


def _cell(
    md: MarkdownIt, env: dict[str, Any], lines: list[tuple[int, str]], row: tuple[int, int], content: str, spans: list[Span]
) -> tuple[int, int]:
    """Looks for a table cell's text in its line, behind the cell before it."""
    index, column = row
    at, line = lines[index]
    for written in (content, content.replace("|", "\\|")):
        place = line.find(written, column)
        if place >= 0:
            text, marks = joined(_placeholders([(p.text, p.mark) for p in pieces_of(md, env, content)]))
            spans.append(Span(at + place, at + place + len(written), text, marks, "cell"))
            return index, place + len(written)
    return row


_SPECIAL = re.compile(r"[\\`*\[\]~]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_BLOCK = re.compile(r"(?:#{1,6}|[-+>])(?=\s|$)|[=-]+(?=\s*$)|:(?=\s)|:{3}")
_LIST = re.compile(r"(\d{1,9})([.)])(?=\s|$)")


def _write(text: str, segment: Segment) -> str:
    """On one line, whatever lines it stood on; prose escaped as it was in the source, and where it would be a mark."""
    if segment.kind.startswith("html"):
        return pages.write(text, Segment(segment.text, segment.raw, segment.line, segment.marks, segment.kind[5:]))
    escaped = frozenset(re.findall(r"\\([!-/:-@\[-`{-~])", segment.raw))
    literal = _literal(segment)
    written = "".join(part if mark else _escaped(part, segment, escaped, literal) for part, mark in parts(text, segment) or [(text, False)])
    written = " ".join(written.split("\n"))
    if segment.kind == "cell":
        return re.sub(r"(?<!\\)\|", r"\\|", written)
    if not _BLOCK.match(segment.text) and _BLOCK.match(written):
        return f"\\{written}"
    return _LIST.sub(r"\1\\\2", written, count=1) if _LIST.match(written) and not _LIST.match(segment.text) else written


def _escaped(prose: str, segment: Segment, escaped: frozenset[str], literal: frozenset[str]) -> str:
    out = []
    at = 0
    for match in re.finditer(r"[!-/:-@\[-`{-~\xa0]", prose):
        character = match.group()
        out.append(prose[at : match.start()])
        at = match.end()
        if character == "\xa0":
            out.append("&nbsp;" if "&nbsp;" in segment.raw else character)
        elif character == "&" and ("&amp;" in segment.raw or _SPECIAL.match(prose, match.start())):
            out.append("&amp;")
        elif character == "<" and "&lt;" in segment.raw:
            out.append("&lt;")
        elif character in escaped or (character not in literal and _SPECIAL.match(prose, match.start())):
            out.append(f"\\{character}")
        else:
            out.append(character)
    return "".join([*out, prose[at:]])


def _literal(segment: Segment) -> frozenset[str]:
    """Brackets that stand in the source's prose without an escape, and so are no marks there."""
    prose = segment.prose()
    return frozenset(c for c in "[]" if c in prose and f"\\{c}" not in segment.raw)


def _compare(md: MarkdownIt, env: dict[str, Any], text: str, segment: Segment) -> object:
    if segment.kind.startswith("html"):
        return pages.compare(text, Segment(segment.text, segment.raw, segment.line, segment.marks, segment.kind[5:]))
    written = _write(text, segment)
    return skeleton(md, env, written), segment.kind == "cell" or [
        t.type for t in md.parse(written, {"references": env.get("references", {})})
    ]
