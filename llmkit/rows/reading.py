"""Rows from a file, a stream or a hub data set, one at a time, so that memory does not grow with the input.

A format is a function from an opened source to rows, in `FORMATS`. A row that can't be read carries its error;
the stream goes on. Knows formats; not what a command does with the fields.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llmkit.errors import InputError, RowError, UnavailableError, UsageError
from llmkit.rows.text import Source, lines

#: A file whose first rows are all broken is not of the format its name says.
HOPELESS = 10


@dataclass(frozen=True)
class Row:
    """One row of the input. `index` counts rows from 0, `line` is the line it begins on (from 1), where there are lines."""

    index: int
    line: int | None
    fields: dict[str, Any]
    error: RowError | None = None


@dataclass
class Rows:
    """A stream of rows that can be walked once. After its end `count` and `sha256` are those of the whole input."""

    name: str
    _stream: Iterator[Row]
    _digest: Callable[[], str | None]
    limit: int | None = None
    count: int = field(default=0, init=False)
    whole: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Row]:
        for row in self._stream if self.limit is None else itertools.islice(self._stream, self.limit):
            self.count += 1
            yield row
        self.whole = self.limit is None

    def peek(self, count: int) -> list[Row]:
        """The first rows, which stay in the stream. Before it is walked."""
        first = list(itertools.islice(self._stream, count))
        self._stream = itertools.chain(first, self._stream)
        return first

    @property
    def sha256(self) -> str | None:
        """Of the input's bytes; None for a hub data set or when only some rows were read."""
        return self._digest() if self.whole else None


