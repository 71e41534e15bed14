"""A prompt made of a row's fields: `Summarize: {text}`.

`{name}` is the field with exactly that name: spaces, dots and colons belong to the name, nothing is looked up inside of a
value. `{{` and `}}` are braces. Numbers and booleans are written as JSON writes them.
"""

from __future__ import annotations

import re
from functools import cached_property

from llmkit.errors import UsageError
from llmkit.rows.base import Row
from llmkit.rows.messages import row_error
from llmkit.rows.values import to_json, type_name

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_EXAMPLE = 'for example "Summarize: {text}"; braces that are not fields are written {{ and }}'


class Template:
    """A template, checked. Raises UsageError for braces that name no field, and for a template without any field."""

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []  # literal text, and the field after it
        literal, at = "", 0
        for match in _PART.finditer(text):
            literal += text[at : match.start()]
            at = match.end()
            if match[0] in ("{{", "}}"):
                literal += match[0][0]
                continue
            name = match[1]
            if name is None or not name.strip() or '"' in name or "\n" in name or re.search(r"![rsa]$", name):
                raise UsageError(f"`template`: {_shown(text, match)} does not name a field", hint=_EXAMPLE)
            self._parts.append((literal, name))
            literal = ""
        self._end = literal + text[at:]
        if not self._parts:
            raise UsageError("`template` names no field, so every prompt would be the same", hint=_EXAMPLE)

    @property
    def names(self) -> list[str]:
        """The fields it is filled from, in their order."""
        return [name for _, name in self._parts if name is not None]

    def fill(self, row: Row, file_name: str) -> str:
        """The prompt of `row`. Raises RowError for a field that is not there, or is null, a list or an object."""
        return "".join(literal + _value(row, name or "", file_name) for literal, name in self._parts) + self._end


def _value(row: Row, name: str, file_name: str) -> str:
    fields = named_fields(row)
    if name not in fields:
        there = ", ".join(str(n)[:60] for n in list(row.fields)[:12]) or "none"
        raise row_error(f"no field '{name[:80]}' (fields: {there})", row, file_name, hint="use a field of the rows in `template`")
    value = fields[name]
    if isinstance(value, str) and type_name(value) == "text":
        return value
    if isinstance(value, (bool, int, float)):
        return to_json(value)
    raise row_error(f"field '{name[:80]}' is {type_name(value)}; text or a number expected", row, file_name)


def named_fields(row: Row) -> dict[str, object]:
    """The fields of a row by the names they answer to: a line of plain text is both `text` and `prompt`."""
    if row.plain and len(row.fields) == 1:
        (line,) = row.fields.values()
        return {"text": line, "prompt": line, **row.fields}
    return row.fields


def _shown(text: str, match: re.Match[str]) -> str:
    if match[1] is None:  # a brace without its partner
        return f"the brace in '{text[match.start() : match.start() + 12]}'"
    return f"'{match[0][:40]}'"


class Templated:
    """Settings with a template that makes prompts of rows."""

    template: str | None

    @cached_property
    def parsed_template(self) -> Template | None:
        """The template, parsed once; None where there is none. Raises UsageError for one that names no field."""
        return None if self.template is None else Template(self.template)
