"""Markdown: paragraphs, headings, list items and table cells; front matter, code, HTML, links and emphasis marks stay.

Blocks come from markdown-it-py (CommonMark with tables), which tells the lines of each.
"""

from __future__ import annotations

import re
from typing import Any

from llmkit.translation.documents.base import Segment, TextDocument, cut, decoded, has_letters, lines_of

_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n.*?\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
#: Inside a line: code, the marks of links and images with their targets, autolinks and tags, emphasis, escapes.
_MARKUP = re.compile(
    r"`+[^`]*`+|!?\[(?=[^\]\n]*\])|\]\([^)\n]*\)|\]\[[^\]\n]*\]|\](?=$|[^(\[])|<[^<>\n]+>|&#?\w+;|\*+|(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)|~~|"
    r"\\[!-/:-@\[-`{-~]"
)
_HARD_BREAK = re.compile(r"(?: {2,}|\\)$")


def parse(data: bytes, name: str) -> TextDocument:
    """The document of a Markdown file."""
    from markdown_it import MarkdownIt

    source = decoded(data, name)
    front = _FRONT.match(source)
    begin = front.end() if front else len(source) - len(source.lstrip("\ufeff"))
    lines = [(begin + at, line) for at, line in lines_of(source[begin:])]
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse("".join(line.rstrip("\r\n") + "\n" for _, line in lines))
    spans: list[tuple[int, int]] = []
    row: tuple[int, int] | None = None
    for token in tokens:
        if token.type == "tr_open":
            row = (token.map[0], 0) if token.map else None
        elif token.type == "inline" and token.content.strip():
            if token.map and not (row and token.level >= _CELL and token.map[0] == row[0]):
                spans += _paragraph(lines, token)
            elif row is not None:
                row = _cell(lines, row, token.content, spans)
    spans = sorted(span for span in spans if has_letters(_MARKUP.sub("", source[span[0] : span[1]])))
    return cut(source, spans, _read, _write, _MARKUP)


#: Nesting of a cell's text: table, section, row, cell.
_CELL = 4


def _paragraph(lines: list[tuple[int, str]], token: Any) -> list[tuple[int, int]]:
    """Places of a block's text: one from its first to its last line, cut where a line break is meant."""
    spans: list[tuple[int, int]] = []
    begin = end = None
    contents = token.content.split("\n")
    for number, content in enumerate(contents):
        index = token.map[0] + number
        if index >= len(lines):
            break
        at, line = lines[index]
        body = content.strip()
        column = line.find(body)
        if column < 0 or not body:
            continue
        begin = at + column if begin is None else begin
        end = at + column + len(body)
        if _HARD_BREAK.search(content) and number < len(contents) - 1:
            spans.append((begin, end - (1 if body.endswith("\\") else 0)))
            begin = end = None
    if begin is not None and end is not None:
        spans.append((begin, end))
    return spans


def _cell(lines: list[tuple[int, str]], row: tuple[int, int], content: str, spans: list[tuple[int, int]]) -> tuple[int, int]:
    """Finds a table cell's text in its line, behind the cell before it."""
    index, column = row
    at, line = lines[index]
    for written in (content, content.replace("|", "\\|")):
        found = line.find(written, column)
        if found >= 0:
            spans.append((at + found, at + found + len(written)))
            return index, found + len(written)
    return row


def _read(raw: str) -> str:
    # lines of a paragraph, with the marks of a quotation before them, are one text
    return re.sub(r"\s*(?:\r\n|\r|\n)[ \t]*(?:>[ \t]?)*[ \t]*", " ", raw)


def _write(text: str, _: Segment) -> str:
    """On one line, whatever lines it stood on."""
    return " ".join(text.split("\n"))
