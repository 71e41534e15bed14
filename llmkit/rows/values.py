"""The values a row may hold, and how they pass through: what JSON has, written back as it stood.

Rules:
- A number keeps its digits: `0.1000`, `1E5`, `-0` and `1e999` are written back as they were read.
- JSON has no NaN and no Infinity (RFC 8259, section 6), though many programs write them: NaN is read and written as null,
  an infinite number as 1e999, which is JSON and is read as infinite by Python and JavaScript.
- A field that occurs twice in an object is an error.
- Objects and lists are nested at most `MAX_DEPTH` deep, so that no later step depends on the interpreter's stack.
- From typed columns: dates and times become ISO 8601 texts, decimals keep their digits, binary becomes base64 that no
  field of text accepts. Whatever else JSON does not have is refused by its type's name.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import re
import uuid
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

#: Levels of objects and lists in a row; serde_json's limit is 128, Ruby's 100.
MAX_DEPTH = 200
#: Longer whole numbers stay as text: Python refuses to convert more than 4,300 digits (CVE-2020-10735).
_DIGITS = 4000

_CONSTANTS = {"NaN": None, "Infinity": "1e999", "-Infinity": "-1e999"}
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Number(float):
    """A number that Python would write in another way than it was written; `literal` is how."""

    __slots__ = ("literal",)
    literal: str

    def __new__(cls, literal: str) -> Number:
        """literal: a number as JSON writes it."""
        number = super().__new__(cls, literal)
        number.literal = literal
        return number

    def __repr__(self) -> str:
        return self.literal

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.literal,)


class Binary(str):
    """Bytes as base64. A str, so that it is written like one; not text that a model may be shown."""

    __slots__ = ()


def from_json(text: str, *, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text. Raises ValueError that says what is wrong; takes linear time and no deep stack."""
    if text.count("[") + text.count("{") > max_depth:
        _check_depth(text, max_depth)
    return json.loads(text, object_pairs_hook=_no_duplicates, parse_float=_real, parse_int=_whole_number, parse_constant=_constant)


def to_json(value: Any, *, separators: tuple[str, str] = (", ", ": "), default: Callable[[Any], Any] | None = None) -> str:
    """One line of JSON, characters as they are; half a surrogate pair is escaped, so the line can always be encoded.

    Numbers are written as they were read, other floats in the shortest form. (`json.dumps` writes `float.__repr__` for any
    subclass of float, so it can't do it.) separators and default: as in `json.dumps`. Raises TypeError for a value that JSON
    does not have.
    """
    parts: list[str] = []
    _write(value, parts, separators, default)
    return "".join(parts)


def _write(value: Any, parts: list[str], separators: tuple[str, str], default: Callable[[Any], Any] | None) -> None:
    if isinstance(value, dict):
        between = "{"
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"a field's name is {type_name(name)}, not text")
            parts += (between, _scalar(name, default), separators[1])
            _write(item, parts, separators, default)
            between = separators[0]
        parts.append("}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        between = "["
        for item in value:
            parts.append(between)
            _write(item, parts, separators, default)
            between = separators[0]
        parts.append("]" if value else "[]")
    else:
        parts.append(_scalar(value, default))


def _scalar(value: Any, default: Callable[[Any], Any] | None) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value) if _SURROGATE.search(value) else encode_basestring(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, Number):
        return value.literal
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    if default is None:
        raise TypeError(f"JSON has no value of type {type(value).__name__}")
    return to_json(default(value))


def plain_value(value: Any, depth: int = 0) -> Any:
    """A value of a typed column as one that JSON has. Raises ValueError naming the type that has no form there."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if depth > MAX_DEPTH:
        raise ValueError(f"nested too deep (more than {MAX_DEPTH} levels)")
    if isinstance(value, dict):
        if (odd := next((name for name in value if not isinstance(name, str)), None)) is not None:
            raise ValueError(f"a field's name is {type_name(odd)}, not text")
        return {name: plain_value(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Binary(base64.b64encode(value).decode("ascii"))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return Number(f"{decimal.Decimal(value // datetime.timedelta(microseconds=1)) / 1_000_000:f}")
    if isinstance(value, decimal.Decimal):
        return Number(f"{value:f}") if value.is_finite() else None
    if isinstance(value, uuid.UUID):
        return str(value)
    raise ValueError(f"holds a value of type {type(value).__name__}, which JSON does not have")


def type_name(value: Any) -> str:
    """What a value is, in words: 'a list', 'a number'."""
    if isinstance(value, Binary):
        return "binary"
    names = ((str, "text"), (bool, "true or false"), (dict, "an object"), ((list, tuple), "a list"), ((int, float), "a number"))
    return "null" if value is None else next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nested too deep (more than {max_depth} levels)")
        elif bracket in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"field '{twice[:80]}' occurs twice")
    return content


def _constant(name: str) -> Number | None:
    literal = _CONSTANTS[name]
    return None if literal is None else Number(literal)


def _real(literal: str) -> float:
    value = float(literal)
    return value if float.__repr__(value) == literal else Number(literal)


def _whole_number(literal: str) -> int | float:
    return Number(literal) if literal == "-0" or len(literal) > _DIGITS else int(literal)
