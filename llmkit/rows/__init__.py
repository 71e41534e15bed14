"""Rows in: files of several formats become a stream of rows, one at a time."""

from llmkit.rows.reading import Row, Rows, Total, open_rows
from llmkit.rows.text import Place

__all__ = ["Place", "Row", "Rows", "Total", "open_rows"]
