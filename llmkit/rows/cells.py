"""Cells of tables that a spreadsheet would take for formulas: an apostrophe before them is written, and read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What spreadsheets take for a formula: not a negative number.
_FORMULA = re.compile(r"[=+@\t\r]|-(?!\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,4})?\Z)")


def no_formula(cell: str) -> str:
    """A cell as it is written, of a text."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def as_answered(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of a table that llmkit wrote, as its other columns tell, with its texts as they were answered; any other row as it is."""
    if not {"finish_reason", "error"} <= fields.keys():
        return fields
    return {n: v[1:] if isinstance(v, str) and v.startswith("'") and _FORMULA.match(v, 1) else v for n, v in fields.items()}
