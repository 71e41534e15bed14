"""An answer as it arrives becomes objects: one of JSON, or the events of a stream. Knows JSON and server-sent events; not what they say."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import AsyncIterator
from typing import Any

from llmkit.engines.openai.failures import BrokenAnswerError
from llmkit.errors import counted

#: Bytes of an answer, and of an event of a streamed one; unpacked, where they came compressed.
_MOST_BYTES, _MOST_EVENT = 1 << 26, 1 << 22


async def whole(response: Any) -> dict[str, Any]:
    """The object that an answer is. Raises BrokenAnswerError."""
    parts, size = [], 0
    async for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise BrokenAnswerError(f"more than {_MOST_BYTES >> 20} MiB")
    return _parsed(b"".join(parts), response.headers.get("content-type"))


async def events(response: Any) -> AsyncIterator[dict[str, Any]]:
    """The objects of a stream of server-sent events, up to its [DONE], which not every server sends; the whole of an answer in one piece.

    Raises BrokenAnswerError for a stream that ends before the answer has.
    """
    if response.headers.get("content-type", "").lower().startswith("application/json"):
        yield await whole(response)
        return
    finished = False
    try:
        async for data in _data(response):
            if data.strip() == "[DONE]":
                return
            event = _parsed(data, "an event")
            finished = finished or _ends(event)
            yield event
    except BrokenAnswerError:
        raise
    except Exception:
        if not finished:  # a connection that breaks after the answer takes nothing from it
            raise
    if not finished:
        raise BrokenAnswerError("an incomplete stream")


def _ends(event: dict[str, Any]) -> bool:
    """Whether an event says why the answer ended; that of another choice says nothing about it."""
    choices = event.get("choices")
    return isinstance(choices, list) and any(isinstance(c, dict) and not c.get("index") and c.get("finish_reason") for c in choices)


async def _data(response: Any) -> AsyncIterator[str]:
    """The data of each event. An event whose first line is all of it is there with that line: not every server ends it with an empty one.

    Raises BrokenAnswerError for an event that says that it is an error, and for one that does not end.
    """
    name, lines, size = "", list[str](), 0
    async for line in _lines(response):
        kind, _, value = line.partition(":")
        if kind.lower() == "event":
            name = value.strip()
        elif kind.lower() == "data":
            lines.append(value.removeprefix(" "))
            size += len(value)
        if size > _MOST_EVENT:
            raise BrokenAnswerError(f"an event of more than {_MOST_EVENT >> 20} MiB")
        if lines and (not line or (len(lines) == 1 and _is_complete(lines[0]))):
            data, lines, size = "\n".join(lines), [], 0
            if name == "error":
                raise BrokenAnswerError(f"the error {_told(data)}")
            if data.strip():
                yield data
        if not line:
            name = ""


async def _lines(response: Any) -> AsyncIterator[str]:
    """The lines of an answer as they arrive, and an empty one at its end. A line ends with LF, CR or both.

    Raises BrokenAnswerError for one that does not end, and for what is no UTF-8.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    rest = ""
    try:
        async for part in response.iter_bytes():
            *lines, rest = (rest + decoder.decode(part)).split("\n")
            for line in lines:
                yield line
            if len(rest) > _MOST_EVENT:
                raise BrokenAnswerError(f"an event of more than {_MOST_EVENT >> 20} MiB")
        for line in (*(rest + decoder.decode(b"", final=True)).split("\n"), ""):
            yield line
    except UnicodeDecodeError:
        raise BrokenAnswerError("a stream that is not UTF-8") from None


def _is_complete(data: str) -> bool:
    """Whether one line is the whole data of an event."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return data.strip() == "[DONE]"
    return True


def _told(data: str) -> str:
    """What an event of an error says."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return _message(content)


def _message(error: object) -> str:
    """What an error says: in a field of its own, in an error in it, or as a whole."""
    while isinstance(error, dict) and not error.get("message") and error.get("error"):
        error = error["error"]
    return str((error.get("message") or error) if isinstance(error, dict) else error)


def _parsed(data: bytes | str, kind: str | None) -> dict[str, Any]:
    """The object that JSON is. Raises BrokenAnswerError."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenAnswerError(f"no JSON ({(kind or 'no content type').partition(';')[0]}, {counted(len(data), 'byte')})") from None
    if not isinstance(content, dict):
        raise BrokenAnswerError("JSON that is not an object")
    if isinstance(error := content.get("error"), dict | str) and error:  # a gateway that says it with status 200
        raise BrokenAnswerError(f"the error {_message(error)}")
    return content
