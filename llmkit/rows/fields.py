"""Which fields of a row make the prompt and the text to score.

Knows the field names people use, in one table; not models or chat templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmkit.errors import RowError, UsageError
from llmkit.rows.base import Row
from llmkit.rows.messages import (
    CONVERSATIONS,
    TEMPLATE_VALUES,
    Message,
    batch_request,
    check_last,
    conversation,
    messages_of,
    row_error,
    system_of,
    template_values_of,
    tools_of,
)
from llmkit.rows.template import Templated, named_fields
from llmkit.rows.values import type_name

__all__ = ["Message", "Prompt", "PromptFields", "messages_of", "row_error"]

#: The names of fields, each list in the order in which they are tried.
PROMPTS = ("prompt", "messages", "instruction", "conversations")
SOURCES = ("source", "src", "prompt", "instruction", "question", "text")
#: Of these, what was translated. A column `system` beside one names the system that did it (WMT), and is no system message.
TRANSLATED = ("source", "src", "translation")
TARGETS = ("target", "tgt", "completion", "output", "response", "reference", "ref", "answer")
#: Several choices, and the right one of them.
CHOICES = ("choices", "endings", "options")
RIGHT_CHOICES = ("answer", "answerKey", "label", "target")
#: Programs that stand alone, then those that continue the prompt; `text` may be something else as well.
WHOLE_PROGRAMS = ("predictions", "prediction")
CONTINUED_PROGRAMS = ("texts", "completions", "completion", "text")
#: What a report shows of a row: the question, the source, the text that was scored.
QUESTIONS = ("question", "text", "prompt")
SHOWN_SOURCES = ("source", "prompt", "question")
SCORED = ("text", "target", "completion")
#: Keys of a batch request that the prompt is made of, or that say nothing about the answer.
_REQUEST = ("messages", "prompt", "tools", TEMPLATE_VALUES, "model", "user", "metadata", "store", "stream", "stream_options", "n")


def first_name(fields: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of `names` that is among `fields`."""
    there = set(fields)
    return next((name for name in names if name in there), None)


