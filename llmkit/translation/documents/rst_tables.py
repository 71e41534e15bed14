"""Tables of reStructuredText, grid and simple: their cells, and the table again with other texts, its columns as wide as they need.

A table whose cells reach over rows or columns is none here, and a cell that holds blocks keeps its lines.
https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html#tables. Knows tables; not what is in a cell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_GRID = re.compile(r"\+(?:-+\+|=+\+)+")
_SIMPLE = re.compile(r"=+(?:[ ]+=+)+")
_BLOCK = re.compile(r"(?:[-*+•]|\(?(?:\d+|#|[a-zA-Z])[.)])(?:\s|\Z)|\||\.\.(?:\s|\Z)|>>>|:\w[^:]*:\s|::\Z")
#: Row and column of a cell.
Cell = tuple[int, int]


@dataclass(frozen=True)
class Table:
    """rows: of cells, of lines. border: what stands under each row, from "-" and "=", or "" in a simple table."""

    grid: bool
    widths: tuple[int, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]
    borders: tuple[str, ...]

    def texts(self) -> dict[Cell, str]:
        """The cells that are one paragraph."""
        out: dict[Cell, str] = {}
        for number, row in enumerate(self.rows):
            for column, lines in enumerate(row):
                words = [line.strip() for line in lines]
                text = " ".join(words).strip()
                indents = {len(line) - len(line.lstrip()) for line in lines if line.strip()}
                if text and len(indents) == 1 and "" not in " ".join(words).strip().split("  ") and not any(map(_BLOCK.match, words)):
                    out[number, column] = text
        return out

    def shape(self) -> object:
        """All but the texts of cells that are one paragraph."""
        texts = self.texts()
        kept = {(r, c): cell for r, row in enumerate(self.rows) for c, cell in enumerate(row) if (r, c) not in texts}
        return (
            self.grid,
            len(self.widths),
            self.borders,
            sorted(texts),
            sorted((place, "\n".join(cell).split()) for place, cell in kept.items()),
        )


def read(lines: Sequence[str]) -> Table | None:
    """The table of these lines, None where it is none, or one with cells over several rows or columns."""
    if not lines or any(width(line) != len(line) or "\t" in line for line in lines):
        return None
    if _GRID.fullmatch(lines[0]):
        return _grid(lines)
    return _simple(lines) if _SIMPLE.fullmatch(lines[0]) else None


def _grid(lines: Sequence[str]) -> Table | None:
    edges = [match.start() for match in re.finditer(r"\+", lines[0])]
    rows: list[tuple[tuple[str, ...], ...]] = []
    borders: list[str] = []
    group: list[str] = []
    for line in lines[1:]:
        if _GRID.fullmatch(line) and [match.start() for match in re.finditer(r"\+", line)] == edges and len(set(line)) == 2:
            rows.append(tuple(tuple(each[a + 1 : b] for each in group) for a, b in pairwise(edges)))
            borders.append(line[1])
            group = []
        elif len(line) == len(lines[0]) and all(line[edge] == "|" for edge in edges):
            group.append(line)
        else:
            return None
    widths = tuple(b - a - 1 for a, b in pairwise(edges))
    return None if group or not rows else Table(True, widths, tuple(rows), tuple(borders))


def _simple(lines: Sequence[str]) -> Table | None:
    places = [match.span() for match in re.finditer("=+", lines[0])]
    cuts = [(a, following[0] if following else None) for (a, _), following in zip(places, [*places[1:], None], strict=True)]
    rows: list[list[list[str]]] = []
    borders: list[str] = []
    for line in lines[1:]:
        if line == lines[0]:
            borders[-1:] = ["="] if borders else []
            continue
        cells = [line[a:b].rstrip() for a, b in cuts]
        between = [line[b : following[0]] for (_, b), following in pairwise(places)]
        if any(each.strip() for each in between) or set(line) <= set("- ") or not line.strip():
            return None
        if cells[0] or not rows:
            rows.append([[cell] for cell in cells])
            borders.append("")
        else:
            for cell, text in zip(rows[-1], cells, strict=True):
                cell.append(text)
    widths = tuple(b - a for a, b in places)
    made = tuple(tuple(tuple(cell) for cell in row) for row in rows)
    return Table(False, widths, made, tuple(borders)) if lines[-1] == lines[0] and rows else None


def laid(table: Table, texts: Mapping[Cell, Sequence[str]]) -> list[str]:
    """The lines of the table with other texts in some cells, each as words that are not broken."""
    pad = 2 if table.grid else 0
    least = list(table.widths)
    for (_, column), words in texts.items():
        fixed = not table.grid and column == 0  # a second line there would be another row
        needed = width(" ".join(words)) if fixed else max((width(word) for word in words), default=0)
        least[column] = max(least[column], needed + pad)
    for row in table.rows:
        for column, cell in enumerate(row):
            least[column] = max([least[column], *(width(line.rstrip()) for line in cell)]) if not table.grid else least[column]
    out = [_border(table, least, "-" if table.grid else "=")]
    for number, row in enumerate(table.rows):
        cells = [
            _wrapped(texts[number, c], least[c] - pad, table.grid) if (number, c) in texts else list(cell) for c, cell in enumerate(row)
        ]
        height = max(len(cell) for cell in cells)
        for at in range(height):
            parts = [_padded(cell[at] if at < len(cell) else "", size) for cell, size in zip(cells, least, strict=True)]
            out.append(f"|{'|'.join(parts)}|" if table.grid else "  ".join(parts).rstrip())
        out += [_border(table, least, table.borders[number])] if table.borders[number] else []
    return out


def _border(table: Table, widths: Sequence[int], sign: str) -> str:
    return f"+{'+'.join(sign * size for size in widths)}+" if table.grid else "  ".join("=" * size for size in widths)


def _wrapped(words: Sequence[str], size: int, grid: bool) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and (width(lines[-1]) + 1 + width(word) <= size or _BLOCK.match(word)):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [f" {line}" if grid else line for line in lines]


def _padded(text: str, size: int) -> str:
    return text + " " * (size - width(text))


def width(text: str) -> int:
    """Columns of a text; East Asian characters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
