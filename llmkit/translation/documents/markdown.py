"""Markdown: paragraphs, headings, list items, table cells and the text of HTML blocks; all marks stay.

Blocks and marks come from markdown-it-py (CommonMark, tables) with mdit-py-plugins (footnotes, definition lists,
containers, admonitions, math). Blocks tell their lines; inside a block, `inline` tells where each mark stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents import html as pages
from llmkit.translation.documents.base import Segment, Span, TextDocument, cut, decoded, has_letters, joined, lines_of, parts, with_marks
from llmkit.translation.documents.inline import Piece, parser, pieces_of, skeleton
from llmkit.translation.placeholders import IN_PROSE, STATEMENT

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT = re.compile(
    r"\ufeff?(?:---[ \t]*\r?\n.*?\r?\n(?:---|\.\.\.)|\+\+\+[ \t]*\r?\n.*?\r?\n\+\+\+|\{[ \t]*\r?\n\s*\".*?\r?\n\})[ \t]*(?:\r?\n|\Z)",
    re.DOTALL,
)
#: Lines of a paragraph that are structure: alerts, attributes, template marks, contents, fences of containers, abbreviations.
_STRUCTURE = re.compile(
    rf"\s*(?:\[![A-Za-z]+\][+-]?|\{{:[^\n]*\}}|(?:\{{\{{(?:[^{{}}\n]|\{{(?!\{{)|\}}(?!\}}))*+\}}\}}|{STATEMENT})++"
    r"|\[TOC\]|\[\[_?TOC_?\]\]|:{3,}[^\n]*|\*\[[^\]\n]+\]:[^\n]*|\{/?[<%][^\n]*)\s*",
    re.IGNORECASE,
)
_MODULE = re.compile(r"(?:import\s[^'\"]*+['\"].*['\"];?|export\s+(?:const|let|var|function|default|class|async|\{|\*).*)\s*", re.DOTALL)
_TASK = re.compile(r"\[[ xX]\]\s+")
_IDS = re.compile(r"(?<!\s)\s*+\{:?\s*[#.][^{}\n]*\}\s*$")
_CONTAINER = re.compile(r"\s*[:]{3,}\s*\{?[\w-]+\}?(?:\s++|\[)(?P<title>[^\[\]{}\n]*[^\[\]{}\s])\]?\s*$")
_CALLOUT = re.compile(r"\[![A-Za-z]+\][+-]?[ \t]+\S")
#: The end of a link or an image that has a title.
_LINK_TITLE = re.compile(r"""\]\(.*\s(?P<quote>["'])(?P<title>(?:\\.|(?!(?P=quote))[^\\])+)(?P=quote)\s*\)""", re.DOTALL)
#: A tab of MkDocs.
_TAB = re.compile(r'\s*={3}[!+]?\s+"(?P<title>[^"\n]+)"\s*')
#: Nesting of a cell's text: table, section, row, cell.
_CELL = 4


def parse(data: bytes, name: str, target: str | None = None) -> TextDocument:
    """The document of a Markdown file."""
    source = decoded(data, name)
    md, env = parser(), {}  # type: ignore[var-annotated]
    _, lines, tokens = _blocks(source, md, env)
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
    spans.sort(key=lambda span: (span.begin, -span.end))
    return cut(source, tuple(_apart(spans)), _write, partial(_compare, md, env), shape=lambda built: _skeleton(decoded(built, name)))


def _blocks(source: str, md: MarkdownIt, env: dict[str, Any]) -> tuple[str, list[tuple[int, str]], list[Token]]:
    """The front matter, the lines behind it with their places, and the blocks that they are."""
    front = _FRONT.match(source)
    begin = front.end() if front else len(source) - len(source.lstrip("\ufeff"))
    lines = [(begin + at, line) for at, line in lines_of(source[begin:])]
    return source[:begin], lines, md.parse("".join(line.rstrip("\r\n") + "\n" for _, line in lines), env)


def _skeleton(source: str) -> list[object]:
    """Blocks and marks in order without words: code, formulas, targets and definitions of links, lines of structure, placeholders."""
    md, env = parser(), {}  # type: ignore[var-annotated]
    front, _, tokens = _blocks(source, md, env)
    out: list[object] = [front]
    for token in tokens:
        if token.type == "html_block":
            out += pages.skeleton(token.content)
        elif token.type == "inline":
            structure, prose = _by_structure(token.content)
            out += [structure, *skeleton(md, env, prose)]
        else:
            info = _untitled(token.info) if token.type.startswith(("container", "admonition")) else token.info
            label = token.meta.get("label")
            content = "" if token.type == "admonition_open" else token.content
            out.append((token.type, token.tag, token.markup, token.level, str(token.attrs), info, label, content))
    return [*out, sorted((name, link["href"]) for name, link in env.get("references", {}).items())]


def _untitled(info: str) -> str:
    """The first line of a container or an admonition without its title."""
    match = _CONTAINER.match(f":::{info}")
    return info[: match.start("title") - 3] if match else re.sub(r'"[^"]*"', '""', info)


def _by_structure(content: str) -> tuple[list[str], str]:
    """The lines of a block that are structure, and its prose."""
    if _MODULE.fullmatch(content):
        return [content], ""
    if _TAB.fullmatch(content):
        return [_untitled(content)], ""
    lines = content.split("\n")
    structure = [line.strip() for line in lines if _STRUCTURE.fullmatch(line)]
    prose = "\n".join(line for line in lines if not _STRUCTURE.fullmatch(line))
    task = _TASK.match(prose)
    return [*structure, task.group() if task else ""], prose[task.end() if task else 0 :]


def _apart(spans: Sequence[Span]) -> Iterator[Span]:
    """Those with prose in them, none over another but titles and the like in a sentence."""
    end = 0
    for span in spans:
        inside = span.end <= end and span.kind.startswith(("html attribute", "title"))
        if (inside or span.begin >= end) and has_letters(Segment(span.text, "", 0, span.marks).prose()):
            yield span
            end = max(end, span.end)


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
    if tab := _TAB.fullmatch(token.content):
        at, line = lines[token.map[0]]
        begin = at + line.index(tab["title"])
        yield Span(begin, begin + len(tab["title"]), tab["title"])
        return
    contents = token.content.split("\n")
    chunk: list[int] = []
    for number, content in enumerate([*contents, None]):
        if content is None or _STRUCTURE.fullmatch(content):
            yield from _chunk(md, env, lines, token, contents, chunk, before)
            chunk = []
        else:
            chunk.append(number)
            if _CALLOUT.match(content):  # the title is a line of its own
                yield from _chunk(md, env, lines, token, contents, chunk, before)
                chunk = []


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
    yield from _between_breaks([_shifted(piece, begin) for piece in pieces_of(md, env, text[begin:end_of_text])], places)


def _between_breaks(pieces: Sequence[Piece], places: list[int], kind: str = "") -> Iterator[Span]:
    """The pieces as spans, from one line break that is meant to the next. places: of each of their characters in the source."""
    group: list[Piece] = []
    for piece in [*pieces, None]:
        if piece is not None and not piece.breaks:
            group.append(piece)
            continue
        span = _span(group, places, kind)
        if span is not None:
            yield span
            yield from _titles(group, places)
        group = []


def _titles(group: list[Piece], places: list[int]) -> Iterator[Span]:
    """The titles of links and images, each within its mark."""
    for piece in group:
        if piece.mark and (match := _LINK_TITLE.fullmatch(piece.text)):
            begin, end = (piece.begin + at for at in match.span("title"))
            prose = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", match["title"]))
            text, marks = joined(with_marks(" ".join(prose.split("\n")), IN_PROSE))
            yield Span(places[begin], places[end - 1] + 1, text, marks, f"title {match['quote']}")


def _shifted(piece: Piece, by: int) -> Piece:
    return Piece(piece.begin + by, piece.end + by, piece.text, piece.mark, piece.breaks)


def _span(group: list[Piece], places: list[int], kind: str) -> Span | None:
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
    return Span(places[begin], places[end - 1] + 1, text, marks, kind)


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
            spans += _between_breaks(pieces_of(md, env, content), _characters(content, written, at + place), "cell")
            return index, place + len(written)
    return row


def _characters(content: str, written: str, at: int) -> list[int]:
    """Where each character of a cell stands, whose text `written` begins at `at`; a bar is written with a backslash."""
    out: list[int] = []
    for character in content:
        out.append(at)
        at += 2 if character == "|" and len(written) > len(content) else 1
    return out


_SPECIAL = re.compile(r"[\\`*\[\]~]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_BLOCK = re.compile(r"(?:#{1,6}|[-+>])(?=\s|$)|[=-]+(?=\s*$)|:(?=\s)|:{3}")
_LIST = re.compile(r"(\d{1,9})([.)])(?=\s|$)")


def _write(text: str, segment: Segment) -> str:
    """On one line, whatever lines it stood on; prose escaped as it was in the source, and where it would be a mark."""
    if segment.kind.startswith("html"):
        return pages.write(text, Segment(segment.text, segment.raw, segment.line, segment.marks, segment.kind[5:]))
    if segment.kind.startswith("title"):
        prose = re.sub(rf"[\\{segment.kind[-1]}]", r"\\\g<0>", " ".join(text.split("\n")))
        return re.sub(r"&(?=#?\w+;)", "&amp;", prose)
    escaped, literal = frozenset(re.findall(r"\\([!-/:-@\[-`{-~])", segment.raw)), _literal(segment)
    referred = frozenset(name for name in ("&nbsp;", "&amp;", "&lt;") if name in segment.raw)
    written = "".join(
        part if mark else _escaped(part, referred, escaped, literal) for part, mark in parts(text, segment) or [(text, False)]
    )
    written = " ".join(written.split("\n"))
    if segment.kind == "cell":
        return re.sub(r"(?<!\\)\|", r"\\|", written)
    if not _BLOCK.match(segment.text) and _BLOCK.match(written):
        return f"\\{written}"
    return _LIST.sub(r"\1\\\2", written, count=1) if _LIST.match(written) and not _LIST.match(segment.text) else written


def _escaped(prose: str, referred: frozenset[str], escaped: frozenset[str], literal: frozenset[str]) -> str:
    """Prose as the source writes it: what it refers to (`&amp;`), escapes, and leaves as it is where others escape."""
    out = []
    at = 0
    for match in re.finditer(r"[!-/:-@\[-`{-~\xa0]", prose):
        character = match.group()
        out.append(prose[at : match.start()])
        at = match.end()
        if character == "\xa0":
            out.append("&nbsp;" if "&nbsp;" in referred else character)
        elif character == "&" and ("&amp;" in referred or _SPECIAL.match(prose, match.start())):
            out.append("&amp;")
        elif character == "<" and "&lt;" in referred:
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
    if segment.kind.startswith("title"):
        return None
    written = _write(text, segment)
    return skeleton(md, env, written), segment.kind == "cell" or [
        t.type for t in md.parse(written, {"references": env.get("references", {})})
    ]
