"""Rows of tables: comma- and tab-separated text, and parquet.

A row that can't be read carries its error; the stream continues.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmkit.errors import InputError, RowError, UnavailableError, counted, one_line
from llmkit.rows.base import Row, TableForm
from llmkit.rows.text import MAX_CHARACTERS, Source, lines
from llmkit.rows.values import plain_value

#: Bytes and rows of parquet that are unpacked at once.
_BATCH_BYTES, _BATCH_ROWS = 1 << 26, 1024

#: Lines that a quoted cell of a .tsv may go on over.
_CELL_LINES = 1000
_CELL = r'(?:"(?:[^"]|"")*"|[^"\t][^\t]*|)'
_TABBED = re.compile(rf"{_CELL}(?:\t{_CELL})*")
_MORE = re.compile(rf"(?:\t{_CELL})*")
_CLOSING = re.compile(r'(?:[^"\t]|"")*"(?=[\t\r\n]|\Z)')

Reader = Callable[[Source, str, str], Iterator[Row]]


def separated(delimiters: str) -> Reader:
    """A reader of text whose cells are separated by one of `delimiters`: the one that its header has most of.

    Cells are quoted as in RFC 4180, and keep the line ends inside them as they are; see `_enclosing_quotes` for tabs.
    """

    def read(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
        csv.field_size_limit(MAX_CHARACTERS)
        with source:
            stream = enumerate(lines(source, encoding, ends=True), 1)
            first_line, header = next(((n, line) for n, line in stream if line.strip("\r\n")), (0, None))
            if header is None:
                return
            below = (line for _, line in stream)
            head = _header_lines(header, below) if len(delimiters) > 1 else [header]
            outside = re.sub(r'"(?:[^"]|"")*"', "", "".join(head))
            delimiter = max(delimiters, key=outside.count)
            source.table = _form("".join(head), outside, delimiter, source, "csv" if len(delimiters) > 1 else "tsv")
            table = itertools.chain(head, below if delimiter != "\t" else _enclosing_quotes(below))
            yield from _cells(table, delimiter, first_line, source.name)

    return read


def _form(head: str, outside: str, delimiter: str, source: Source, format: str) -> TableForm:
    """head: the lines of the header; outside: without what is in quotes."""
    quoted = '"' in head and not outside.strip("\r\n").replace(delimiter, "")
    return TableForm(format, delimiter, "\r\n" if head.endswith("\r\n") else "\n", quoted, source.marked)


def _header_lines(first: str, below: Iterator[str]) -> list[str]:
    """The lines of a header: more than one where a quoted name goes on over a line end."""
    head, quotes = [first], first.count('"')
    if re.search(r'(?:^|[,;\t])"', re.sub(r'"(?:[^"]|"")*"', "", first)):  # a cell whose quote is not closed on its line
        for line in itertools.islice(below, _CELL_LINES):
            head.append(line)
            quotes += line.count('"')
            if quotes % 2 == 0:
                break
    return head


def _enclosing_quotes(stream: Iterator[str]) -> Iterator[str]:
    """Lines of a .tsv, in which a quote that does not enclose a cell is written as the csv module reads it.

    The format has no quotes (IANA, text/tab-separated-values), yet many programs enclose cells in them, llmkit too. A quote at
    the beginning of a cell encloses it when it is closed at the end of a cell of that line, or of a line before the next tab.
    """
    line = next(stream, None)
    while line is not None:
        if ('\t"' not in line and not line.startswith('"')) or _TABBED.fullmatch(line.rstrip("\r\n")):
            yield line
            line = next(stream, None)
            continue
        pending, closed = [line], False
        for following in itertools.islice(stream, _CELL_LINES):
            pending.append(following)
            closing = _CLOSING.match(following)
            closed = closing is not None and _MORE.fullmatch(following[closing.end() :].rstrip("\r\n")) is not None
            if closed or (closing is None and "\t" in following):
                break
        if closed:
            yield from pending
            line = next(stream, None)
        elif len(pending) > 1 and "\t" in pending[-1] and not _CLOSING.match(pending[-1]):
            line = pending.pop()  # a row by itself
            yield from map(_literal, pending)
        else:
            yield from map(_literal, pending)
            line = next(stream, None)


def _literal(line: str) -> str:
    """A line whose quotes are characters like others."""
    body = line.rstrip("\r\n")
    cells = (f'"{cell.replace(chr(34), chr(34) * 2)}"' if '"' in cell else cell for cell in body.split("\t"))
    return "\t".join(cells) + line[len(body) :]


def _cells(stream: Iterator[str], delimiter: str, first_line: int, name: str) -> Iterator[Row]:
    """The rows below the header, which is the first record of `stream` and begins on `first_line`."""
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    index = 0
    while True:
        line = first_line + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            broken = _bad_quotes(exc, name, line)
            if header is None or not isinstance(broken, RowError):
                raise InputError(broken.message, hint=broken.hint) from exc
            yield Row(index, line, {}, broken)
            index += 1
            continue
        if cells is None:
            return
        if header is None:
            header = cells
            _check_header(header, name, line)
        elif cells:
            error = None
            if len(cells) != len(header):
                error = RowError(f"{counted(len(cells), 'cell')} where the header has {len(header)}", path=name, line=line)
            yield Row(index, line, dict(zip(header, cells, strict=False)), error)
            index += 1


def _bad_quotes(exc: csv.Error, name: str, line: int) -> InputError:
    """A RowError where the next line is a row again; else the whole input is lost."""
    if "unexpected end of data" in str(exc):
        return InputError("is not valid CSV: a quote is opened in the row that begins here and never closed", path=name, line=line)
    if "field larger" in str(exc):
        hint = "is a quote opened there and never closed?"
        return InputError(f"is not valid CSV: a cell of more than {MAX_CHARACTERS:,} characters", path=name, line=line, hint=hint)
    hint = 'a quote inside a quoted cell is written twice: ""'
    return RowError(f"not valid CSV: {exc}", path=name, line=line, hint=hint)


def _check_header(header: Sequence[str], name: str, line: int | None) -> None:
    """Raises InputError for columns with the same name."""
    seen: dict[str, int] = {}
    for number, column in enumerate(header, 1):
        if column in seen:
            what = f"column '{column[:80]}' occurs twice" if column else "two columns have no name"
            raise InputError(f"{what} (columns {seen[column]} and {number})", path=name, line=line, hint="give each column its own name")
        seen[column] = number


def parquet(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
    """Rows of a parquet file, from its own columns; see `plain_value` for types that JSON does not have.

    Raises InputError for what is no complete parquet file, or no plain file; UnavailableError without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:  # pragma: no cover - datasets brings it
        raise UnavailableError("reading parquet needs pyarrow", hint="pip install pyarrow") from exc
    with source:
        if source.packed or source.path == "-" or not stat.S_ISREG(os.stat(source.path).st_mode):
            raise InputError("parquet is read from a plain file", path=source.name, hint="save or unpack it to a file first")
        for _ in source.chunks():  # the hash is of the whole file
            pass
        try:
            table = pyarrow.parquet.ParquetFile(source.path)
            _check_header(table.schema_arrow.names, source.name, None)
            size = sum(table.metadata.row_group(i).total_byte_size for i in range(table.metadata.num_row_groups))
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * table.metadata.num_rows // max(size, 1)))
            index, source.rows = 0, table.metadata.num_rows
            for batch in table.iter_batches(batch_size=rows):
                for row in _batch_rows(batch, index, source.name):
                    yield row
                    index += 1
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as exc:
            # pyarrow raises ValueError and OverflowError for damaged metadata, too
            raise InputError(f"is not a complete parquet file: {one_line(exc)}", path=source.name) from exc


def _batch_rows(batch: Any, begin: int, name: str) -> Iterator[Row]:
    """A value that Python or JSON can't hold is an error of its row; the others are read."""
    columns = list(zip(batch.schema.names, batch.columns, strict=True))
    for number in range(batch.num_rows):
        fields: dict[str, Any] = {}
        error = None
        for column, values in columns:
            try:
                fields[column] = plain_value(values[number].as_py())
            except (ValueError, OverflowError, TypeError, KeyError) as exc:
                # years beyond 9999, bytes that are no UTF-8, maps with two equal keys, nanoseconds without pandas
                reason = one_line(exc)
                error = error or RowError(f"column '{column[:80]}' can't be read: {reason}", path=f"{name}, row {begin + number + 1}")
        yield Row(begin + number, None, fields, error)