def open_rows(
    path: str,
    *,
    format: str = "auto",
    encoding: str = "utf-8",
    text_field: str = "text",
    limit: int | None = None,
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
        return Rows(path, _hub_rows(path, offline), lambda: None, limit)
    source = Source(path)
    first = b""
    if format == "auto":
        format, first = _format_of(source)
    read = _whole if whole_text and format == "txt" else FORMATS[format]
    stream = read(source, encoding, text_field, first)
    return Rows(source.name, _checked(stream, source.name), lambda: source.sha256, limit)


def _format_of(source: Source) -> tuple[str, bytes]:
    """By the name's ending, else by the first character: rows of JSON, or lines of text."""
    name = source.path.removesuffix(".gz")
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in FORMATS:
        return ending, b""
    if ending in ("ndjson", "jl"):
        return "jsonl", b""
    if ending in ("text", "md"):
        return "txt", b""
    if source.path != "-" and ending:
        raise UsageError(
            f"{source.path}: no input format is known by the ending '.{ending}'", hint=f"--input-format one of {', '.join(FORMATS)}"
        )
    first = next(source.chunks(), b"")
    return ("jsonl" if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "txt"), first


def _checked(stream: Iterator[Row], name: str) -> Iterator[Row]:
    """Gives up on an input whose first rows are all broken."""
    held: list[Row] = []
    for row in stream:
        held.append(row)
        if row.error is None:
            break
        if len(held) == HOPELESS:
            raise InputError(f"the first {HOPELESS} rows are all broken; {row.error.message}", hint=row.error.hint)
    yield from held
    yield from stream


def _txt(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
    with source:
        for index, line in enumerate(lines(source, encoding, first=first)):
            yield Row(index, index + 1, {text_field: line})


def _whole(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
    with source:
        text = "\n".join(lines(source, encoding, first=first))
        if text or source.ends_line:
            yield Row(0, None, {text_field: text + ("\n" if source.ends_line else "")})


def _jsonl(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
    with source:
        index = 0
        for number, line in enumerate(lines(source, encoding, first=first), 1):
            if not line.strip():
                continue
            yield _json_row(line, index, number, source.name)
            index += 1


def _json_row(text: str, index: int, number: int, name: str) -> Row:
    try:
        content = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as exc:
        reason = "nested too deep" if isinstance(exc, RecursionError) else str(exc)
        return Row(index, number, {}, RowError(f"not a JSON object: {reason}", path=name, line=number))
    if not isinstance(content, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(type(content), "a number")
        return Row(index, number, {}, RowError(f"a row must be a JSON object, not {kind}", path=name, line=number))
    return Row(index, number, content)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"field '{next(n for n in names if names.count(n) > 1)}' occurs twice")
    return content


def _json(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
    """A list of objects, read piece by piece."""
    import ijson

    class Reader:
        """The decoded text as the UTF-8 bytes that the parser wants."""

        pieces = (line + "\n" for line in lines(source, encoding, first=first))

        def read(self, size: int) -> bytes:
            return b"" if size == 0 else next(self.pieces, "").encode("utf-8", "surrogatepass")

    with source:
        try:
            for index, content in enumerate(ijson.items(Reader(), "item", use_float=True)):
                if not isinstance(content, dict):
                    error = RowError(f"element {index + 1} of the list is not an object", path=source.name)
                    yield Row(index, None, {}, error)
                else:
                    yield Row(index, None, content)
        except ijson.JSONError as exc:
            raise InputError(f"is not a JSON list of objects: {exc}", path=source.name) from exc


def _separated(delimiters: str) -> Callable[[Source, str, str, bytes], Iterator[Row]]:
    def read(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
        # The csv module's limit is a C long; a cell may be as long as memory allows.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        with source:
            stream = lines(source, encoding, first=first)
            header_line = next(stream, None)
            if header_line is None:
                return
            delimiter = max(delimiters, key=header_line.count)
            reader = csv.reader((line + "\n" for line in itertools.chain([header_line], stream)), delimiter=delimiter, strict=True)
            yield from _cells(reader, source.name)

    return read


def _cells(reader: Any, name: str) -> Iterator[Row]:
    try:
        header = next(reader)
        if len(set(header)) < len(header):
            raise InputError(f"column '{next(h for h in header if header.count(h) > 1)}' occurs twice", path=name, line=1)
        index, begun = 0, reader.line_num + 1
        for cells in reader:
            if cells:
                fields = dict(zip(header, cells, strict=False))
                error = None
                if len(cells) != len(header):
                    error = RowError(f"{len(cells)} cells where the header has {len(header)}", path=name, line=begun)
                yield Row(index, begun, fields, error)
                index += 1
            begun = reader.line_num + 1
    except csv.Error as exc:
        raise InputError(f"is not valid CSV: {exc}", path=name, line=reader.line_num) from exc


def _parquet(source: Source, encoding: str, text_field: str, first: bytes) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:  # pragma: no cover - datasets brings it
        raise UnavailableError("reading parquet needs pyarrow", hint="pip install pyarrow") from exc
    with source:
        if source.path.endswith(".gz") or source.path == "-":
            raise InputError("parquet is read from a plain file", path=source.name, hint="unpack it first")
        for _ in source.chunks():  # the hash is of the whole file
            pass
        try:
            table = pyarrow.parquet.ParquetFile(source.path)
            index = 0
            for batch in table.iter_batches(batch_size=1024):
                for content in batch.to_pylist():
                    yield Row(index, None, content)
                    index += 1
        except (pyarrow.ArrowException, OSError) as exc:
            raise InputError(f"is not a whole parquet file: {str(exc).splitlines()[0]}", path=source.name) from exc


def _is_hub_dataset(path: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?:[\w.]+(\[[^\]]*\])?", path)) and not os.path.exists(path)


def _hub_rows(path: str, offline: bool) -> Iterator[Row]:
    if offline:
        raise UnavailableError(f"{path} is a hub data set, and this run is offline", hint="save it to a file and name that")
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    name, _, split = path.rpartition(":")
    name, _, revision = name.partition("@")
    try:
        stream = datasets.load_dataset(name, split=split, revision=revision or None, streaming=True)
        for index, content in enumerate(stream):
            yield Row(index, None, dict(content))
    except Exception as exc:
        # datasets raises many kinds of its own and of its HTTP clients
        raise UnavailableError(f"{path}: {type(exc).__name__}: {str(exc).splitlines()[0]}") from exc


#: A format: its ending → a reader of an opened source. A new format is one function and one line here.
FORMATS: dict[str, Callable[[Source, str, str, bytes], Iterator[Row]]] = {
    "txt": _txt,
    "jsonl": _jsonl,
    "json": _json,
    "csv": _separated(",;\t"),
    "tsv": _separated("\t"),
    "parquet": _parquet,
}
