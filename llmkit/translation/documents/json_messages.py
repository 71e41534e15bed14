"""Message files in JSON (.json that is an object, .arb): string values that are texts; keys, order, numbers and layout stay.

i18next, FormatJS, Vue, Chrome extensions, Flutter's ARB (https://github.com/google/app-resource-bundle/wiki). A list of objects
is a file of rows and is read by `llmkit.rows`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents import messages
from llmkit.translation.documents.base import decoded, stripped_end
from llmkit.translation.documents.edits import Change, EditedDocument, Lines, Unit, changed
from llmkit.translation.documents.messages import Value
from llmkit.translation.documents.plurals import keys_lacking

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]+')
#: Keys whose values describe a message or a file, and are not shown.
_ABOUT = frozenset(("$schema", "_comment", "__comment", "//", "comment", "@metadata", "developer_comment", "context_comment"))
#: Objects that are one message: the key of its text, and keys of which one stands beside it.
_DESCRIBED = {
    "message": ("description", "placeholders"),
    "defaultMessage": ("id", "description"),
    "string": ("developer_comment", "context", "character_limit"),
}
Path = tuple[str, ...]


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """target: what `@@locale` becomes, and the language of the plurals. Raises InputError for what is no JSON, or no object."""
    source = decoded(data, name)
    content = load(source, name)
    if not isinstance(content, dict):
        raise InputError("is not an object of messages", path=name, hint="a list of objects is read as rows: `input_format` json")
    arb = name.lower().endswith(".arb") or "@@locale" in content
    if target is not None and arb:
        source = _located(source, target)
    escaped = source.isascii() and "\\u" in source
    lines = Lines(source)
    units: list[Unit] = []
    added = keys_lacking(((path[:-1], path[-1]) for path, _, _ in strings(source)), None if arb else target)
    for path, begin, end in _texts(source, content):
        if arb and any(key.startswith("@") for key in path):
            continue
        raw = source[begin:end]
        text = json.loads(raw, strict=False)
        if messages.is_text(text, path[-1]):
            encode = partial(encoded, ascii_only=escaped, slashes="\\/" in raw)
            unit = messages.unit(Value(begin, end, text, lines.at(begin)), encode, target=target)
            units += [_followed(unit, source, begin, added.get((path[:-1], path[-1]), ()))] if unit else []
    new = frozenset((parent, key) for (parent, _), keys in added.items() for key in keys)
    return EditedDocument(source, tuple(units), messages.compare, shape=partial(_shape, name=name, added=new))


def _shape(data: bytes, name: str, added: frozenset[tuple[Hashable, str]]) -> str:
    """All but the strings that are values, and without the plurals that the language needs beside."""
    source = decoded(data, name)
    load(source, name)
    return changed(
        source,
        [
            (_member(source, begin)[0], end, "") if (path[:-1], path[-1]) in added else (begin, end, "\0")
            for path, begin, end in strings(source)
        ],
    )


def _followed(unit: Unit, source: str, begin: int, keys: Sequence[str]) -> Unit:
    """A unit whose value begins at `begin`, with other keys of the same text behind it."""

    def write(texts: Sequence[str]) -> Iterator[Change]:
        _, before, colon = _member(source, begin)
        for first, last, text in unit.write(texts):
            yield first, last, text
            yield last, last, "".join(f",{before}{encoded(key)}{colon}{text}" for key in keys)

    return replace(unit, write=write) if keys else unit


def _member(source: str, begin: int) -> tuple[int, str, str]:
    """Of the member of an object whose value begins at `begin`: where the comma before it stands, and what is around its key."""
    colon = source.rindex(":", 0, begin)
    end = source.rindex('"', 0, colon)
    first = end - 1
    while source[first] != '"' or (first - stripped_end(source, first, "\\")) % 2:
        first -= 1
    before = stripped_end(source, first, " \t\r\n")
    return before - 1, source[before:first], source[end + 1 : begin]


def load(source: str, name: str) -> object:
    """What a JSON text holds. Raises InputError."""
    try:
        return json.loads(source.removeprefix("\ufeff"), strict=False)
    except json.JSONDecodeError as exc:
        raise InputError(f"is not JSON: {exc.msg} (column {exc.colno})", path=name, line=exc.lineno) from exc
    except RecursionError as exc:
        raise InputError("is not read: it is nested too deeply", path=name) from exc
    except ValueError as exc:  # a number of too many digits
        raise InputError(f"is not JSON that can be read: {exc}", path=name) from exc


def encoded(text: str, *, ascii_only: bool = False, slashes: bool = False) -> str:
    """A JSON string, with the kinds of escapes that the file has."""
    written = json.dumps(text, ensure_ascii=ascii_only)
    return written.replace("/", "\\/") if slashes else written


def strings(source: str) -> Iterator[tuple[Path, int, int]]:
    """Each string that is a value of valid JSON: the keys that lead to it (a list's element has none), begin and end."""
    return ((path, begin, end) for path, begin, end in values(source) if source[begin] == '"')


def values(source: str) -> Iterator[tuple[Path, int, int]]:
    """The strings, objects and lists of valid JSON, each when it ends."""
    path: list[str] = []
    opened: list[int] = []
    key: tuple[int, int] | None = None
    awaiting = False  # the next string is a key
    for match in _TOKEN.finditer(source):
        first = source[match.start()]
        if first in "{[":
            if opened:
                path.append(_key(source, key))
            opened.append(match.start())
            key, awaiting = None, first == "{"
        elif first in "}]":
            yield tuple(path), opened.pop(), match.end()
            if opened:
                path.pop()
            key = None
        elif first == ",":
            key, awaiting = None, source[opened[-1]] == "{"
        elif first == '"' and awaiting:
            key, awaiting = match.span(), False
        elif first == '"':
            yield (*path, _key(source, key)), match.start(), match.end()


def _key(source: str, place: tuple[int, int] | None) -> str:
    return "" if place is None else str(json.loads(source[slice(*place)], strict=False))


def _texts(source: str, content: object) -> Iterator[tuple[Path, int, int]]:
    """The strings that are not about a message."""
    described = _described(content)
    for path, begin, end in strings(source):
        if not _ABOUT.isdisjoint(path):
            continue
        only = next((described[path[:n]] for n in range(len(path)) if path[:n] in described), None)
        if only is None or path[-1] == only:
            yield path, begin, end


def _described(content: object) -> dict[Path, str]:
    """Objects that are one message with its description, by their keys: the key of the text."""
    out: dict[Path, str] = {}
    stack: list[tuple[Path, object]] = [((), content)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            for key, beside in _DESCRIBED.items():
                if path and isinstance(node.get(key), str) and any(other in node for other in beside):
                    out[path] = key
            stack += [((*path, key), value) for key, value in node.items() if isinstance(value, (dict, list))]
        elif isinstance(node, list):
            stack += [((*path, ""), value) for value in node if isinstance(value, (dict, list))]
    return out


def _located(source: str, target: str) -> str:
    """The source with the language that an ARB file names."""
    changes: list[Change] = [
        (begin, end, encoded(target.replace("-", "_"))) for path, begin, end in strings(source) if path == ("@@locale",)
    ]
    return changed(source, changes)
