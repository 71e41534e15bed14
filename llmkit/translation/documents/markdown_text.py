"""Prose as Markdown writes it: escaped where it would be a mark, on lines about as long as the source's.

Knows segments of Markdown and how they are read again; not blocks.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents import front_matter
from llmkit.translation.documents import html as pages
from llmkit.translation.documents.base import Segment, parts
from llmkit.translation.documents.inline import skeleton
from llmkit.translation.documents.mdx import hidden, masked

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_SPECIAL = re.compile(r"\\(?=[!-/:-@\[-`{-~]|\Z)|[`\[\]]|(?<!\s)[*~]|[*~](?!\s)|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_BLOCK = re.compile(r"(?:#{1,6}|[-+>*~])(?=\s|$)|[=-]+(?=\s*$)|:(?=\s)|:{3}")
_LIST = re.compile(r"(\d{1,9})([.)])(?=\s|$)")
#: A word that may begin a line of a paragraph.
_BEGINS = re.compile(r"[\"'«“(*_`\[]*[^\W\d_]")
#: What a formula or an expression begins with; its lines stay lines, because one may end with a comment.
_LINES = ("\\[", "\\\\[", "\\begin", "$$", "{")
_KEYWORDS = frozenset(("import", "export"))


def write(text: str, segment: Segment) -> str:
    """A translation as it stands in the file: on as many lines as it needs, none longer than the source's longest."""
    if segment.kind.startswith("front"):
        return front_matter.write(text, segment)
    if segment.kind.startswith("html"):
        return pages.write(text, _of_page(segment))
    if segment.kind.startswith("template"):  # not all templates know an escape
        return " ".join(text.split("\n")).replace(segment.kind[-1], "'" if segment.kind[-1] == '"' else "’")
    if segment.kind.startswith("title"):
        escaped = "()" if segment.kind[-1] == ")" else segment.kind[-1]
        prose = re.sub(rf"[\\{escaped}]", r"\\\g<0>", " ".join(text.split("\n")))
        return re.sub(r"&(?=#?\w+;)", "&amp;", prose)
    pieces = _pieces(text, segment)
    if segment.kind == "cell" or not re.search(r"[\r\n]", segment.raw):
        return "".join(piece for piece, _ in pieces)
    return _laid(pieces, segment.raw)


def compare(md: MarkdownIt, env: dict[str, Any], text: str, segment: Segment) -> object:
    """What a segment's marks and blocks are, for `Marks.compare`."""
    if segment.kind.startswith("html"):
        return pages.compare(text, _of_page(segment))
    if segment.kind.startswith(("title", "template", "front")):
        return None
    written = "".join(piece for piece, _ in _pieces(text, segment))
    written = masked(written, hidden(written, mdx=False))
    blocks = [] if segment.kind == "cell" else [t.type for t in md.parse(written, {"references": env.get("references", {})})]
    return skeleton(md, env, written), blocks


def _of_page(segment: Segment) -> Segment:
    return Segment(segment.text, segment.raw, segment.line, segment.marks, segment.kind[5:])


def _pieces(text: str, segment: Segment) -> list[tuple[str, bool]]:
    """A translation on one line as (text, whether it is a mark), prose escaped as it was in the source, and where it would be a mark."""
    escaped, literal = _always_escaped(segment), _literal(segment)
    referred = frozenset(name for name in ("&nbsp;", "&amp;", "&lt;") if name in segment.raw)
    written = (
        (part if mark else _escaped(part, referred, escaped, literal), mark) for part, mark in parts(text, segment) or [(text, False)]
    )
    out = [(part if mark and part.startswith(_LINES) else " ".join(part.split("\n")), mark) for part, mark in written]
    if segment.kind == "cell":
        return [(re.sub(r"(?<!\\)\|", r"\\|", part), mark) for part, mark in out]
    prose = "".join(part for part, _ in out)
    led = re.match(r"\d{0,9}\\", segment.raw) is not None  # an escape at the beginning: what follows would be a block
    if _BLOCK.match(prose) and (led or not _BLOCK.match(segment.text)):
        return [("\\", True), *out]
    if _LIST.match(prose) and (led or not _LIST.match(segment.text)):
        out[0] = (_LIST.sub(r"\1\\\2", out[0][0], count=1), out[0][1])
    return out


def _laid(pieces: list[tuple[str, bool]], raw: str) -> str:
    """The pieces on lines that begin as the source's second one does; marks are never broken."""
    end = "\r\n" if "\r\n" in raw else "\n" if "\n" in raw else "\r"
    lines = raw.split(end)
    begin = re.match(r"[ \t>]*", lines[1])
    indent = begin.group() if begin else ""
    width = max(len(line.strip(" \t>")) for line in lines)
    words = [""]
    for piece, mark in pieces:
        if mark and not piece.startswith("{"):  # whose lines are those of the file
            piece = piece.replace("\n", f"{end}{indent}")
        first, *others = [piece] if mark else piece.split(" ")
        words[-1] += first
        words += others
    out = words[:1]
    for word in words[1:]:
        may = _BEGINS.match(word) and word.strip(":;,.") not in _KEYWORDS and not word.startswith(("[!", "[^", "```"))
        if may and len(out[-1]) + 1 + len(word) > width:
            out.append(word)
        else:
            out[-1] += f" {word}"
    return f"{end}{indent}".join([*(line.rstrip(" ") for line in out[:-1]), out[-1]])


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


def _always_escaped(segment: Segment) -> frozenset[str]:
    """Signs that the source escapes: each time, or, if they are marks of Markdown, once."""
    found, prose = Counter(re.findall(r"\\([!-/:-@\[-`{-~])", segment.raw)), segment.prose()
    return frozenset(c for c, times in found.items() if c in "*_`[]<&$~\\|^{}" or times >= prose.count(c))


def _literal(segment: Segment) -> frozenset[str]:
    """Brackets and tildes that stand in the source's prose without an escape, and so are no marks there."""
    prose = segment.prose()
    return frozenset(c for c in "[]~" if c in prose and f"\\{c}" not in segment.raw)
