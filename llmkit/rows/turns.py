"""What of a conversation, a pair or a preference is trained: the parts of its row's sample.

Knows messages; not formats of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmkit.rows.base import Row
from llmkit.rows.fields import Prompt, first_name, instruction, missing_field, text_of
from llmkit.rows.messages import (
    CONVERSATIONS,
    REASONING,
    Message,
    conversation,
    messages_of,
    row_error,
    system_of,
    template_values_of,
    tools_of,
)
from llmkit.rows.values import type_name

#: Columns of a preference: its answers, and what they answer.
ANSWERS = ("chosen", "rejected")
ASKED = ("prompt", "question", "instruction")
EMPTY_COMPLETION = "the completion is empty; an example needs one"
#: Keys of a message that say whether it is trained: OpenAI's and Mistral's, axolotl's two, ms-swift's two.
_SWITCHES = ("weight", "train", "training", "loss", "loss_scale")


@dataclass(frozen=True)
class _Conversation:
    """untrained: indices of the assistant's messages that are read and not trained. values: what else the chat template is shown."""

    messages: tuple[Message, ...]
    untrained: tuple[int, ...]
    tools: list[Any] | None
    template_values: dict[str, Any] | None


def training_conversation(value: Any, name: str, row: Row, file_name: str) -> _Conversation:
    """The messages in field `name`, with the row's columns 'system', 'tools' and 'chat_template_kwargs'.

    Raises RowError that names what is wrong.
    """
    read = conversation(value, name, row, file_name)
    system = system_of(row.fields, read[0], name, row, file_name)
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    untrained: list[int] = []
    for number, message in enumerate(read, 1):
        try:
            trained = _is_trained(message)
            _check_calls(message)
        except ValueError as exc:
            raise row_error(f"message {number} of field '{name}' {exc}", row, file_name) from exc
        if not trained:
            untrained.append(len(messages))
        messages.append({key: item for key, item in message.items() if key not in _SWITCHES})
    tools = tools_of(row.fields, row, file_name)
    values = template_values_of(row.fields, row, file_name)
    return _Conversation(tuple(messages), tuple(untrained), None if tools is None else list(tools), values)


def _is_trained(message: Message) -> bool:
    """False for a message that says so (see `_SWITCHES`), and for an empty one of the assistant. Raises ValueError for other weights."""
    switches = {name: message[name] for name in _SWITCHES if name in message}
    for name, value in switches.items():
        if value not in (0, 1):
            raise ValueError(f"has {name} {value!r}; only 0 and 1 are allowed")
    if "train_detail" in message:
        raise ValueError("has 'train_detail'; a message is trained whole or not at all")
    empty = not any(message.get(name) for name in ("content", "tool_calls", *REASONING))
    return all(switches.values()) and not (empty and message["role"] == "assistant")


def _check_calls(message: Message) -> None:
    """Raises ValueError for a tool call that can't be trained: without a function's name, or with arguments that are not JSON."""
    for call in message.get("tool_calls", ()):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("has a tool call without the name of a function")
        if isinstance(function["arguments"], str):
            raise ValueError(f"calls '{function['name'][:40]}' with arguments that are not a JSON object")


def check_roles(talk: _Conversation, first: int, row: Row, file_name: str) -> None:
    """Raises RowError: the assistant answers once, a system message comes first, and from `first` on one message is trained."""
    roles = [message["role"] for message in talk.messages]
    for number, role in enumerate(roles[1:], 2):
        if role == "system":
            raise row_error(f"message {number} has role 'system'; only the first may", row, file_name)
        if role == "assistant" == roles[number - 2]:
            raise row_error(f"messages {number - 1} and {number} both have role 'assistant'", row, file_name)
    if not any(role == "assistant" and i > 0 and i >= first and i not in talk.untrained for i, role in enumerate(roles)):
        there = "" if "assistant" in roles else f" (the roles are {', '.join(dict.fromkeys(role[:40] for role in roles))})"
        raise row_error(f"no assistant message to train on follows another message{there}", row, file_name)


def talk_parts(value: Any, name: str, first: int, row: Row, file_name: str) -> dict[str, Any]:
    """The parts of a conversation's sample, whose messages from `first` on are trained. Raises RowError."""
    talk = training_conversation(value, name, row, file_name)
    check_roles(talk, first, row, file_name)
    return {"messages": talk.messages, "first": first} | _beside(talk)


