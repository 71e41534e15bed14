"""The rows of a run, read and checked before anything else: a run that can't be trained says so at once.

Knows files and formats; not models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmkit.errors import UsageError
from llmkit.rows import Row, open_rows
from llmkit.rows.reading import Rows
from llmkit.rows.samples import CheckedRows, Samples, check_rows
from llmkit.training.settings import DataSettings


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a run, checked, and where they came from."""

    source: str
    valid_source: str | None
    checked: CheckedRows
    train: Samples
    valid: Samples


def read_data(settings: DataSettings, *, offline: bool = False) -> TrainingRows:
    """Raises InputError for rows that can't be used, UsageError for a share that leaves one side empty."""
    rows = _open(settings, settings.train, settings.limit, offline)
    checked = check_rows(
        _lines(rows, settings.train, settings.format), settings.fields, rows.name,
        max_errors=settings.max_errors, share=settings.valid_share,
    )  # fmt: skip
    if settings.valid is None:
        train, aside = checked.samples, checked.held_out
        if settings.valid_share and not (train and aside):
            raise UsageError(f"`valid_split` leaves {len(train)} rows to train on and {len(aside)} to validate", hint="another share")
        return TrainingRows(rows.name, rows.name if settings.valid_share else None, checked, train, aside)
    others = _open(settings, settings.valid, None, offline)
    valid = check_rows(_lines(others, settings.valid, settings.format), settings.fields, others.name, max_errors=settings.max_errors)
    return TrainingRows(rows.name, others.name, checked, checked.samples, valid.samples)


def _open(settings: DataSettings, path: str, limit: int | None, offline: bool) -> Rows:
    return open_rows(
        path, max_rows=limit, text_field=settings.fields.text or "text",
        format=settings.format, encoding=settings.encoding, offline=offline,
    )  # fmt: skip


def _lines(rows: Iterable[Row], path: str, format: str) -> Iterator[Row]:
    """The rows; of plain text the lines that are not blank."""
    plain = format == "txt" or (format == "auto" and path.removesuffix(".gz").endswith((".txt", ".text", ".md")))
    return (row for row in rows if not plain or row.error is not None or any(str(v).strip() for v in row.fields.values()))
