"""The conversations of training rows: roles, tool calls, parts of content, weights, and columns that belong to them.

Nothing that changes what is trained is dropped: it is used, or the row is an error that names it. Knows field names; not chat
templates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llmkit.errors import RowError
from llmkit.rows.base import Row

#: A message as a chat template takes it: 'role', 'content', and what else it has ('tool_calls', 'reasoning_content', 'name', ...).
Turn = dict[str, Any]

#: Speakers of rows with 'from' and 'value', and the role each is to a chat template.
_SPEAKERS = {
    **dict.fromkeys(("human", "user", "input"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model", "output"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response", "ipython"), "tool"),
    "system": "system",
    "function_call": "function_call",
}
#: Columns that a conversation uses beside its own.
COLUMNS = ("system", "tools")


@dataclass(frozen=True)
class Conversation:
    """untrained: indices of the assistant's turns that are read and not trained. tools: as the chat template takes them."""

    turns: tuple[Turn, ...]
    untrained: tuple[int, ...] = ()
    tools: list[Any] | None = None


def conversation(row: Row, value: Any, name: str, source: str) -> Conversation:
    """The messages in field `name` of a row, with its columns 'system' and 'tools'. Raises RowError that names what is wrong."""
    if not isinstance(value, list):
        raise RowError(f"field '{name}' is not a list of messages", path=source, line=row.line)
    if not value:
        raise RowError(f"field '{name}' holds no message", path=source, line=row.line)
    turns: list[Turn] = []
    untrained: list[int] = []
    system = row.fields.get("system")
    for number, item in enumerate(value, 1):
        try:
            turn, weight = _turn(item)
        except ValueError as exc:
            raise RowError(f"message {number} of field '{name}' {exc}", path=source, line=row.line) from exc
        if number == 1 and turn["role"] not in ("system", "developer") and isinstance(system, str) and system.strip():
            turns.append({"role": "system", "content": system})
        silent = turn["role"] == "assistant" and not any(turn.get(n) for n in ("content", "tool_calls", "reasoning_content", "thinking"))
        if weight == 0 or silent:  # an empty turn is read, and not trained
            untrained.append(len(turns))
        turns.append(turn)
    return Conversation(tuple(turns), tuple(untrained), _tools(row, source))


def check_roles(talk: Conversation, first: int, row: Row, source: str) -> None:
    """A turn of the assistant to train on, after something; a system message only at the beginning; nobody speaks twice in a row."""
    turns = talk.turns
    for number, turn in enumerate(turns, 1):
        if turn["role"] == "system" and number > 1:
            raise RowError(f"message {number} has role 'system'; only the first may", path=source, line=row.line)
        if turn["role"] == "assistant" and number > 1 and turns[number - 2]["role"] == "assistant":
            raise RowError(f"messages {number - 1} and {number} both have role 'assistant'", path=source, line=row.line)
    trained = (i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i > 0 and i >= first and i not in talk.untrained)
    if next(trained, None) is None:
        raise RowError("no turn of the assistant to train on after another turn", path=source, line=row.line)


def _turn(item: Any) -> tuple[Turn, float]:
    """A message and its weight. Raises ValueError that says what is wrong with it."""
    if not isinstance(item, dict):
        raise ValueError("is not an object")
    if "role" not in item and "from" in item:
        return _spoken(item)
    role = item.get("role")
    if not isinstance(role, str) or not role:
        raise ValueError("has no text 'role'")
    turn = {name: value for name, value in item.items() if name != "weight" and value is not None}
    calls = turn.get("tool_calls")
    if calls is not None:
        turn["tool_calls"] = _calls(calls)
    if item.get("function_call") is not None:  # the older form of a single call
        del turn["function_call"]
        turn["tool_calls"] = _calls([{"type": "function", "function": item["function_call"]}])
    if role == "function":
        turn["role"] = "tool"
    content = item.get("content", item.get("value"))
    if content is None and not turn.get("tool_calls") and not turn.get("reasoning_content"):
        raise ValueError("has no text 'content'")
    turn["content"] = _text(content)
    weight = item.get("weight", 1)
    if isinstance(weight, bool) or weight not in (None, 0, 1):
        raise ValueError(f"has weight {weight!r}; 0 and 1 are known")
    if item.get("train") is False:  # axolotl's name for weight 0
        weight = 0
    return turn, 1 if weight is None else weight


def _spoken(item: dict[str, Any]) -> tuple[Turn, float]:
    """A message with 'from' and 'value'."""
    role = _SPEAKERS.get(str(item["from"]))
    if role is None:
        raise ValueError(f"is from '{str(item['from'])[:40]}'; known are {', '.join(_SPEAKERS)}")
    rest = {name: value for name, value in item.items() if name not in ("from", "value")}
    if role != "function_call":
        return _turn({**rest, "role": role, "content": item.get("value")})
    try:
        call = json.loads(item.get("value") or "")
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError("is a function_call whose value is not JSON") from exc
    calls = call if isinstance(call, list) else [call]
    return _turn({**rest, "role": "assistant", "tool_calls": [{"type": "function", "function": c} for c in calls]})


def _calls(value: Any) -> list[Any]:
    """Tool calls with their arguments as objects, which is how chat templates write them."""
    if not isinstance(value, list):
        raise ValueError("has 'tool_calls' that are not a list")
    out = []
    for call in value:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("has a tool call without the name of a function")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError) as exc:
                raise ValueError(f"calls '{function['name'][:40]}' with arguments that are not JSON") from exc
        kept = call if "function" in call else {"type": "function"}
        out.append({**kept, "function": {**function, "arguments": arguments}})
    return out


def _text(content: Any) -> str:
    """Text, or a list of parts that are text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("has no text 'content'")
    for number, part in enumerate(content, 1):
        kind = part.get("type", "text") if isinstance(part, dict) else "text" if isinstance(part, str) else type(part).__name__
        if kind != "text" or (isinstance(part, dict) and not isinstance(part.get("text"), str)):
            raise ValueError(f"has a part {number} of type '{str(kind)[:40]}'; only text is trained")
    return "".join(part if isinstance(part, str) else part["text"] for part in content)


def _tools(row: Row, source: str) -> list[Any] | None:
    value = row.fields.get("tools")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as exc:
            raise RowError("field 'tools' is not JSON", path=source, line=row.line) from exc
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("field 'tools' is not a list of objects", path=source, line=row.line)
    return value
