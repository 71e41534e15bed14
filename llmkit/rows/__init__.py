"""Rows in: files of several formats become a stream of rows, one at a time."""

from llmkit.rows.reading import Row, Rows, Total, open_rows

__all__ = ["Row", "Rows", "Total", "open_rows"]
