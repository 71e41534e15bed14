"""Which fields of a row make the prompt.

Knows the field names people use; not models or templates of chat.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from llmkit.errors import RowError, UsageError
from llmkit.rows.reading import Row

Message = dict[str, str]

_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: a text, or the messages of a conversation. Exactly one is set."""

    text: str | None = None
    messages: tuple[Message, ...] | None = None


@dataclass(frozen=True)
class PromptFields:
    """How a row becomes a prompt: by a template, a named field, or the names that are known."""

    template: str | None = None
    field: str | None = None

    def __post_init__(self) -> None:
        if self.template is not None and self.field is not None:
            raise UsageError("--template and --prompt-field both say where the prompt comes from", hint="give one of them")
        if self.template is not None:
            names = _template_fields(self.template)
            if not names:
                raise UsageError("--template names no field, so every prompt would be the same", hint='for example "Summarise: {text}"')

    def prompt(self, row: Row, source: str) -> Prompt:
        """The prompt of `row`. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        if self.template is not None:
            values = {name: _text(row, name, source) for name in _template_fields(self.template)}
            # format_map only fills the plain names that the template was checked to have
            return Prompt(text=self.template.format_map(values))
        if self.field is not None:
            return self._from(self.field, row, source)
        for name in ("prompt", "messages", "instruction", "conversations"):
            if name in row.fields:
                return self._from(name, row, source)
        raise _missing("prompt' or 'messages", row, source)

    def _from(self, name: str, row: Row, source: str) -> Prompt:
        value = row.fields.get(name)
        if isinstance(value, list):
            return Prompt(messages=_messages(value, name, row, source))
        text = _text(row, name, source)
        if name == "instruction" and row.fields.get("input"):
            text += "\n\n" + _text(row, "input", source)
        return Prompt(text=text)


def _template_fields(template: str) -> list[str]:
    try:
        parsed = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template) if name is not None]
    except ValueError as exc:
        raise UsageError(f"--template: {exc}", hint="write {{ and }} for braces that are not fields") from exc
    for name, spec, conversion in parsed:
        if not name or spec or conversion or not all(part.isidentifier() for part in name.split("-")):
            raise UsageError(f"--template: '{{{name}}}' is not the plain name of a field", hint='for example "Summarise: {text}"')
    return [name for name, _, _ in parsed]


def _text(row: Row, name: str, source: str) -> str:
    if name not in row.fields:
        raise _missing(name, row, source)
    value = row.fields[name]
    if not isinstance(value, str):
        kind = {list: "a list", dict: "an object", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
        raise RowError(
            f"field '{name}' is {kind}; text expected", path=source, line=row.line, hint="name another field with --prompt-field"
        )
    return value


def _missing(name: str, row: Row, source: str) -> RowError:
    there = ", ".join(str(n)[:60] for n in list(row.fields)[:12]) or "none"
    return RowError(
        f"no field '{name}' (fields: {there})", path=source, line=row.line, hint="name the field with --prompt-field, or use --template"
    )


def _messages(value: list[Any], name: str, row: Row, source: str) -> tuple[Message, ...]:
    out: list[Message] = []
    for number, item in enumerate(value, 1):
        role = item.get("role", _SHAREGPT_ROLES.get(str(item.get("from")))) if isinstance(item, dict) else None
        content = item.get("content", item.get("value")) if isinstance(item, dict) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise RowError(f"message {number} of field '{name}' has no text 'role' and 'content'", path=source, line=row.line)
        out.append({"role": role, "content": content})
    if not out:
        raise RowError(f"field '{name}' holds no message", path=source, line=row.line)
    return tuple(out)
