"""One row of an input, whatever it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmkit.errors import RowError
from llmkit.rows.values import to_json


@dataclass(frozen=True)
class TableForm:
    """How a table is written, told from its header; an output of the same format is written so.

    format: csv or tsv. quoted: whether each cell is in quotes. mark: whether a byte-order mark begins the file.
    """

    format: str
    separator: str
    line_end: str = "\n"
    quoted: bool = False
    mark: bool = False


def form_of(saved: Any) -> TableForm | None:
    """The form that a run record holds; None for what is none."""
    if not isinstance(saved, Mapping) or saved.get("separator") not in (",", ";", "\t", "|"):
        return None
    line_end = "\r\n" if saved.get("line_end") == "\r\n" else "\n"
    return TableForm(str(saved.get("format")), str(saved["separator"]), line_end, saved.get("quoted") is True, saved.get("mark") is True)


@dataclass(frozen=True)
class Row:
    """One row of the input. `index` counts rows from 0, `line` is the line it begins on (from 1), where there are lines.

    error: why the row can't be read; `fields` is then empty, or what could be read. plain: a line of plain text, whose
    only field answers to the names `text` and `prompt`.
    """

    index: int
    line: int | None
    fields: dict[str, Any]
    error: RowError | None = None
    plain: bool = False

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the row's content: its fields in their order, with numbers as they were written, and its error.

        The order of fields counts, since it is the order of the output's and decides the direction of a `translation`.
        """
        content = to_json(self.fields) + ("" if self.error is None else "\n" + self.error.message)
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).digest()
