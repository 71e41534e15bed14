"""Markdown: paragraphs, headings, list items, table cells and the text of HTML blocks; all marks stay.

Blocks and marks come from markdown-it-py (CommonMark, tables) with mdit-py-plugins (footnotes, definition lists,
containers, admonitions, math). Blocks tell their lines; inside a block, `inline` tells where each mark stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents import front_matter
from llmkit.translation.documents import html as pages
from llmkit.translation.documents.base import Segment, Span, TextDocument, cut, decoded, has_letters, joined, lines_of, marked, with_marks
from llmkit.translation.documents.inline import NOTE, Piece, parser, pieces_of, skeleton
from llmkit.translation.documents.markdown_blocks import (
    container_attributes,
    container_title,
    content,
    defined_titles,
    directive,
    tab_title,
    untitled,
)
from llmkit.translation.documents.markdown_structure import LINE_BLOCK, MODULE, STRUCTURE, TASK, by_structure, titles, without_titles
from llmkit.translation.documents.markdown_text import compare, write
from llmkit.translation.documents.mdx import Hidden, hidden, is_call, is_mdx, masked, shown
from llmkit.translation.placeholders import ALTERNATIVE, CODE, IN_PROSE, MARKS_IN_MESSAGES

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: The lines of dashes in a table that Pandoc draws without bars, whose columns are where they stand.
_RULES = re.compile(r"-{2,}(?:[ ]+-{2,})+")
_IDS = re.compile(r"(?<!\s)\s*+\{:?\s*[#.][^{}\n]*\}\s*$")
#: A short line in bold at the beginning of a paragraph is its title; GitHub's first alerts had a word as one: > **Note**.
_BOLD_LINE = re.compile(r"\s*(\*\*|__)(?!\s)(?:(?!\1)[^\n]){1,40}(?<!\s)\1:?[ \t]*")
_CALLOUT = re.compile(r"\[![A-Za-z]+\][+-]?[ \t]+\S")
#: The end of a link or an image that has a title.
_LINK_TITLE = re.compile(
    r"""\]\(.*\s(?:(?P<quote>["'])(?P<title>(?:\\.|(?!(?P=quote))[^\\])+)(?P=quote)|\((?P<round>(?:\\.|[^()\\])+)\))\s*\)""", re.DOTALL
)
#: The mark of a block that a wiki's links name.
_BLOCK_ID = re.compile(r"(?<=\s)\^[\w-]+\Z")
#: Marks of one kind around words: ==marked==, ++inserted++, ||hidden||, H~2~O, x^2^.
_PAIRED = re.compile(
    r"(?<!\w)(?P<two>==|\+\+|\|\||\^\^)(?=\S)(?:(?!(?P=two))[^\n])*?\S(?P=two)(?!\w)"
    r"|(?<![~^\\])(?P<one>[~^])[^\s~^]{1,40}(?P=one)(?![~^])"
)
#: Marks of Markdown between tags of HTML, and expressions: JSX has them there.
_IN_TAGS = re.compile(rf"{MARKS_IN_MESSAGES}|[$%]?\{{(?:[^{{}}\n]|\{{(?!%)[^{{}}\n]*\}})*+\}}")
#: A formula that is lines of its own.
_FORMULA_LINES = re.compile(r"(?:\\(?:\\?\[|begin)|\$\$).*\n.*", re.DOTALL)
#: Nesting of a cell's text: table, section, row, cell.
_CELL = 4


def parse(data: bytes, name: str, target: str | None = None) -> TextDocument:
    """The document of a Markdown file."""
    source = decoded(data, name)
    front = front_matter.end_of(source)
    unread, mdx = _unread(source, name)
    md, env = parser(), {}  # type: ignore[var-annotated]
    spans = [*front_matter.spans(source[:front]), *_spans(masked(source, unread), _lines(masked(source, unread), front), md, env)]
    spans += [_moved(span, each.begin) for each in unread if is_call(each.text) for span in titles(each.text)]
    spans.sort(key=lambda span: (span.begin, -span.end))
    shown_spans = tuple(replace(span, text=shown(span.text, span.begin, span.end, unread)) for span in _apart(spans))
    return cut(source, shown_spans, write, partial(compare, md, env), shape=lambda built: _skeleton(decoded(built, name), mdx=mdx))


def _unread(source: str, name: str) -> tuple[list[Hidden], bool]:
    """What Markdown is not to read, and whether the file is MDX."""
    mdx = name.lower().endswith(".mdx")
    if not mdx and not any(sign in source for sign in ("<", "{", ":::", "export", "import")):
        return [], False
    parts = hidden(source, mdx=mdx)
    return (hidden(source, mdx=True), True) if not mdx and is_mdx(parts) else (parts, mdx)


def _lines(source: str, begin: int = 0) -> list[tuple[int, str]]:
    """The lines of a page with their places. What CommonMark reads as another character is that."""
    return [(begin + at, line.replace("\0", "\ufffd")) for at, line in lines_of(source[begin:])]


def _blocks(lines: list[tuple[int, str]], md: MarkdownIt, env: dict[str, Any]) -> list[Token]:
    return md.parse("".join(line.rstrip("\r\n") + "\n" for _, line in lines), env)


def _spans(source: str, lines: list[tuple[int, str]], md: MarkdownIt, env: dict[str, Any]) -> Iterator[Span]:
    """The texts in lines of a page."""
    row: tuple[int, int] | None = None
    before = ""
    own: dict[str, Any] = {}
    tokens = _blocks(lines, md, own)
    env.update(references=env.get("references", {}) | own.get("references", {}))
    yield from defined_titles(source, lines, own)
    ruled = {t.map[0] for t in tokens if t.type == "hr" and t.map and _RULES.fullmatch(lines[t.map[0]][1].strip())}
    for token in tokens:
        if token.type == "tr_open":
            row = (token.map[0], 0) if token.map else None
        elif token.type == "html_block" and token.map:
            yield from _page(source, lines, token.map)
        elif token.type in ("container_any_open", "tab_open") and token.map:
            yield from _title(md, env, lines[token.map[0]], token.type)
        elif token.type == "fence" and token.map:
            yield from _fenced(source, lines, token, md, env)
        elif token.type == "inline" and token.map and before == "admonition_title_open" and '"' not in lines[token.map[0]][1]:
            pass  # !!! note inline: without quotes the words are classes
        elif token.type == "inline" and token.map and not ruled.isdisjoint((token.map[0] - 1, token.map[1])):
            pass
        elif token.type == "inline" and token.content.strip():
            if token.map and not (row and token.level >= _CELL and token.map[0] == row[0]):
                yield from _paragraph(md, env, lines, token, before)
            elif row is not None:
                cells: list[Span] = []
                row = _cell(md, env, lines, row, token.content, cells)
                yield from cells
        before = token.type


def _fenced(source: str, lines: list[tuple[int, str]], token: Token, md: MarkdownIt, env: dict[str, Any]) -> Iterator[Span]:
    """The texts of a directive that is written as a block of code."""
    directive_parts = directive(token.info)
    if directive_parts is None or token.map is None:
        return
    at, line = lines[token.map[0]]
    if directive_parts[1]:
        begin = line.rindex(directive_parts[1])
        yield from _inline(md, env, at + begin, directive_parts[1])
    last = token.map[1] - (lines[token.map[1] - 1][1].strip().startswith(token.markup))
    yield from _spans(source, content(lines[token.map[0] + 1 : last]), md, env)


def _skeleton(source: str, *, mdx: bool) -> list[object]:
    """Blocks and marks in order without words: code, formulas, targets and definitions of links, lines of structure, placeholders."""
    front = front_matter.end_of(source)
    unread = hidden(source, mdx=mdx)
    md, env = parser(), {}  # type: ignore[var-annotated]
    shape = _shape(_lines(masked(source, unread), front), md, env)
    return [
        front_matter.skeleton(source[:front]),
        [without_titles(each.text) if is_call(each.text) else each.text for each in unread],
        *shape,
    ]


def _shape(lines: list[tuple[int, str]], md: MarkdownIt, env: dict[str, Any]) -> list[object]:
    out: list[object] = []
    for token in _blocks(lines, md, env):
        if token.type == "html_block":
            out += pages.skeleton(token.content)
        elif token.type == "inline":
            structure, prose = by_structure(token.content)
            out += [structure, *skeleton(md, env, prose)]
        elif token.type == "fence" and (head := directive(token.info)):
            inside = content(_lines(token.content))
            out += [head[0], token.markup, token.content[: len(token.content) - sum(len(line) for _, line in inside)].count("\n")]
            out += _shape(inside, md, {})
        else:
            info = untitled(f":::{token.info}") if token.type.startswith(("container", "admonition", "tab")) else token.info
            label = token.meta.get("label")
            text = "" if token.type == "admonition_open" else token.content
            out.append((token.type, token.tag, token.markup, token.level, str(token.attrs), info, label, text))
    return [*out, sorted((name, link["href"]) for name, link in env.get("references", {}).items())]


def _apart(spans: Sequence[Span]) -> Iterator[Span]:
    """Those with prose in them, none over another but titles and the like in a sentence."""
    end = 0
    for span in spans:
        inside = span.end <= end and span.kind.startswith(("html attribute", "html branch", "title", "note", "template"))
        if (inside or span.begin >= end) and has_letters(Segment(span.text, "", 0, span.marks).prose()):
            yield span
            end = max(end, span.end)


def _page(source: str, lines: list[tuple[int, str]], block: list[int]) -> Iterator[Span]:
    """The text of a block of HTML."""
    begin = lines[block[0]][0]
    end = lines[block[1]][0] if block[1] < len(lines) else len(source)
    for span in pages.spans(source[begin:end]):
        yield replace(marked(span, _IN_TAGS), begin=span.begin + begin, end=span.end + begin, kind=f"html {span.kind}")


def _title(md: MarkdownIt, env: dict[str, Any], line: tuple[int, str], kind: str) -> Iterator[Span]:
    """The titles of a container or a tab."""
    at, text = line
    if kind == "tab_open":
        yield from tab_title(at, text)
        return
    yield from container_attributes(at, text)
    if place := container_title(text):
        yield from _inline(md, env, at + place[0], text[slice(*place)])


def _inline(md: MarkdownIt, env: dict[str, Any], at: int, text: str) -> Iterator[Span]:
    """A text of one line that begins at `at`."""
    yield from _between_breaks(md, env, pieces_of(md, env, text), list(range(at, at + len(text))))


def _paragraph(md: MarkdownIt, env: dict[str, Any], lines: list[tuple[int, str]], token: Any, before: str) -> Iterator[Span]:
    """A block's text: one span from its first to its last line, cut at structure and where a line break is meant."""
    if MODULE.fullmatch(token.content):
        return
    contents = token.content.split("\n")
    chunk: list[int] = []
    for number, body in enumerate([*contents, None]):
        if body is None or STRUCTURE.fullmatch(body) or body.startswith(LINE_BLOCK):
            yield from _chunk(md, env, lines, token, contents, chunk, before)
            if body is not None and (place := lines[token.map[0] + number][1].find(body.strip())) >= 0:
                yield from (_moved(span, lines[token.map[0] + number][0] + place) for span in titles(body.strip()))
            chunk = [] if body is None or not body.startswith(LINE_BLOCK) else [number]
        else:
            chunk.append(number)
            if _CALLOUT.match(body) or (number == 0 and _BOLD_LINE.fullmatch(body)):  # the title is a line of its own
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
    if task := TASK.match(text):
        begin = task.end()
    if before == "heading_open" and (ids := _IDS.search(text)):
        end_of_text = ids.start()
    yield from _between_breaks(md, env, [_shifted(piece, begin) for piece in pieces_of(md, env, text[begin:end_of_text])], places)


def _between_breaks(md: MarkdownIt, env: dict[str, Any], pieces: Sequence[Piece], places: list[int], kind: str = "") -> Iterator[Span]:
    """The pieces as spans, from one line break that is meant to the next. places: of each of their characters in the source."""
    group: list[Piece] = []
    for number, piece in enumerate([*pieces, None]):
        if piece is not None and piece.mark and _FORMULA_LINES.fullmatch(piece.text) and _on_lines(pieces, number):
            piece = replace(piece, breaks=True)
        if piece is not None and not piece.breaks and not (piece.mark and (ALTERNATIVE.fullmatch(piece.text) or _is_apart(group, piece))):
            group.append(piece)
            continue
        span = _span(group, places, kind)
        if span is not None:
            yield span
            yield from _titles(group, places)
            yield from _notes(md, env, group, places)
        group = [piece] if piece is not None and not piece.breaks and not ALTERNATIVE.fullmatch(piece.text) else []


def _on_lines(pieces: Sequence[Piece], number: int) -> bool:
    """Whether a line begins and ends where a piece does."""
    edges = (pieces[number - 1] if number else None, pieces[number + 1] if number + 1 < len(pieces) else None)
    return all(edge is None or (not edge.mark and edge.end - edge.begin == 1 and edge.text == " ") for edge in edges)


def _is_apart(group: Sequence[Piece], piece: Piece) -> bool:
    """Whether a link or an image begins at once behind another one that ends in a word."""
    if len(group) < 2 or not piece.text.startswith(("[", "![")) or piece.text.startswith("[^") or not group[-1].text.startswith("]"):
        return False
    return group[-1].mark and group[-2].text[-1:].isalnum() and group[-1].end == piece.begin


def _titles(group: list[Piece], places: list[int]) -> Iterator[Span]:
    """The titles of links and images, and the attributes of tags that people read, each within its mark."""
    for piece in group:
        if piece.mark and piece.text.startswith("<"):
            for span in pages.spans(piece.text):
                if span.kind.startswith("attribute"):
                    begin, end = places[piece.begin + span.begin], places[piece.begin + span.end - 1] + 1
                    yield replace(span, begin=begin, end=end, kind=f"html {span.kind}")
        if piece.mark and piece.text.startswith("{"):
            for span in titles(piece.text):
                yield replace(span, begin=places[piece.begin + span.begin], end=places[piece.begin + span.end - 1] + 1)
        if piece.mark and (match := _LINK_TITLE.fullmatch(piece.text)):
            title = "title" if match["title"] else "round"
            begin, end = (piece.begin + at for at in match.span(title))
            prose = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", match[title]))
            text, marks = joined(with_marks(" ".join(prose.split("\n")), IN_PROSE))
            yield Span(places[begin], places[end - 1] + 1, text, marks, f"title {match['quote'] or ')'}")


def _notes(md: MarkdownIt, env: dict[str, Any], group: list[Piece], places: list[int]) -> Iterator[Span]:
    """The notes that stand in a text, ^[as here], each within its mark."""
    for piece in group:
        if piece.mark and piece.text.startswith(NOTE):
            begin, end = piece.begin + len(NOTE), piece.end - 1
            spans = _between_breaks(md, env, pieces_of(md, env, piece.text[len(NOTE) : -1]), places[begin:end])
            yield from (replace(span, kind="note") for span in spans if not span.kind)  # what is in its marks stays


def _moved(span: Span, by: int) -> Span:
    return replace(span, begin=span.begin + by, end=span.end + by)


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
        ends = set(accumulate(map(len, prose)))
        at = 0
        for part, is_mark in with_marks("".join(prose), IN_PROSE):
            # a name or braces with an escape in it are written as prose is
            escaped = is_mark and (CODE.fullmatch(part) or part.startswith("{")) and any(at < end < at + len(part) for end in ends)
            out += [(part, True)] if is_mark and not escaped else _pairs(part)
            at += len(part)
        out.append((text, True))
        prose = []
    return out[:-1]


def _pairs(prose: str) -> Iterator[tuple[str, bool]]:
    """Prose and the signs around marked words."""
    at = 0
    for match in _PAIRED.finditer(prose):
        sign = match["two"] or match["one"]
        yield prose[at : match.start()], False
        yield sign, True
        yield prose[match.start() + len(sign) : match.end() - len(sign)], False
        yield sign, True
        at = match.end()
    ended = _BLOCK_ID.search(prose, at)
    yield prose[at : ended.start() if ended else len(prose)], False
    if ended:
        yield ended.group(), True


def _cell(
    md: MarkdownIt, env: dict[str, Any], lines: list[tuple[int, str]], row: tuple[int, int], content: str, spans: list[Span]
) -> tuple[int, int]:
    """Looks for a table cell's text in its line, behind the cell before it."""
    index, column = row
    at, line = lines[index]
    for written in (content.replace("|", "\\|"), content):
        place = line.find(written, column)
        if place >= 0:
            spans += _between_breaks(md, env, pieces_of(md, env, content), _characters(content, written, at + place), "cell")
            return index, place + len(written)
    return row


def _characters(content: str, written: str, at: int) -> list[int]:
    """Where each character of a cell stands, whose text `written` begins at `at`; a bar is written with a backslash."""
    out: list[int] = []
    for character in content:
        out.append(at)
        at += 2 if character == "|" and len(written) > len(content) else 1
    return out