def first_text(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    """The text of the first of `names` that holds one, '' where none does."""
    return next((value for name in names if isinstance(value := fields.get(name), str)), "")


def row_id(fields: Mapping[str, Any], number: int) -> str:
    """What a row is called: its `id`, else its number from 1. A null or blank `id` is none."""
    value = str("" if fields.get("id") is None else fields["id"])  # a table writes a missing one as an empty cell
    return value if value.strip() else str(number)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: a text, or the messages of a conversation. Exactly one is set.

    plain: what a model without a chat template reads instead of the text. first_token and last_token: a token that the model reads
    before the text, or behind it and its end (the language of NLLB and its kin, of mBART-25).
    tools and template_values: what else the chat template is shown. system: a message before the conversation; a model without a
    template reads none. continue_last: the last message is the model's own, to be continued.
    unused: settings of a batch request that are not applied, and columns that mean something else beside this prompt.
    bare: the text is continued as it is, also by a model with a chat template.
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    plain: str | None = None
    first_token: str | None = None
    last_token: str | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    continue_last: bool = False
    unused: tuple[str, ...] = ()
    template_values: dict[str, Any] | None = None
    system: str | None = None
    bare: bool = False


@dataclass(frozen=True)
class PromptFields(Templated):
    """How a row becomes a prompt: by a template, a named field, or the names that are known.

    continue_last: a conversation may end with the assistant's turn, which is continued; else it is an error of the row.
    """

    template: str | None = None
    field: str | None = None
    continue_last: bool = False

    def __post_init__(self) -> None:
        if self.template is not None and self.field is not None:
            raise UsageError("`template` and `prompt_field` cannot be combined", hint="use only one of them")
        _ = self.parsed_template  # a template that names no field is refused now

    def prompt(self, row: Row, file_name: str) -> Prompt:
        """The prompt of `row`. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        prompt = _with_columns(self._asked(row, file_name), row, file_name)
        if prompt.template_values is None and (values := template_values_of(row.fields, row, file_name)) is not None:
            return replace(prompt, template_values=values)
        return prompt

    def _asked(self, row: Row, file_name: str) -> Prompt:
        if self.parsed_template is not None:
            return Prompt(text=self.parsed_template.fill(row, file_name))
        if self.field is not None:
            return self._from(self.field, row, file_name)
        present = [name for name in PROMPTS if name in row.fields]
        # in a table with the columns of other rows, too, the field that holds something is meant
        name = next((n for n in present if row.fields[n] not in (None, "")), next(iter(present), None))
        if name is not None:
            return self._from(name, row, file_name)
        if (body := batch_request(row)) is not None:
            return self._request(body, row, file_name)
        raise missing_field("prompt' or 'messages", row, file_name)

    def _from(self, name: str, row: Row, file_name: str) -> Prompt:
        value = row.fields.get(name)
        if isinstance(value, list) or (name in CONVERSATIONS and name in row.fields):
            return _conversation_prompt(value, name, row, row.fields, file_name, self.continue_last)
        if name == "instruction":
            return instruction(row, file_name)
        return Prompt(text=text_of(row, name, file_name))

    def _request(self, body: dict[str, Any], row: Row, file_name: str) -> Prompt:
        """The prompt of a batch request: for chat completions its messages, for completions its text."""
        unused = tuple(key for key in body if key not in _REQUEST)
        if "messages" in body:
            made = _conversation_prompt(body["messages"], "body.messages", row, body, file_name, self.continue_last)
            return replace(made, unused=unused)
        if not isinstance(body.get("prompt"), str):
            there = ", ".join(str(n)[:60] for n in list(body)[:12]) or "none"
            raise row_error(f"the batch request has no 'messages' or text 'prompt' in its body (fields: {there})", row, file_name)
        return Prompt(text=body["prompt"], unused=unused, bare=True)


def _conversation_prompt(value: Any, name: str, row: Row, fields: dict[str, Any], file_name: str, continue_last: bool = False) -> Prompt:
    messages = conversation(value, name, row, file_name)
    check_last(messages, name, row, file_name, continue_last=continue_last)
    own = continue_last and messages[-1]["role"] == "assistant"
    values = template_values_of(fields, row, file_name)
    system = system_of(fields, messages[0], name, row, file_name)
    return Prompt(messages=messages, tools=tools_of(fields, row, file_name), continue_last=own, template_values=values, system=system)


def _with_columns(prompt: Prompt, row: Row, file_name: str, name: str | None = None) -> Prompt:
    """A text with the row's columns 'system' and 'tools', as training has them; where these are something else, they are not meant.

    name: the field that the text comes from.
    """
    if prompt.messages is not None:
        return prompt
    system, tools = row.fields.get("system"), row.fields.get("tools")
    if name in TRANSLATED and system:
        prompt, system = replace(prompt, unused=("system",)), None
    listed = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    meant = listed or (isinstance(tools, str) and "".join(tools[:99].split()).startswith("[{"))
    return replace(
        prompt,
        system=system if isinstance(system, str) and type_name(system) == "text" and system.strip() else None,
        tools=tools_of(row.fields, row, file_name) if meant else None,
    )


@dataclass(frozen=True)
class DocumentFields:
    """Which text of a row is scored, and what it is scored after.

    paired: a target after its source (for an encoder-decoder). completion_only: a completion after its prompt, or each
    assistant turn after the conversation before it. Otherwise the whole text.
    """

    field: str | None = None
    paired: bool = False
    completion_only: bool = False

    def spans(self, row: Row, file_name: str) -> list[tuple[Prompt | None, str]]:
        """(what comes before, what is scored), in order. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        if self.paired or self.completion_only:
            return self._completions(row, file_name)
        if self.field is not None:
            return [(None, text_of(row, self.field, file_name, "`text_field`"))]
        if "text" in row.fields:
            return [(None, text_of(row, "text", file_name, "`text_field`"))]
        if any(name in row.fields for name in CONVERSATIONS):
            raise row_error("the row is a conversation; its assistant messages can be scored", row, file_name, hint="add `completion_only`")
        if "prompt" in row.fields and "completion" in row.fields:
            return [(None, text_of(row, "prompt", file_name) + text_of(row, "completion", file_name))]
        raise missing_field("text", row, file_name, "`text_field`")

    def _completions(self, row: Row, file_name: str) -> list[tuple[Prompt | None, str]]:
        name = first_name(row.fields, CONVERSATIONS)
        if name is not None and not self.paired:
            messages = conversation(row.fields[name], name, row, file_name)
            turns = [i for i, m in enumerate(messages) if m["role"] == "assistant" and i > 0 and m["content"]]
            if not turns:
                raise row_error(f"field '{name}' has no assistant message with text after another message", row, file_name)
            tools, values = tools_of(row.fields, row, file_name), template_values_of(row.fields, row, file_name)
            system = system_of(row.fields, messages[0], name, row, file_name)
            asked = Prompt(messages=messages, tools=tools, template_values=values, system=system)
            return [(replace(asked, messages=messages[:i]), messages[i]["content"]) for i in turns]
        before, after = pair(row, file_name)
        source = _source_name(row)
        asked = instruction(row, file_name) if source == "instruction" else Prompt(text=before)
        return [(_with_columns(asked, row, file_name, source), after)]


def instruction(row: Row, file_name: str) -> Prompt:
    """The prompt of a row with 'instruction' and perhaps 'input', after the turns of its 'history'. Raises RowError.

    Without a history, a model without a chat template reads it in the layout of Stanford Alpaca (Taori et al. 2023), on which such
    models are trained by most programs.
    """
    asked = text_of(row, "instruction", file_name)
    given = text_of(row, "input", file_name) if row.fields.get("input") else ""
    if turns := history(row, file_name):
        messages = (*turns, {"role": "user", "content": f"{asked}\n\n{given}" if given else asked})
        system = system_of(row.fields, messages[0], "history", row, file_name)
        return Prompt(messages=messages, tools=tools_of(row.fields, row, file_name), system=system)
    about, more = (", paired with an input that provides further context", f"### Input:\n{given}\n\n") if given else ("", "")
    plain = (
        f"Below is an instruction that describes a task{about}. Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{asked}\n\n{more}### Response:\n"
    )
    return Prompt(text=f"{asked}\n\n{given}" if given else asked, plain=plain)


def history(row: Row, file_name: str) -> tuple[Message, ...]:
    """The earlier turns of a row's 'history': a list of pairs of question and answer. Raises RowError."""
    turns: list[Message] = []
    listed = row.fields.get("history") or []
    if not isinstance(listed, list):
        raise row_error("field 'history' is not a list of pairs", row, file_name)
    for number, both in enumerate(listed, 1):
        if not isinstance(both, list) or len(both) != 2 or not all(isinstance(text, str) for text in both):
            raise row_error(f"entry {number} of field 'history' is not a pair of texts", row, file_name)
        turns += [{"role": "user", "content": both[0]}, {"role": "assistant", "content": both[1]}]
    return tuple(turns)


def pair(row: Row, file_name: str) -> tuple[str, str]:
    """Source and target of a row: by the names in use, or the two languages of a field 'translation'.

    Raises RowError with the line and the fields that are there.
    """
    both = row.fields.get("translation")
    if isinstance(both, dict) and len(both) == 2 and all(isinstance(v, str) for v in both.values()):
        first, second = both.values()
        return first, second
    before, after = first_name(row.fields, SOURCES), first_name(row.fields, TARGETS)
    if before is None or after is None:
        missing = "source' and 'target' (or 'prompt' and 'completion')" if before is None else "target"
        raise missing_field(missing, row, file_name, None)
    text = text_of(row, before, file_name)
    if before == "instruction" and row.fields.get("input"):
        text += "\n\n" + text_of(row, "input", file_name)
    return text, text_of(row, after, file_name)


def _source_name(row: Row) -> str | None:
    """The field of a row that holds what it asks, or asks to translate, by the names in use; None where there is none."""
    return "translation" if isinstance(row.fields.get("translation"), dict) else first_name(row.fields, (*SOURCES, "messages"))


def text_of(row: Row, name: str, file_name: str, option: str = "`prompt_field`") -> str:
    """The text of the field `name`. Raises RowError when it is not there or not text; option: what names another field."""
    fields = named_fields(row)
    if name not in fields:
        raise missing_field(name, row, file_name, option)
    value = fields[name]
    if not isinstance(value, str) or type_name(value) != "text":
        hint = f"name another field with {option}"
        raise row_error(f"field '{name}' is {type_name(value)}; text expected", row, file_name, hint=hint)
    return value


def missing_field(name: str, row: Row, file_name: str, option: str | None = "`prompt_field`") -> RowError:
    """The error of a row without the field `name`, with the fields that it has."""
    there = ", ".join(str(n)[:60] for n in list(row.fields)[:12]) or "none"
    hint = None if option is None else f"name the field with {option}" + (", or use `template`" if option == "`prompt_field`" else "")
    return row_error(f"no field '{name}' (fields: {there})", row, file_name, hint=hint)


@dataclass(frozen=True)
class SourceFields:
    """The prompt of a row that also holds what it should become: a named field, or the names that are known."""

    field: str | None = None

    def prompt(self, row: Row, file_name: str) -> Prompt:
        """Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        name = self.field or _source_name(row) or "source"
        return _with_columns(self._asked(name, row, file_name), row, file_name, name)

    def _asked(self, name: str, row: Row, file_name: str) -> Prompt:
        if name == "translation" and self.field is None:
            return Prompt(text=pair(row, file_name)[0])
        value = row.fields.get(name)
        if isinstance(value, list) or (name == "messages" and name in row.fields):
            return _conversation_prompt(value, name, row, row.fields, file_name)
        if name == "instruction" and self.field is None:
            return instruction(row, file_name)
        return Prompt(text=text_of(row, name, file_name, "`source_field`"))
