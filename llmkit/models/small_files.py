"""Small files of a model folder, read with a limit on their size: JSON and text.

Knows files that a stranger wrote; not what they mean. What can't be read is a ModelError, what is not there FileNotFoundError.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from llmkit.errors import ModelError

#: Configurations of models are a few kilobytes; an index of weights names each tensor once.
MAX_CONFIG = 4_000_000
MAX_INDEX = 32_000_000
#: transformers writes 31 digits for "no limit". Python's own limit (4,300 digits) lets numbers through that no library can use.
_MAX_DIGITS = 40
_MAX_DEPTH = 100


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    A pipe or device at that name is refused without waiting for it. Raises ModelError, and FileNotFoundError where there is nothing.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ModelError(f"{path}: has {size:,} bytes; at most {limit:,} are allowed")
        try:
            return file.read(limit + 1)[:limit]
        except OSError as exc:
            raise ModelError(f"{path}: cannot be read: {_reason(exc)}") from exc


def open_regular(path: Path) -> IO[bytes]:
    """A regular file, open for reading. Raises as `read_bytes`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path}: cannot be read: {_reason(exc)}") from exc
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(f"{path}: is not a regular file", hint="copy or download the model again")
    return os.fdopen(handle, "rb")


def read_text(path: Path, limit: int = MAX_CONFIG) -> str:
    """Text in UTF-8. Raises as `read_bytes`."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ModelError(f"{path}: is not UTF-8 (byte {exc.start + 1:,})") from exc


def read_object(path: Path, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """A JSON object. Raises as `read_bytes`."""
    try:
        return parse_object(read_bytes(path, limit))
    except ValueError as exc:
        raise ModelError(f"{path}: {exc}", hint="copy or download the file again") from exc


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object whose names are unique and whose numbers are of a usable length. Raises ValueError."""
    try:
        content = json.loads(raw.decode("utf-8"), parse_int=_number, object_pairs_hook=_unique)
    except RecursionError as exc:
        raise ValueError("is nested too deep") from exc
    except ValueError as exc:
        raise ValueError(f"is not valid JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")
    if _deeper(content, _MAX_DEPTH):
        raise ValueError(f"is nested more than {_MAX_DEPTH} deep")
    return content


def _deeper(content: dict[str, Any], limit: int) -> bool:
    """Whether anything lies more than `limit` levels deep. Goes a level at a time, so that no recursion is needed."""
    level: list[Any] = [content]
    for _ in range(limit):
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"'{twice[:80]}' occurs twice")
    return content


def _reason(exc: OSError | ValueError) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
