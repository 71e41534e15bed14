"""Rows of JSON: one object per line, or a list of objects read one element at a time.

A row that can't be read carries its error; the stream continues. Each element is cut out by counting brackets and parsed by
itself, so that time is linear, memory is that of one row, and a `.json` row is read by the same rules as a `.jsonl` row.
(ijson, a streaming parser, loses the digits of numbers and half surrogate pairs, takes the last of two equal keys, and
needs memory in the square of the depth.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmkit.errors import InputError, RowError, counted
from llmkit.rows.base import Row
from llmkit.rows.text import MAX_CHARACTERS, Source, lines, texts
from llmkit.rows.values import MAX_DEPTH, from_json, type_name

_OUTSIDE = re.compile(r'[\[\]{},"]')
_INSIDE = re.compile(r'["\\]')
_VISIBLE = re.compile(r"[^ \t\r\n]")
#: Levels at which a file is given up, since nothing says that they end: 200 kB of .gz may hold 200 million brackets.
_HOPELESS_DEPTH = 2_000_000


def json_lines(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
    """One object per line; blank lines are skipped."""
    with source:
        index = source.rows_skipped
        for number, line in enumerate(lines(source, encoding), 1 + source.lines_skipped):
            if not line.strip():
                continue
            hint = None
            if index == 0 and line.lstrip().startswith("["):
                hint = "is this a JSON list of rows? `input_format` json reads one"
            yield _row(line, index, number, source.name, hint)
            index += 1


def json_list(source: Source, encoding: str, text_field: str) -> Iterator[Row]:
    """A list of objects. A file of JSON lines is read as such; one object alone is refused, since its rows may lie in a field."""
    with source:
        first: Row | None = None
        for index, element in enumerate(_elements(source, encoding)):
            row = _element_row(element, index, source.name)
            if element.in_list:
                yield row
            elif index == 0:
                first = row
            else:
                if first is not None:
                    yield first
                    first = None
                yield row
        if first is not None:
            raise _one_value(first, source.name)


def _row(text: str, index: int, line: int | None, name: str, hint: str | None = None) -> Row:
    try:
        content = from_json(text)
    except (ValueError, RecursionError) as exc:
        return Row(index, line, {}, RowError(f"not a JSON object: {exc}", path=name, line=line, hint=hint))
    if not isinstance(content, dict):
        return Row(index, line, {}, RowError(f"a row must be a JSON object, not {_kind(content)}", path=name, line=line, hint=hint))
    return Row(index, line, content)


def _kind(value: object) -> str:
    return "a string" if isinstance(value, str) else type_name(value)


def _one_value(row: Row, name: str) -> InputError:
    """Why a file with a single value outside of a list gives no rows."""
    if row.error is not None:
        return InputError(row.error.reason, path=name, hint="a list of objects is needed: [{...}, {...}]")
    around = next((n for n, v in row.fields.items() if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)), None)
    if around is None:
        return InputError(
            "is one JSON object, not a list of objects",
            path=name,
            hint="put it in [ ], or `input_format` jsonl for one object per line; translate reads messages by `input_format` arb",
        )
    held = counted(len(row.fields[around]), "object")
    return InputError(
        f"is one JSON object around a list, not a list of objects (its field '{around[:60]}' holds {held})",
        path=name,
        hint="save that list as a file of its own",
    )


@dataclass
class _Element:
    """One value of the file: an element of its list, or a value that stands alone. error: why it can't be read."""

    line: int
    in_list: bool
    parts: list[str] = field(default_factory=list)
    length: int = 0
    error: str | None = None

    def add(self, text: str) -> None:
        self.length += len(text)
        if self.length > MAX_CHARACTERS:
            self.fail(f"longer than {MAX_CHARACTERS:,} characters")
        if self.error is None and text:
            self.parts.append(text)

    @property
    def blank(self) -> bool:
        return self.error is None and not any(part.strip() for part in self.parts)

    def fail(self, error: str) -> None:
        self.error = self.error or error
        self.parts.clear()


