"""Conversations in a row: messages of OpenAI's form or ShareGPT's, tools, and batch requests.

Prompts and training rows are read here alike, so a model is trained on the messages it is asked with. A message keeps all of
its keys, since chat templates read more than role and content: `name`, `tool_calls`, `tool_call_id`, `reasoning_content`.
Knows forms of rows; not templates or models.
"""

from __future__ import annotations

import json
from typing import Any

from llmkit.errors import RowError
from llmkit.rows.base import Row
from llmkit.rows.values import from_json, type_name

#: `role` and `content` are texts ('' for a message that only calls tools); keys with null are left out, others are as in the row.
Message = dict[str, Any]

_SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user", "input"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model", "output", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response", "tool_response", "ipython"), "tool"),
    "system": "system",
}
#: Those whose value is a call of a tool: LLaMA-Factory's name and ms-swift's.
_SHAREGPT_CALLS = ("function_call", "tool_call")
#: Names under which a message may carry the model's reasoning; the first is the one that most templates read.
REASONING = ("reasoning_content", "thinking", "reasoning")
#: The field of a row with values that its chat template is shown (TRL's and vLLM's name).
TEMPLATE_VALUES = "chat_template_kwargs"
#: Names that a template is shown by llmkit itself, or that say how it is applied.
NOT_VALUES = (
    "messages", "tools", "add_generation_prompt", "continue_last", "continue_final_message", "chat_template", "tokenize", "return_dict",
    "return_tensors",
)  # fmt: skip
#: Fields of a row that hold a conversation, also as JSON text in a cell.
CONVERSATIONS = ("messages", "conversations")


def row_error(message: str, row: Row, file_name: str, *, hint: str | None = None) -> RowError:
    """An error of `row` that names its line, or its number where the file has no lines."""
    place = file_name if row.line is not None else f"{file_name}, row {row.index + 1}"
    return RowError(message, path=place, line=row.line, hint=hint)


def conversation(value: Any, name: str, row: Row, file_name: str) -> tuple[Message, ...]:
    """The messages of a field that holds a list, or a list as JSON text (a cell of a table). Raises RowError."""
    if isinstance(value, str):
        value = _parsed(value, name, row, file_name)
    if not isinstance(value, list):
        raise row_error(f"field '{name}' is {type_name(value)}; a list of messages is needed", row, file_name)
    return messages_of(value, name, row, file_name)


def messages_of(value: list[Any], name: str, row: Row, file_name: str) -> tuple[Message, ...]:
    """The messages of a list, each with all its keys. Raises RowError naming the invalid message."""
    if not value:
        raise row_error(f"field '{name}' holds no message", row, file_name)
    return tuple(_message(item, f"message {number} of field '{name}'", row, file_name) for number, item in enumerate(value, 1))


def check_last(messages: tuple[Message, ...], name: str, row: Row, file_name: str, *, continue_last: bool = False) -> None:
    """Raises RowError where the last message is the model's own, unless it is to be continued and has a content."""
    last = messages[-1]
    if last["role"] == "assistant" and not continue_last:
        raise row_error(
            f"the last message of field '{name}' has role 'assistant'; a model answers other roles",
            row,
            file_name,
            hint="`continue` continues that message; or remove it from the row",
        )
    if continue_last and last["role"] == "assistant" and not last["content"]:
        raise row_error(f"the last message of field '{name}' has no content to continue", row, file_name)


def system_of(fields: dict[str, Any], first: Message, name: str, row: Row, file_name: str) -> str | None:
    """The text of the column 'system' that goes before a conversation; None where there is none, or it begins with that text.

    first: the first message of field `name`. Raises RowError for a column that is not text, or that the conversation contradicts.
    """
    system = fields.get("system")
    if system is None or system == "":
        return None
    if not isinstance(system, str):
        raise row_error(f"field 'system' is {type_name(system)}; text expected", row, file_name)
    if first["role"] not in ("system", "developer"):
        return system if system.strip() else None
    if system.strip() not in ("", first["content"].strip()):
        raise row_error(f"field 'system' and message 1 of field '{name}' are two different system messages", row, file_name)
    return None


def tools_of(fields: dict[str, Any], row: Row, file_name: str) -> tuple[dict[str, Any], ...] | None:
    """The descriptions of tools in `tools`, a list or JSON text; None where there are none. Raises RowError."""
    value = fields.get("tools")
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = _parsed(value, "tools", row, file_name)
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise row_error("field 'tools' is not a list of objects", row, file_name)
    return tuple(value) or None


