"""Rows from a file, a stream or a hub data set, one at a time, so that memory does not grow with the input.

A format is a function from an opened source to rows, in `FORMATS`. A row that can't be read carries its error;
the stream continues. Knows formats; not what a command does with the fields.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmkit.errors import InputError, LlmkitError, RowError, UnavailableError, UsageError, one_line
from llmkit.models.libraries import check_hub
from llmkit.rows.base import Row, TableForm
from llmkit.rows.json_rows import json_lines, json_list
from llmkit.rows.tables import parquet, separated
from llmkit.rows.text import Place, Source, lines
from llmkit.rows.values import plain_value

__all__ = ["FORMATS", "Row", "Rows", "Total", "open_rows"]

#: A file whose first rows are all broken is not of the format its name says.
HOPELESS = 10
#: Characters of a plain text that is read as one row.
_MAX_TEXT = 1 << 30


class Total(NamedTuple):
    """How many rows an input has; exact, or estimated from the part of it that was read."""

    rows: int
    exact: bool


@dataclass
class Rows:
    """A stream of rows that can be walked once. After its end, `count` and `sha256` are those of the complete input.

    unit: what a row is called where rows are counted. known: how many there are, where that is known from the beginning.
    plain: whether the rows are lines of plain text. by_line: how lines of a file became rows, where a later run may skip those that are
    done; empty where it can't.
    """

    name: str
    _stream: Iterator[Row]
    _digest: Callable[[], str | None]
    max_rows: int | None = None
    _source: Source | None = None
    unit: str = "rows"
    known: int | None = None
    plain: bool = False
    by_line: str = ""
    count: int = field(default=0, init=False)
    ended: bool = field(default=False, init=False)
    complete: bool = field(default=False, init=False)
    _rows_hash: Any = field(default_factory=hashlib.sha256, init=False, repr=False)
    _line: int | None = field(default=None, init=False, repr=False)
    _look: Callable[[Row], None] | None = field(default=None, init=False, repr=False)

    def __iter__(self) -> Iterator[Row]:
        for row in self._stream if self.max_rows is None else itertools.islice(self._stream, self.max_rows - self.count):
            self.count += 1
            self._rows_hash.update(row.digest)
            self._line = row.line
            if self._look is not None:
                self._look(row)
            yield row
        self.ended, self.complete = True, self.max_rows is None

    def peek(self, count: int) -> list[Row]:
        """The first rows, which stay in the stream. Before it is walked."""
        self.by_line = ""  # they can't be skipped any more
        first = list(itertools.islice(self._stream, count))
        self._stream = itertools.chain(first, self._stream)
        return first

    def watch(self, look: Callable[[Row], None]) -> None:
        """Shows each row to `look`, which may raise, so none can be skipped. Before it is walked."""
        self.by_line, self._look = "", look

    def place(self) -> Place | None:
        """Where the stream stands, for `skip` of a later run; None where that can't skip."""
        if not self.by_line or self._source is None or self._line is None or self.first_cr is not None:
            return None
        return self._source.place(self.by_line, self.count, self._line)

    def skip(self, place: Place) -> bool:
        """Goes behind `place` without a look at the rows before; whether the file begins as it did then. Before it is walked."""
        if self._source is None or not self.by_line or self.by_line != place.read_as or not self._source.skip(place):
            return False
        self.count, self._line = place.rows, place.lines
        return True

    @property
    def total(self) -> Total | None:
        """How many rows there will be, by what was read so far; None where that tells nothing (a pipe, a hub data set)."""
        if self.ended:
            return Total(self.count, True)
        total = Total(self.known, True) if self.known is not None else self._estimate()
        if self.max_rows is None:
            return total
        if total is None:
            return Total(self.max_rows, False)
        return Total(self.max_rows, True) if self.max_rows < total.rows else total

    def _estimate(self) -> Total | None:
        """By the number of lines in the file, and the rows that the lines so far gave."""
        source = self._source
        if source is not None and source.rows is not None:
            return Total(source.rows, True)
        lines = None if source is None else source.lines_expected
        if lines is None or not self._line or source is None:
            return None
        other = self._line - self.count  # a header, blank lines, lines inside of cells
        if other <= 1:
            return Total(max(lines - other, self.count), source.whole)
        return Total(max(round(lines * self.count / self._line), self.count), False)

    @property
    def sha256(self) -> str | None:
        """Of the input's bytes; None for a hub data set or when only some rows were read."""
        return self._digest() if self.complete else None

    @property
    def first_cr(self) -> int | None:
        """The first line read so far that a carriage return alone ends, as on an old Mac; None where there is none."""
        return self._source.first_cr if self._source is not None else None

    @property
    def table(self) -> TableForm | None:
        """How the table is written, once its header was read; None for what is no comma- or tab-separated text."""
        return self._source.table if self._source is not None else None

    @property
    def mixed_line_ends(self) -> bool:
        """Whether some of the lines read so far end with a carriage return alone and others with a line feed."""
        return self.first_cr is not None and self._source is not None and self._source.line_feeds

    @property
    def rows_sha256(self) -> str:
        """Of the content of the rows that were read so far, in their order, whatever they came from.

        Also known with `max_rows`, for a hub data set and for standard input. Two inputs have the same hash when their
        rows have the same fields, in the same order, with the same values as written (see `Row.digest`).
        """
        return str(self._rows_hash.copy().hexdigest())


