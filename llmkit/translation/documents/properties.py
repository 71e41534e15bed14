"""Java's resource bundles (.properties): values, translated in place; keys, comments and layout stay.

https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/Properties.html#load(java.io.Reader). A bundle in plain
ASCII is written in ASCII with \\u escapes, which every Java reads; one with other characters keeps its encoding: UTF-8, or
Latin-1 where it is not UTF-8, which is how Java tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents import messages
from llmkit.translation.documents.edits import EditedDocument, Lines, Unit, masked
from llmkit.translation.documents.messages import Value

#: A natural line with its continuations: an odd number of backslashes before the line end.
_LINE = re.compile(r"(?:[^\r\n\\]++|\\(?:\r\n|.|\Z))*+", re.DOTALL)
_KEY = re.compile(r"(?:[^\s=:\\]|\\(?:\r\n[ \t\f]*|[\r\n][ \t\f]*|.))*+", re.DOTALL)
_SEPARATOR = re.compile(r"(?:[ \t\f]|\\(?:\r\n|[\r\n]))*+(?:[=:](?:[ \t\f]|\\(?:\r\n|[\r\n])[ \t\f]*)*+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(?:\r\n|[\r\n])[ \t\f]*|(.))", re.DOTALL)
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError naming the line of a broken \\u escape."""
    try:
        source, encoding = data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        source, encoding = data.decode("latin-1"), "latin-1"
    if source.isascii():
        encoding = "ascii"
    lines = Lines(source)
    units = [_unit(source, begin, end, lines, name, encoding, target) for begin, end in _values(source)]
    texts = tuple(unit for unit in units if unit is not None)
    return EditedDocument(source, texts, messages.compare, "utf-8" if encoding == "utf-8" else "latin-1", _shape)


def _shape(data: bytes) -> str:
    """All but the values."""
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError:
        source = data.decode("latin-1")
    return masked(source, _values(source))


def _values(source: str) -> Iterator[tuple[int, int]]:
    """The places of the values."""
    at = 1 if source.startswith("\ufeff") else 0
    while at < len(source):
        begin = _behind(r"[ \t\f]*", source, at)
        if source[begin : begin + 1] in ("#", "!", "\r", "\n", ""):
            at = _behind(r"[^\r\n]*", source, begin) + 1
            continue
        match = _LINE.match(source, begin)
        end = match.end() if match else len(source)
        at = end + 1
        key = _KEY.match(source, begin, end)
        separator = _SEPARATOR.match(source, key.end() if key else begin, end)
        yield separator.end() if separator else end, end


def _behind(pattern: str, source: str, at: int) -> int:
    match = re.compile(pattern).match(source, at)
    return match.end() if match else at


def _unit(source: str, at: int, end: int, lines: Lines, name: str, encoding: str, target: str | None) -> Unit | None:
    """The message of a value [at, end)."""
    raw = source[at:end]
    if broken := re.search(r"(?<!\\)(?:\\\\)*\\u(?![0-9a-fA-F]{4})", raw):
        raise InputError("a \\u escape without four hexadecimal digits", path=name, line=lines.at(at + broken.start()))
    text = _ESCAPE.sub(_character, raw)
    if "\\u" in raw:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not messages.is_text(text):
        return None
    return messages.unit(Value(at, end, text, lines.at(at)), partial(_encoded, encoding=encoding, raw=raw), java=True, target=target)


def _character(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return "" if match[2] is None else _CHARACTERS.get(match[2], match[2])


def _encoded(text: str, *, encoding: str, raw: str) -> str:
    """On one line; colons and the like are escaped where the source's value has them so."""
    text = text.replace("\\", "\\\\")
    for character, code in _CHARACTERS.items():
        text = text.replace(code, f"\\{character}")
    for character in ":=#!":
        if f"\\{character}" in raw:
            text = text.replace(character, f"\\{character}")
    text = re.sub(r"\A(?= )", r"\\", text)
    return "".join(c if _has(c, encoding) else _units(c) for c in text)


def _has(character: str, encoding: str) -> bool:
    return character.isascii() or encoding == "utf-8" or (encoding == "latin-1" and ord(character) < 256)


def _units(character: str) -> str:
    code = character.encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"\\u{code[n : n + 4]}" for n in range(0, len(code), 4))
