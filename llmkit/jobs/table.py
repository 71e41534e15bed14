"""Answered rows as a table: comma- or tab-separated text, written as a table of the input was.

Knows rows; not files.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmkit.rows.base import TableForm
from llmkit.rows.cells import no_formula
from llmkit.rows.values import to_json


@dataclass(frozen=True)
class Table:
    """The format of a table in a form."""

    form: TableForm

    def __call__(self, rows: Iterable[Mapping[str, Any]], answer: str) -> Iterator[bytes]:
        """The bytes of the file.

        Columns are the union of all rows' fields in the order of their first occurrence, the answer's among them, "error" last. A value
        that is not text is JSON in its cell, and null is an empty one. A text that a spreadsheet would run as a formula gets an
        apostrophe before it.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        columns = [*(n for n in dict.fromkeys([*names, answer]) if n != "error"), "error"]
        yield (codecs.BOM_UTF8 if self.form.mark else b"") + _line(columns, self.form)
        for row in rows:
            cells = (row.get(name, "") for name in columns)
            yield _line(["" if c is None else c if isinstance(c, str) else to_json(c) for c in cells], self.form)


def _line(cells: list[str], form: TableForm) -> bytes:
    line = io.StringIO()
    safe = map(no_formula, cells)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if form.quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(line, delimiter=form.separator, lineterminator=form.line_end, quoting=quoting)
    writer.writerow(safe)
    return line.getvalue().encode("utf-8", "replace")
