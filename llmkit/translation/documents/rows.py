"""A document as rows, a segment each, and its file again from the answered rows: what lets the one job loop translate it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmkit.rows import Row, Rows
from llmkit.translation.documents.base import Document
from llmkit.translation.documents.verification import verify


def document_rows(document: Document, data: bytes, name: str) -> Rows:
    """A row with `text` for each segment; the hash is that of the file."""
    rows = (Row(number, segment.line, {"text": segment.text}) for number, segment in enumerate(document.segments))
    return Rows(name, rows, lambda: hashlib.sha256(data).hexdigest(), unit="segments", known=len(document.segments))


class DocumentWriter:
    """Makes the file of the answered rows, whose translation is in `field`. A segment without one stays as it was.

    refused: by row, why a translation is not in the file; known when the file is made.
    """

    def __init__(self, document: Document, field: str) -> None:
        self.document, self.field = document, field
        self.refused: Mapping[int, str] = {}

    def __call__(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """The whole file in one piece. rows: one a segment, in order."""
        segments = self.document.segments
        made = verify(self.document, [_translation(row, self.field, s.text) for row, s in zip(rows, segments, strict=True)])
        self.refused = {
            number: f"'{segments[number].text[:60]}': the file would have another structure, so it was left unchanged"
            for number in made.left
        }
        yield made.data


def _translation(row: Mapping[str, Any], field: str, source: str) -> str | None:
    text = row.get(field)
    return text if isinstance(text, str) and not (row.get("error") and text == source) else None