def _element_row(element: _Element, index: int, name: str) -> Row:
    line, place = (None, f"{name}, row {index + 1}") if element.in_list else (element.line, name)
    if element.error is not None:
        return Row(index, line, {}, RowError(f"not a JSON object: {element.error}", path=place, line=line))
    return _row("".join(element.parts), index, line, place)


class _Cutter:
    """Cuts a JSON text into the elements of its list, or into the objects that stand one after another.

    Counts brackets outside of strings; whether an element is JSON, the parser says afterwards.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.depth = self.line = 0
        self.quoted = self.escaped = self.ended = False
        self.in_list: bool | None = None  # unknown before the first bracket
        self.elements = 0
        self.element = _Element(1, False)

    def cut(self, text: str) -> Iterator[_Element]:
        """Takes the next piece of the text; gives the elements that end in it. Raises InputError for what is neither form."""
        at = start = counted = 0
        while (match := self._next(text, at)) is not None:
            at, mark = match.end(), match[0]
            if self.quoted:
                self.quoted, self.escaped = mark != '"', mark == "\\"
            elif mark == '"' and self.depth:
                self.quoted = True
            elif mark in "[{" and self.depth == 0:
                self.line += text.count("\n", counted, at)
                counted = at
                self._begin(mark)
                start = match.start() + bool(self.in_list)
            elif mark in "[{":
                self.depth += 1
                if self.depth > _HOPELESS_DEPTH:
                    raise InputError(f"is nested more than {_HOPELESS_DEPTH:,} levels deep", path=self.name, line=self.line + 1)
                if self.depth > MAX_DEPTH + bool(self.in_list):
                    self.element.fail(f"nested too deep (more than {MAX_DEPTH} levels)")
            elif mark in "]}" and self.depth:
                self.depth -= 1
                if self.depth == 0:
                    self.element.add(text[start : match.start() if self.in_list else at])
                    yield from self._end(last=True)
            elif mark == "," and self.depth == 1 and self.in_list:
                self.element.add(text[start : match.start()])
                yield from self._end(last=False)
                start = at
            elif self.depth == 0:
                raise self._unexpected(mark)
        self.line += text.count("\n", counted)
        if self.depth:
            self.element.add(text[start:])

    def finish(self) -> None:
        """Raises InputError for a text that ends too early."""
        if self.depth:
            what = "list" if self.in_list else "object"
            raise InputError(f"is not a complete JSON list of objects: the {what} is never closed", path=self.name)

    def _next(self, text: str, at: int) -> re.Match[str] | None:
        if self.escaped and at < len(text):
            at, self.escaped = at + 1, False
        return (_INSIDE if self.quoted else _OUTSIDE if self.depth else _VISIBLE).search(text, at)

    def _begin(self, mark: str) -> None:
        if self.ended or (self.in_list is False and mark == "["):
            raise self._unexpected(mark)
        self.in_list = mark == "["
        self.depth = 1
        self.element = _Element(self.line + 1, self.in_list)

    def _end(self, *, last: bool) -> Iterator[_Element]:
        element, self.element = self.element, _Element(self.line + 1, bool(self.in_list))
        self.ended = bool(self.in_list) and last
        if self.in_list and element.blank:
            if last and self.elements == 0:
                return
            raise InputError(f"is not a JSON list of objects: there is nothing at element {self.elements + 1}", path=self.name)
        self.elements += 1
        yield element

    def _unexpected(self, mark: str) -> InputError:
        where = "after the list" if self.ended else f"after object {self.elements}" if self.elements else "at the beginning"
        hint = "a list of objects: [{...}, {...}]; `input_format` names another format"
        return InputError(f"is not a JSON list of objects: {mark!r} {where}", path=self.name, line=self.line + 1, hint=hint)


def _elements(source: Source, encoding: str) -> Iterator[_Element]:
    cutter = _Cutter(source.name)
    for text in texts(source, encoding):
        yield from cutter.cut(text)
    cutter.finish()
