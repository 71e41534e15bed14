"""Answered rows as the lines of an OpenAI batch's output file, so that programs that read those read ours.

A line holds `custom_id` (the row's `custom_id`, its `id`, or its number from 1), the `response` with a completion object as its
`body`, and `error`. Nothing in it depends on when it was written. Knows rows; not engines.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmkit.errors import InputError
from llmkit.jobs.outcome import answer_in
from llmkit.rows.base import Row
from llmkit.rows.fields import row_id
from llmkit.rows.values import to_json

NAME = "openai-batch"


def batch_lines(rows: Iterable[Mapping[str, Any]], answer: str, model: str) -> Iterator[bytes]:
    """The bytes of the file. answer: the rows' field with the answer, or with the list of several."""
    for number, row in enumerate(rows, 1):
        failed = None
        response: dict[str, Any] | None = {"status_code": 200, "request_id": f"llmkit-{number}", "body": _body(row, answer, model, number)}
        if answer not in answer_in(row):
            response, failed = None, {"code": "row_failed", "message": str(row.get("error"))}
        line = {"id": f"batch_req_{number}", "custom_id": _custom_id(row, number), "response": response, "error": failed}
        yield (to_json(line) + "\n").encode("utf-8")


class DistinctIds:
    """Refuses a second row of the same `custom_id`, by which alone its answer could be found. Memory does not grow with the rows."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a temporary file, once it is large
        self._seen.execute("create table seen (id blob primary key, line integer) without rowid")
        self._seen.execute("begin")

    def __call__(self, row: Row) -> None:
        """Raises InputError naming both lines. A row that can't be read has no name of its own."""
        if row.error is not None:
            return
        custom_id, line = _custom_id(row.fields, row.index + 1), row.line or row.index + 1
        key = hashlib.sha256(custom_id.encode("utf-8", "surrogatepass")).digest()
        try:
            self._seen.execute("insert into seen values (?, ?)", (key, line))
        except sqlite3.IntegrityError:
            (before,) = self._seen.execute("select line from seen where id = ?", (key,)).fetchone()
            message = f"the custom_id '{custom_id[:80]}' is also that of line {before}"
            raise InputError(message, path=self._name, line=line, hint=f"{NAME} tells answers apart by it") from None


def _custom_id(row: Mapping[str, Any], number: int) -> str:
    name = row.get("custom_id")
    return str(row_id(row, number) if name is None else name)


def _body(row: Mapping[str, Any], answer: str, model: str, number: int) -> dict[str, Any]:
    """The completion object: of a chat, unless the row is a request for a plain completion."""
    asked = row.get("body")
    plain = isinstance(asked, Mapping) and "messages" not in asked
    said = answer_in(row)
    texts = _several(said.get(answer))
    reasons = said.get("finish_reason")
    choices = []
    for index, (text, reason) in enumerate(zip(texts, reasons if isinstance(reasons, list) else [reasons] * len(texts), strict=False)):
        written = {"text": text} if plain else {"message": {"role": "assistant", "content": text}}
        choices.append({"index": index, **written, "logprobs": None, "finish_reason": "length" if reason == "length" else "stop"})
    prompt_tokens, completion_tokens = (sum(_several(said.get(name) or 0)) for name in ("prompt_tokens", "completion_tokens"))
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}
    kind, start = ("text_completion", "cmpl") if plain else ("chat.completion", "chatcmpl")
    return {"id": f"{start}-{number}", "object": kind, "created": 0, "model": model, "choices": choices, "usage": usage}


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
