"""What is scored against references: saved outputs in files, and answers in rows, as examples.

Knows rows and their fields; not what a metric makes of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmkit.errors import InputError, UsageError, counted
from llmkit.metrics.base import Example, row_digest
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.cells import as_answered
from llmkit.rows.fields import SHOWN_SOURCES, Prompt, SourceFields, first_text, row_id
from llmkit.rows.reading import FORMATS, format_named
from llmkit.rows.saved import prediction, references

#: Metrics for which a reference may be the empty text.
_MAY_BE_EMPTY = ("exact_match", "accuracy", "f1")


@dataclass(frozen=True)
class ReferencedFields(SourceFields):
    """A row's prompt; a row without references is an error before the model runs."""

    reference_field: str | None = None

    def prompt(self, row: Row, file_name: str) -> Prompt:
        """As `SourceFields.prompt`. Raises RowError for a row without references, too."""
        prompt = super().prompt(row, file_name)
        self.expected(row, file_name)
        return prompt

    def expected(self, row: Row, file_name: str) -> tuple[str, ...]:
        """The row's references, one at least. Raises RowError."""
        return references(row, file_name, self.reference_field)


@dataclass(frozen=True)
class Saved:
    """Saved outputs with their references. about: the files and their hashes."""

    name: str
    examples: list[Example]
    about: dict[str, Any]


def check_plain(path: str) -> None:
    """Raises UsageError for a file of rows where lines of text are compared: its lines would be scored as they are, with their names."""
    if format_named(path) in FORMATS and format_named(path) != "txt":
        hint = "rows that hold predictions and references are read with `input`; a file of lines has another ending, as .txt"
        raise UsageError(f"{path} holds rows, and `predictions` and `references` are lines of text", hint=hint)


def read_saved(path: str, others: Sequence[str], *, encoding: str, max_rows: int | None, warn: Callable[[str], None]) -> Saved:
    """Saved outputs of one text per line, and their references: line N of each file belongs together.

    warn: called with what is odd about a line end. Raises InputError for files of different length and empty references, UsageError for
    a file of rows.
    """
    files = [path, *others]
    for name in files:
        check_plain(name)
    streams = [open_rows(name, format="txt", encoding=encoding, max_rows=max_rows) for name in files]
    names = [rows.name for rows in streams]
    examples: list[Example] = []
    for number, rows in enumerate(itertools.zip_longest(*streams), 1):
        if None in rows:
            raise _lengths(names, streams, number, rows.index(None))
        texts = [row.fields["text"] for row in rows]
        if empty := next((i for i, text in enumerate(texts[1:], 1) if not text.strip()), None):
            raise InputError("an empty reference", path=names[empty], line=number)
        examples.append(Example(str(number), row_digest(texts[1:]), "", texts[0], tuple(texts[1:])))
    for stream in streams:
        if stream.mixed_line_ends:
            warn(f"{stream.name}, line {stream.first_cr}: this line ends with a carriage return (CR), other lines with a line feed (LF)")
    hashes = [stream.sha256 for stream in streams]
    about = {"predictions": path, "predictions_sha256": hashes[0], "references": list(others), "references_sha256": hashes[1:]}
    return Saved(path, examples, about)


def read_examples(rows: Rows, prediction_field: str | None, fields: ReferencedFields) -> list[Example]:
    """Saved outputs in rows, with their references. Raises InputError or RowError for a row that can't be scored."""
    examples, table = [], format_named(rows.name) in ("csv", "tsv")
    for row in rows:
        if row.error is not None:
            raise row.error
        if table:  # whose cells are no formulas
            row = replace(row, fields=dict(as_answered(row.fields)))
        examples.append(example_of(row, prediction(row, rows.name, prediction_field, reference=fields.reference_field), rows.name, fields))
    return examples


def example_of(row: Row, answer: str, file_name: str, fields: ReferencedFields) -> Example:
    """An answer to a row. Raises RowError for a row without references."""
    expected = fields.expected(row, file_name)
    shown = first_text(row.fields, SHOWN_SOURCES)
    return Example(row_id(row.fields, row.index + 1), row_digest(expected, _question(row, fields)), shown, answer, expected)


def check_examples(examples: Sequence[Example], path: str, metrics: Sequence[str]) -> None:
    """Raises InputError for a file without a row, with two of one id, or with questions without an answer that a metric can't score."""
    if not examples:
        raise InputError("there are no rows to score", path=path)
    other = next((name for name in metrics if name not in _MAY_BE_EMPTY), None)
    if other and (empty := next((number for number, each in enumerate(examples, 1) if "" in each.references), None)):
        raise InputError(f"row {empty} is a question without an answer, which {other} can't score", path=path)
    _check_ids(examples, path)


def _question(row: Row, fields: ReferencedFields) -> Any:
    """The prompt of a model, as far as the row shows it: a text, messages, or None. `text` may be an answer as well."""
    both = row.fields.get("translation")
    if fields.field is None and isinstance(both, dict):
        return next(iter(both.values()), None)
    names = (fields.field,) if fields.field else ("source", "src", "prompt", "instruction", "question", "messages")
    name = next((n for n in names if n in row.fields), None)
    if name == "instruction" and row.fields.get("input"):
        return [row.fields[name], row.fields["input"]]
    return row.fields.get(name or "")


def _check_ids(examples: Sequence[Example], file_name: str) -> None:
    """Rows are paired by id, so an id may occur once. Raises InputError naming both rows."""
    seen: dict[str, int] = {}
    for number, example in enumerate(examples, 1):
        if example.id in seen:
            hint = "a row without an id is called by its number" if example.id in (str(seen[example.id]), str(number)) else None
            raise InputError(f"rows {seen[example.id]} and {number} have the same id '{example.id[:80]}'", path=file_name, hint=hint)
        seen[example.id] = number


def _lengths(names: Sequence[str], streams: Sequence[Rows], number: int, short: int) -> InputError:
    counts = []
    for name, rows in zip(names, streams, strict=True):
        for _ in rows:
            pass
        counts.append(f"{name} has {counted(rows.count, 'line')}")
    odd = next(((name, rows.first_cr) for name, rows in zip(names, streams, strict=True) if rows.first_cr is not None), None)
    hint = "line N of each file must belong together"
    if odd is not None:
        hint += f"; in {odd[0]} line {odd[1]} ends with a carriage return (CR) alone"
    return InputError("; ".join(counts), path=names[short], line=number, hint=hint)