def _beside(talk: _Conversation) -> dict[str, Any]:
    """What of a sample goes with its messages."""
    return {"untrained": talk.untrained, "tools": talk.tools, "template_values": talk.template_values}


def pair_parts(question: str, answer: str, history: tuple[Message, ...], row: Row, file_name: str) -> dict[str, Any]:
    """A prompt and its completion; a conversation where the row has a system text, tools or earlier messages. Raises RowError."""
    value = [*history, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    talk = training_conversation(value, "prompt", row, file_name)
    if len(talk.messages) == 2 and talk.tools is None:
        return {"prompt": question, "completion": answer, "template_values": talk.template_values}
    if not answer.strip():
        raise row_error(EMPTY_COMPLETION, row, file_name)
    return {"messages": talk.messages} | _beside(talk)


def preference(row: Row, file_name: str, asked: Prompt | None = None) -> dict[str, Any]:
    """A prompt with a better and a worse answer: texts, messages that follow a prompt, or two whole conversations. Raises RowError.

    asked: the prompt, None for that of the fields in use.
    """
    fields = row.fields
    for name in ANSWERS:
        if name not in fields:
            raise missing_field(name, row, file_name, None)
    if fields["chosen"] == fields["rejected"]:
        raise row_error("fields 'chosen' and 'rejected' are the same", row, file_name)
    asked = _asked(row, file_name) if asked is None else asked
    both = [_answered(name, asked, row, file_name) for name in ANSWERS]
    if both[0].keys() != both[1].keys():
        raise row_error("fields 'chosen' and 'rejected' have different forms", row, file_name)
    if both[0].get("messages", ())[: both[0].get("first", 0)] != both[1].get("messages", ())[: both[1].get("first", 0)]:
        raise row_error("fields 'chosen' and 'rejected' answer different conversations", row, file_name)
    return both[0] | {"rejected": both[1]}


def _asked(row: Row, file_name: str) -> Prompt:
    """The prompt of a preference, by the names in use; neither text nor messages where the answers are whole conversations."""
    name = first_name(row.fields, (*ASKED, *CONVERSATIONS))
    if name is None:
        return Prompt()
    if name == "instruction":
        return instruction(row, file_name)
    asked = prompt_of(name, row, file_name)
    answered = name in CONVERSATIONS and asked.messages is not None and asked.messages[-1]["role"] == "assistant"
    return Prompt() if answered else asked


def prompt_of(name: str, row: Row, file_name: str) -> Prompt:
    """The prompt of a preference in field `name`: a text, or messages. Raises RowError."""
    value = row.fields.get(name)
    if isinstance(value, list) or (name in CONVERSATIONS and name in row.fields):
        return Prompt(messages=conversation(value, name, row, file_name))
    return Prompt(text=text_of(row, name, file_name))


def _answered(name: str, asked: Prompt, row: Row, file_name: str) -> dict[str, Any]:
    """The parts of the sample that has `name`'s answer; of a conversation only the last message is trained."""
    answer = row.fields[name]
    answer = [answer] if isinstance(answer, dict) else answer  # LLaMA-Factory's single message
    if not isinstance(answer, list):
        if not isinstance(answer, str) or type_name(answer) != "text":
            raise row_error(f"field '{name}' is {type_name(answer)}; an answer is a text, a message, or a list of messages", row, file_name)
        if asked == Prompt():
            known = ", ".join(f"'{known}'" for known in ASKED)
            hint = "name the field with `prompt_field` and `dpo`"
            raise row_error(f"no prompt in {known} (fields: {', '.join(map(str, row.fields))})"[:500], row, file_name, hint=hint)
        if not answer.strip():
            raise row_error(f"field '{name}' is empty; a preference needs both answers", row, file_name)
    if asked.text is not None and isinstance(answer, str):
        parts = pair_parts(asked.text, answer, (), row, file_name)
        return parts | ({"first": len(parts["messages"]) - 1} if "messages" in parts else {"plain": asked.plain})
    turns = answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}]
    # whole conversations often stand beside a column with their prompt
    if asked.messages is not None and messages_of(turns, name, row, file_name)[: len(asked.messages)] != asked.messages:
        turns = [*asked.messages, *turns]
    elif asked.text is not None and len(turns) == 1:
        turns = [{"role": "user", "content": asked.text}, *turns]
    last = len(training_conversation(turns, name, row, file_name).messages) - 1
    return talk_parts(turns, name, last, row, file_name)
