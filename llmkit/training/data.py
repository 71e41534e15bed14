"""The rows of a run, read and checked before anything else: a run that can't be trained says so at once.

Knows files and formats; not models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmkit.errors import InputError, RowError, UsageError, counted
from llmkit.rows import Row, open_rows
from llmkit.rows.reading import Rows
from llmkit.rows.samples import PREFERENCE, CheckedRows, Samples, check_rows
from llmkit.training.settings import DataSettings

_SAME_KIND = "preferences are validated on preferences, other rows on other rows"


class File(NamedTuple):
    """The samples of one file. bad: its rows that can't be used."""

    name: str
    samples: Samples
    bad: tuple[RowError, ...] = ()


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a run, file by file.

    checked: what is counted of all training files together.
    """

    checked: CheckedRows
    train: tuple[File, ...]
    valid: tuple[File, ...]

    @property
    def file_names(self) -> str:
        """The names of the training files."""
        return ", ".join(file.name for file in self.train)

    @property
    def valid_file_names(self) -> str | None:
        """The names of the validation files; None without one."""
        return ", ".join(file.name for file in self.valid) or None

    def close(self) -> None:
        """Gives the disk back."""
        for file in (*self.train, *self.valid):
            file.samples.close()


def set_names(files: Sequence[File]) -> tuple[str, ...]:
    """A short name for each file, for figures: 'dev' for 'data/dev.jsonl', and 'dev_2' for another of that name."""
    names: list[str] = []
    for file in files:
        stem = re.sub(r"\W+", "_", file.name.rstrip("/").rpartition("/")[2].partition(".")[0]) or "rows"
        names.append(stem if stem not in names else f"{stem}_{len(names) + 1}")
    return tuple(names)


def sha256(files: Sequence[File]) -> str | None:
    """Of the rows of all files in their order, and of which file holds which; None without a file."""
    digests = [file.samples.sha256 for file in files]
    if len(digests) < 2:
        return digests[0] if digests else None
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def read_data(settings: DataSettings, *, offline: bool = False) -> TrainingRows:
    """The rows of all training and validation files, each read once and checked.

    Raises InputError for rows that can't be used, UsageError for a share that leaves one side empty, UnavailableError for a hub data set
    that can't be reached.
    """
    checked: CheckedRows | None = None
    train, aside, valid = [], [], []
    for path in settings.train_files:
        rows = _open(settings, path, settings.limit, offline)
        left = settings.max_errors - (len(checked.bad) if checked is not None else 0)
        of_file = _check(rows, path, settings, max_errors=left, share=settings.valid_share)
        train.append(File(rows.name, of_file.samples))
        aside.append(File(rows.name, of_file.held_out))
        if checked is None:
            checked = of_file
        else:
            checked.count(of_file)
    if settings.valid_share:
        kept, held_out = (sum(len(file.samples) for file in files) for files in (train, aside))
        if not (kept and held_out):
            raise UsageError(f"`valid_split` leaves {counted(kept, 'row')} to train on and {held_out} to validate", hint="another share")
        valid = [file for file in aside if file.samples]
    if checked is None:
        raise UsageError("no training file given")
    for path in settings.valid_files:
        rows = _open(settings, path, None, offline)
        of_file = _check(rows, path, settings, max_errors=settings.max_errors)
        if (PREFERENCE in of_file.formats) != (PREFERENCE in checked.formats):  # one has a loss of pairs, the other of tokens
            raise InputError(f"validation rows of {of_file.format} for training rows of {checked.format}", path=rows.name, hint=_SAME_KIND)
        valid.append(File(rows.name, of_file.samples, tuple(of_file.bad)))
    return TrainingRows(checked, tuple(train), tuple(valid))


def _check(rows: Rows, path: str, settings: DataSettings, *, max_errors: int, share: float = 0.0) -> CheckedRows:
    return check_rows(_lines(rows, path, settings.format), settings.fields, rows.name, max_errors=max_errors, share=share)


def _open(settings: DataSettings, path: str, limit: int | None, offline: bool) -> Rows:
    return open_rows(
        path, max_rows=limit, text_field=settings.fields.text or "text",
        format=settings.format, encoding=settings.encoding, offline=offline,
    )  # fmt: skip


def _lines(rows: Iterable[Row], path: str, format: str) -> Iterator[Row]:
    """The rows; of plain text the lines that are not blank."""
    plain = format == "txt" or (format == "auto" and path.removesuffix(".gz").endswith((".txt", ".text", ".md")))
    return (row for row in rows if not plain or row.error is not None or any(str(v).strip() for v in row.fields.values()))
