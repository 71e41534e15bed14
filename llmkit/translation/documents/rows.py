"""A document as rows, a segment each, and its file again from the answered rows: what lets the one job loop translate it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from llmkit.rows import Row, Rows
from llmkit.translation.documents.base import Document


def document_rows(document: Document, data: bytes, name: str) -> Rows:
    """A row with `text` for each segment; the hash is that of the file."""
    rows = (Row(number, segment.line, {"text": segment.text}) for number, segment in enumerate(document.segments))
    return Rows(name, rows, lambda: hashlib.sha256(data).hexdigest())


def writer(document: Document, field: str) -> Callable[[Iterable[Mapping[str, Any]]], Iterator[bytes]]:
    """Makes the file of the answered rows, whose translation is in `field`. A segment without one stays as it was."""

    def write(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        yield document.build([_translation(row, field, s.text) for row, s in zip(rows, document.segments, strict=True)])

    return write


def _translation(row: Mapping[str, Any], field: str, source: str) -> str | None:
    text = row.get(field)
    return text if isinstance(text, str) and not (row.get("error") and text == source) else None
