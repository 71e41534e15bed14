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
_SOURCES = ("source", "src", "prompt", "instruction", "question", "text")
_TARGETS = ("target", "tgt", "completion", "output", "response", "reference", "ref", "answer")
_PREDICTIONS = ("prediction", "predictions", "translation", "text", "hypothesis", "output")
_REFERENCES = ("references", "reference", "ref", "target", "tgt", "answer", "answers")


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: a text, or the messages of a conversation. Exactly one is set.

    first_token: a token that the model reads before the text (the language of NLLB and its kin).
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    first_token: str | None = None


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
            values = {name: text_of(row, name, source) for name in _template_fields(self.template)}
            # format_map only fills the plain names that the template was checked to have
            return Prompt(text=self.template.format_map(values))
        if self.field is not None:
            return self._from(self.field, row, source)
        for name in ("prompt", "messages", "instruction", "conversations"):
            if name in row.fields:
                return self._from(name, row, source)
        raise missing_field("prompt' or 'messages", row, source)

    def _from(self, name: str, row: Row, source: str) -> Prompt:
        value = row.fields.get(name)
        if isinstance(value, list):
            return Prompt(messages=messages_of(value, name, row, source))
        text = text_of(row, name, source)
        if name == "instruction" and row.fields.get("input"):
            text += "\n\n" + text_of(row, "input", source)
        return Prompt(text=text)


@dataclass(frozen=True)
class DocumentFields:
    """Which text of a row is scored, and what it is scored after.

    paired: a target after its source (for an encoder-decoder). completion_only: a completion after its prompt, or each
    assistant turn after the conversation before it. Otherwise the whole text.
    """

    field: str | None = None
    paired: bool = False
    completion_only: bool = False

    def spans(self, row: Row, source: str) -> list[tuple[Prompt | None, str]]:
        """(what comes before, what is scored), in order. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        if self.paired or self.completion_only:
            return self._completions(row, source)
        if self.field is not None:
            return [(None, text_of(row, self.field, source, "--text-field"))]
        if "text" in row.fields:
            return [(None, text_of(row, "text", source))]
        if any(name in row.fields for name in ("messages", "conversations")):
            raise RowError("a conversation; its assistant turns can be scored", path=source, line=row.line, hint="add --completion-only")
        if "prompt" in row.fields and "completion" in row.fields:
            return [(None, text_of(row, "prompt", source) + text_of(row, "completion", source))]
        raise missing_field("text", row, source, "--text-field")

    def _completions(self, row: Row, source: str) -> list[tuple[Prompt | None, str]]:
        for name in ("messages", "conversations"):
            if isinstance(value := row.fields.get(name), list) and not self.paired:
                messages = messages_of(value, name, row, source)
                turns = [i for i, m in enumerate(messages) if m["role"] == "assistant" and i > 0]
                if not turns:
                    raise RowError(f"field '{name}' holds no assistant turn after another", path=source, line=row.line)
                return [(Prompt(messages=messages[:i]), messages[i]["content"]) for i in turns]
        before, after = pair(row, source)
        return [(Prompt(text=before), after)]


def pair(row: Row, source: str) -> tuple[str, str]:
    """Source and target of a row: by the names in use, or the two languages of a field 'translation'.

    Raises RowError with the line and the fields that are there.
    """
    both = row.fields.get("translation")
    if isinstance(both, dict) and len(both) == 2 and all(isinstance(v, str) for v in both.values()):
        first, second = both.values()
        return first, second
    before = next((n for n in _SOURCES if n in row.fields), None)
    after = next((n for n in _TARGETS if n in row.fields), None)
    if before is None or after is None:
        raise missing_field("source' and 'target' (or 'prompt' and 'completion')" if before is None else "target", row, source, None)
    text = text_of(row, before, source)
    if before == "instruction" and row.fields.get("input"):
        text += "\n\n" + text_of(row, "input", source)
    return text, text_of(row, after, source)


def _template_fields(template: str) -> list[str]:
    try:
        parsed = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template) if name is not None]
    except ValueError as exc:
        raise UsageError(f"--template: {exc}", hint="write {{ and }} for braces that are not fields") from exc
    for name, spec, conversion in parsed:
        if not name or spec or conversion or not all(part.isidentifier() for part in name.split("-")):
            raise UsageError(f"--template: '{{{name}}}' is not the plain name of a field", hint='for example "Summarise: {text}"')
    return [name for name, _, _ in parsed]


def text_of(row: Row, name: str, source: str, option: str = "--prompt-field") -> str:
    if name not in row.fields:
        raise missing_field(name, row, source, option)
    value = row.fields[name]
    if not isinstance(value, str):
        kind = {list: "a list", dict: "an object", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
        raise RowError(f"field '{name}' is {kind}; text expected", path=source, line=row.line, hint=f"name another field with {option}")
    return value


def missing_field(name: str, row: Row, source: str, option: str | None = "--prompt-field") -> RowError:
    there = ", ".join(str(n)[:60] for n in list(row.fields)[:12]) or "none"
    hint = None if option is None else f"name the field with {option}" + (", or use --template" if option == "--prompt-field" else "")
    return RowError(f"no field '{name}' (fields: {there})", path=source, line=row.line, hint=hint)


def messages_of(value: list[Any], name: str, row: Row, source: str) -> tuple[Message, ...]:
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


@dataclass(frozen=True)
class SourceFields:
    """The prompt of a row that also holds what it should become: a named field, or the names that are known."""

    field: str | None = None

    def prompt(self, row: Row, source: str) -> Prompt:
        """Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        both = row.fields.get("translation")
        if self.field is None and isinstance(both, dict):
            return Prompt(text=pair(row, source)[0])
        name = self.field or next((n for n in (*_SOURCES, "messages") if n in row.fields), "source")
        if isinstance(value := row.fields.get(name), list):
            return Prompt(messages=messages_of(value, name, row, source))
        return Prompt(text=text_of(row, name, source, "--source-field"))


def references(row: Row, source: str, name: str | None = None) -> tuple[str, ...]:
    """What the answer to a row should be: a text or a list of texts. Raises RowError; an empty reference is one."""
    both = row.fields.get("translation")
    if name is None and isinstance(both, dict):
        return (pair(row, source)[1],)
    name = name or next((n for n in _REFERENCES if n in row.fields), "reference")
    value = row.fields.get(name)
    texts = value if isinstance(value, list) else [text_of(row, name, source, "--reference-field")]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise RowError(f"field '{name}' has an empty reference, or one that is no text", path=source, line=row.line)
    return tuple(texts)


def prediction(row: Row, source: str, name: str | None = None) -> str:
    """The saved output of a row. Raises RowError."""
    name = name or next((n for n in _PREDICTIONS if isinstance(row.fields.get(n), str)), "prediction")
    return text_of(row, name, source, "--prediction-field")