def open_rows(
    path: str,
    *,
    format: str = "auto",
    encoding: str = "utf-8",
    text_field: str = "text",
    max_rows: int | None = None,
    offline: bool = False,
    whole_text: bool = False,
) -> Rows:
    """Opens `path` ('-' for standard input, or 'org/name:split' on the hub).

    text_field: the field that receives a line of plain text; whole_text: the whole of a plain text is one row.
    Raises InputError or UsageError at once for an input that can't be opened, and InputError from the stream for one that
    is broken as a whole.
    """
    if format != "auto" and format not in FORMATS:
        raise UsageError(f"unknown input format '{format}'", hint=f"one of auto, {', '.join(FORMATS)}")
    if _is_hub_dataset(path):
        return Rows(path, _hub_rows(path, offline), lambda: None, max_rows)
    source = Source(path)
    if format == "auto":
        format = _format_of(source)
    read = _one_text if whole_text and format == "txt" else FORMATS[format]
    stream = _checked(read(source, encoding, text_field), source)
    by_line = format in ("txt", "jsonl") and not whole_text and not source.packed and os.path.isfile(path) and _is_utf8(encoding)
    read_as = f"{format}, {text_field}" if by_line else ""
    return Rows(source.name, stream, lambda: source.sha256, max_rows, source, plain=format == "txt", by_line=read_as)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def format_named(path: str) -> str:
    """The format that the ending of a file's name stands for; an ending that is none as it is, '' where there is none."""
    name = os.path.basename(path).lower().removesuffix(".gz")
    ending = name.rpartition(".")[2] if "." in name else ""
    return {"ndjson": "jsonl", "jl": "jsonl", "text": "txt", "md": "txt"}.get(ending, ending)


def _format_of(source: Source) -> str:
    """By the ending of the file's name, else by the first character: rows of JSON, or lines of text."""
    ending = format_named(source.path)
    if ending in FORMATS:
        return ending
    if source.path != "-" and ending:
        raise UsageError(f"{source.path}: no input format has the ending '.{ending}'", hint=f"`input_format` one of {', '.join(FORMATS)}")
    return "jsonl" if source.first().lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "txt"


def _checked(stream: Iterator[Row], source: Source) -> Iterator[Row]:
    """Gives up on an input whose first rows are all broken."""
    waiting: list[Row] = []
    for row in stream:
        if source.rows_skipped:
            yield row
            continue
        waiting.append(row)
        if row.error is None:
            break
        if len(waiting) == HOPELESS:
            first: RowError | None = waiting[0].error
            hint = (first.hint if first is not None else None) or row.error.hint
            raise InputError(f"the first {HOPELESS} rows are all broken; {row.error.message}", hint=hint)
    yield from waiting
    yield from stream


def _txt(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
    """One row per line; a blank line is a row with an empty text, so that lines of two files stay beside each other."""
    with source:
        for index, line in enumerate(lines(source, encoding), source.lines_skipped):
            yield Row(index, index + 1, {text_field: line}, plain=True)


def _one_text(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
    with source:
        parts, length = [], 0
        for line in lines(source, encoding):
            parts.append(line)
            length += len(line) + 1
            if length > _MAX_TEXT:
                raise InputError(f"one text of more than {_MAX_TEXT:,} characters", path=source.name, hint="read it line by line")
        text = "\n".join(parts)
        if text or source.ends_line:
            yield Row(0, None, {text_field: text + ("\n" if source.ends_line else "")}, plain=True)


def _is_hub_dataset(path: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?:[\w.]+(\[[^\]]*\])?", path)) and not os.path.exists(path)


def _hub_rows(path: str, offline: bool) -> Iterator[Row]:
    if offline:
        raise UnavailableError(f"{path} is a hub data set, and this run is offline", hint="save it to a file and name that")
    check_hub()
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    name, _, split = path.rpartition(":")
    name, _, revision = name.partition("@")
    try:
        stream = datasets.load_dataset(name, split=split, revision=revision or None, streaming=True)
        for index, content in enumerate(stream):
            yield _plain_row(content, index, path)
    except LlmkitError:
        raise
    except Exception as exc:
        # datasets raises many kinds of its own and of its HTTP clients
        raise UnavailableError(f"{path}: {type(exc).__name__}: {one_line(exc)}") from exc


def _plain_row(content: dict[str, Any], index: int, name: str) -> Row:
    fields: dict[str, Any] = {}
    error = None
    for column, value in content.items():
        try:
            fields[column] = plain_value(value)
        except ValueError as exc:
            error = error or RowError(f"column '{column[:80]}' {exc}", path=f"{name}, row {index + 1}")
    return Row(index, None, fields, error)


#: A format: its ending → a reader of an opened source. A new format is one function and one line here.
FORMATS: dict[str, Callable[[Source, str, str], Iterator[Row]]] = {
    "txt": _txt,
    "jsonl": json_lines,
    "json": json_list,
    "csv": separated(",;\t|"),
    "tsv": separated("\t"),
    "parquet": parquet,
}