def template_values_of(fields: dict[str, Any], row: Row, file_name: str) -> dict[str, Any] | None:
    """The row's own values for the chat template in `chat_template_kwargs`, an object or JSON text; None without. Raises RowError."""
    value = fields.get(TEMPLATE_VALUES)
    if value is None or value == "":
        return None
    value = _object(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise row_error(f"field '{TEMPLATE_VALUES}' is not an object", row, file_name)
    if (name := next((name for name in value if name in NOT_VALUES), None)) is not None:
        raise row_error(f"field '{TEMPLATE_VALUES}': '{name}' is set by llmkit itself", row, file_name)
    return value


def batch_request(row: Row) -> dict[str, Any] | None:
    """The `body` of a row in the form of OpenAI's batch files ({"custom_id": ..., "body": {...}}), None for other rows."""
    body = row.fields.get("body")
    return body if isinstance(body, dict) and "custom_id" in row.fields else None


def _message(item: Any, what: str, row: Row, file_name: str) -> Message:
    if not isinstance(item, dict):
        raise row_error(f"{what} is {type_name(item)}; an object with 'role' and 'content' is needed", row, file_name)
    message = {key: value for key, value in item.items() if key not in ("from", "value") and value is not None}
    speaker = item.get("role", item.get("from"))
    if not isinstance(speaker, str) or not speaker:
        raise row_error(f"{what} has no text 'role'", row, file_name)
    role = ("tool" if speaker == "function" else speaker) if "role" in item else _SHAREGPT_ROLES.get(speaker.lower())
    if role is None:
        known = ", ".join(_SHAREGPT_ROLES)
        raise row_error(f"{what} has the unknown role '{speaker[:40]}'", row, file_name, hint=f"one of {known}")
    key = "content" if "role" in item or "content" in item else "value"
    content = item.get(key, item.get("value"))
    if "role" not in item and speaker.lower() in _SHAREGPT_CALLS:
        message["tool_calls"], content = _sharegpt_calls(content, what, row, file_name), None
    elif "tool_calls" in message:
        message["tool_calls"] = _tool_calls(message["tool_calls"], what, row, file_name)
    elif "function_call" in message:  # OpenAI's older form of a single call
        message["tool_calls"] = _tool_calls([{"type": "function", "function": message["function_call"]}], what, row, file_name)
    message.pop("function_call", None)
    if isinstance(content, list):
        content = _joined(content, what, row, file_name)
    if content is None and not any(message.get(name) for name in ("tool_calls", *REASONING)):
        raise row_error(f"{what} has no text '{key}'", row, file_name)
    if content is not None and not isinstance(content, str):
        raise row_error(f"{what}: its '{key}' is {type_name(content)}; text is needed", row, file_name)
    return {"role": role, "content": content or "", **{k: v for k, v in message.items() if k not in ("role", "content")}}


def _joined(parts: list[Any], what: str, row: Row, file_name: str) -> str:
    """The text parts of a message, one after another. Raises RowError for an image or the like."""
    texts = []
    for number, part in enumerate(parts, 1):
        is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
        if isinstance(part, str):
            texts.append(part)
        elif is_text and part.get("type", "text") in ("text", "input_text", "output_text"):
            texts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, dict) else type_name(part)
            raise row_error(f"{what} has a content part {number} of type '{str(kind)[:40]}'; only text can be read", row, file_name)
    return "".join(texts)


def _tool_calls(calls: Any, what: str, row: Row, file_name: str) -> list[Any]:
    """Tool calls whose arguments are objects: templates expect these, OpenAI writes them as JSON text."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise row_error(f"{what}: its 'tool_calls' is not a list of objects", row, file_name)
    out = []
    for call in calls:
        if "function" not in call and isinstance(call.get("name"), str):
            call = {"type": "function", "function": call}
        function = call.get("function")
        if isinstance(function, dict):
            arguments = function.get("arguments")
            if "arguments" not in function and isinstance(function.get("parameters"), dict | str):  # Llama 3's name for them
                arguments = function["parameters"]
                function = {name: value for name, value in function.items() if name != "parameters"}
            if arguments is None or arguments == "":  # a function without arguments, as some servers write it
                arguments = {}
            parsed = _object(arguments) if isinstance(arguments, str) else None
            call = call | {"function": function | {"arguments": arguments if parsed is None else parsed}}
        out.append(call)
    return out


def _sharegpt_calls(value: Any, what: str, row: Row, file_name: str) -> list[Any]:
    """ShareGPT's `function_call`: {"name": ..., "arguments": ...} as JSON text, or a list of them."""
    try:
        calls = from_json(value) if isinstance(value, str) else value
    except ValueError:
        calls = None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise row_error(f'{what} is a call that is not {{"name": ..., "arguments": ...}}', row, file_name)
    return _tool_calls([{"type": "function", "function": call} for call in calls], what, row, file_name)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _parsed(text: str, name: str, row: Row, file_name: str) -> Any:
    try:
        return from_json(text)
    except ValueError as exc:
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
        raise row_error(f"field '{name}' is text that is not a JSON list: {reason}", row, file_name) from exc
