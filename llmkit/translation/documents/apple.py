"""Apple's string tables (.strings): the values of keys, translated in place; keys, comments, escapes and encoding stay.

"key" = "value"; with comments as in C, in UTF-8 or UTF-16; Xcode compiles a table into a property list, which is refused.
https://developer.apple.com/library/archive/documentation/Cocoa/Conceptual/LoadingResources/Strings/Strings.html
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents import messages
from llmkit.translation.documents.base import decoded
from llmkit.translation.documents.edits import EditedDocument, Lines, Unit, masked
from llmkit.translation.documents.messages import Value

_SPACE = re.compile(r"(?:\s|/\*.*?\*/|//[^\r\n\u2028\u2029]*)*", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"|([\w.$:/-]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[Uu]([0-9a-fA-F]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError naming the line that is none of a table's."""
    source, encoding = _decoded(data, name)
    lines = Lines(source)
    ascii_only = source.isascii() and "\\U" in source
    units: list[Unit] = []
    for begin, end in _values(source, lines, name):
        text = _read(source[begin:end])
        if messages.is_text(text):
            unit = messages.unit(Value(begin, end, text, lines.at(begin)), partial(_encoded, ascii_only=ascii_only), target=target)
            units += [unit] if unit else []
    return EditedDocument(source, tuple(units), messages.compare, encoding, partial(_shape, name=name))


def _shape(data: bytes, name: str) -> str:
    """All but the values."""
    source, _ = _decoded(data, name)
    return masked(source, _values(source, Lines(source), name))


def _values(source: str, lines: Lines, name: str) -> Iterator[tuple[int, int]]:
    """The places of the values between quotation marks. Raises InputError naming the line that is none of a table's."""
    at = _skipped(source, 1 if source.startswith("\ufeff") else 0)
    braces = source.startswith("{", at)  # a property list in its old form
    at = _skipped(source, at + 1) if braces else at
    while at < len(source) and not (braces and source[at] == "}"):
        key = _expect(_STRING.match(source, at), "a key", at, lines, name)
        at = _skipped(source, key.end())
        value = key
        if source.startswith("=", at):
            value = _expect(_STRING.match(source, _skipped(source, at + 1)), "a value", at, lines, name)
            at = _skipped(source, value.end())
        if source.startswith(";", at):
            at = _skipped(source, at + 1)
        elif not braces or not source.startswith("}", at):
            raise InputError(
                f"a semicolon is missing after the value of {' '.join(key.group().split())[:60]}", path=name, line=lines.at(value.end())
            )
        if value is not key and value[1] is not None:
            yield value.span(1)


def _decoded(data: bytes, name: str) -> tuple[str, str]:
    """The text and its encoding. UTF-16 is known by its byte order mark or its zeros."""
    if data.startswith(b"bplist00"):
        hint = "convert it first: plutil -convert xml1, or translate the .strings file of the project"
        raise InputError("is a compiled property list", path=name, hint=hint)
    encoding = ""
    if data.startswith(codecs.BOM_UTF16_LE) or data[1:2] == b"\0":
        encoding = "utf-16-le"
    elif data.startswith(codecs.BOM_UTF16_BE) or data[:1] == b"\0":
        encoding = "utf-16-be"
    if not encoding:
        return decoded(data, name), "utf-8"
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as exc:
        raise InputError(f"byte {exc.start + 1} is not {encoding}", path=name) from exc


def _skipped(source: str, at: int) -> int:
    """Behind white space and comments."""
    match = _SPACE.match(source, at)
    return match.end() if match else at


def _expect(match: re.Match[str] | None, what: str, at: int, lines: Lines, name: str) -> re.Match[str]:
    if match is None:
        raise InputError(f"{what} is missing", path=name, line=lines.at(at), hint='for example: "Hello" = "Hello";')
    return match


def _read(raw: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[3] is None:
            return chr(int(match[1], 16)) if match[1] else chr(int(match[2], 8))
        return _CHARACTERS.get(match[3], match[3])

    text = _ESCAPE.sub(character, raw)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\" in raw else text


def _encoded(text: str, *, ascii_only: bool) -> str:
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(character, written)
    return "".join(c if c.isascii() else _hex(c) for c in text) if ascii_only else text


def _hex(character: str) -> str:
    code = character.encode("utf-16-be").hex()
    return "".join(f"\\U{code[n : n + 4]}" for n in range(0, len(code), 4))
