"""Message files in YAML (.yaml, .yml): scalars that are texts; keys, comments, anchors, order and layout stay.

PyYAML's parser tells the place of each scalar; nothing is built from them, so aliases cost nothing. Rails' file of one language,
whose only root key is its code, gets the code of the target: https://guides.rubyonrails.org/i18n.html.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llmkit.errors import InputError, one_line
from llmkit.translation.documents import messages
from llmkit.translation.documents.base import decoded, stripped_end
from llmkit.translation.documents.edits import Change, EditedDocument, Lines, Unit, changed
from llmkit.translation.documents.messages import Value
from llmkit.translation.documents.plurals import keys_lacking

_LOCALE = re.compile(r"[a-z]{2}(?:[-_](?:[A-Z]{2}|[A-Z][a-z]{3}))?")
#: Levels of nesting; the parser is recursive.
_DEEPEST = 200
#: In double quotes, as a character that YAML's readers take for a line end or refuse.
_SPECIAL = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Scalar:
    """A value's place, what it says, how it is written (PyYAML's style), the column of its parent's key, whether in [ ] or { }.

    key: of the value, or of the list that it is in. parent: the number of the mapping or list that it is in.
    """

    begin: int
    end: int
    text: str
    style: str | None
    flow: bool
    indent: int
    key: str = ""
    parent: int = 0


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError naming the line of what is no YAML."""
    source = decoded(data, name)
    root, scalars = read(source, name)
    if target is not None and root is not None:
        source = changed(source, [(*root, target)])
        _, scalars = read(source, name)
    lines = Lines(source)
    units: list[Unit] = []
    added = keys_lacking(((scalar.parent, scalar.key) for scalar in scalars), target)
    for scalar in scalars:
        if messages.is_text(scalar.text, scalar.key):
            value = Value(scalar.begin, scalar.end, scalar.text, lines.at(scalar.begin))
            unit = messages.unit(value, partial(encoded, scalar=scalar, raw=source[scalar.begin : scalar.end]), target=target)
            units += [_followed(unit, source, scalar, added.get((scalar.parent, scalar.key), ()))] if unit else []
    new = frozenset((parent, key) for (parent, _), keys in added.items() for key in keys)
    return EditedDocument(source, tuple(units), messages.compare, shape=partial(_shape, name=name, added=new))


def _shape(data: bytes, name: str, added: frozenset[tuple[Hashable, str]]) -> str:
    """All but the strings that are values, whatever their style, and without the plurals that the language needs beside."""
    source = decoded(data, name)
    _, scalars = read(source, name)
    changes: list[Change] = []
    for scalar in scalars:
        if (scalar.parent, scalar.key) in added:
            begin = stripped_end(source, source.rindex("," if scalar.flow else "\n", 0, scalar.begin), "\r")
            changes.append((begin, scalar.end if scalar.flow else _line_end(source, scalar.end), ""))
        else:
            changes.append((scalar.begin, scalar.end, "\0"))
    return changed(source, changes)


def _followed(unit: Unit, source: str, scalar: Scalar, keys: Sequence[str]) -> Unit:
    """A unit with other keys of the same text behind it."""

    def write(texts: Sequence[str]) -> Iterator[Change]:
        at = scalar.end if scalar.flow else _line_end(source, scalar.end)
        before = ", " if scalar.flow else ("\r\n" if source.startswith("\r\n", at) else "\n") + " " * scalar.indent
        for first, last, text in unit.write(texts):
            yield first, last, text
            yield at, at, "".join(f"{before}{key}: {text}" for key in keys)

    return replace(unit, write=write) if keys else unit


def _line_end(source: str, at: int) -> int:
    match = re.compile(r"[^\r\n]*").match(source, at)
    return match.end() if match else at


def read(source: str, name: str) -> tuple[tuple[int, int] | None, list[Scalar]]:
    """The place of the only root key, if it is the code of a language, and the values that are strings.

    Raises InputError for what is not YAML, or nested too deeply.
    """
    import yaml

    try:
        reader = _Reader(source)
        scalars = list(reader.scalars())
    except yaml.MarkedYAMLError as exc:
        mark = _any(exc.problem_mark or exc.context_mark)
        said = one_line(exc.problem or exc.context)
        column = f" (column {mark.column + 1})" if mark else ""
        raise InputError(f"is not YAML: {said}{column}", path=name, line=mark.line + 1 if mark else None) from exc
    except yaml.reader.ReaderError as exc:
        line = source.count("\n", 0, int(exc.position)) + 1
        raise InputError(f"is not YAML: the character {_any(exc.character):#x} is not allowed", path=name, line=line) from exc
    except (RecursionError, yaml.YAMLError) as exc:
        raise InputError("is not read: it is nested too deeply", path=name) from exc
    single = reader.roots[0] if len(reader.roots) == 1 and reader.documents == 1 else None
    return single if single and _LOCALE.fullmatch(source[slice(*single)]) and reader.nested else None, scalars


@functools.cache
def _loader() -> Any:
    """PyYAML's, which also reads Ruby's symbols in lists: [ :year, :month ]. YAML 1.2 and libyaml have them as text."""
    import yaml

    class Loader(yaml.SafeLoader):
        def check_value(self) -> bool:
            return bool(super().check_value()) and not self._begins_symbol()

        def check_plain(self) -> bool:
            return bool(super().check_plain()) or self._begins_symbol()

        def _begins_symbol(self) -> bool:
            if not self.flow_level or self.peek() != ":" or not self.peek(1).isalpha():
                return False
            before = str(self.buffer[max(self.pointer - 100, 0) : self.pointer])
            return before.rstrip().endswith(("[", ","))

    return Loader


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.roots: list[tuple[int, int]] = []
        self.nested = False
        self.documents = 0

    def scalars(self) -> Iterator[Scalar]:
        """The values, in order, that are strings by their form."""
        import yaml

        resolver = yaml.resolver.Resolver()
        # of open collections: whether a mapping, whether a key is next, flow, indentation, key, number
        stack: list[list[Any]] = []
        number = 0
        events: Iterator[Any] = yaml.parse(self.source, Loader=_loader())
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
            elif isinstance(event, yaml.CollectionStartEvent):
                if len(stack) >= _DEEPEST:
                    raise RecursionError
                self.nested = self.nested or (len(stack) == 1 and isinstance(event, yaml.MappingStartEvent))
                self._turn(stack)
                begun = [isinstance(event, yaml.MappingStartEvent), True, bool(event.flow_style), _any(event).start_mark.column]
                number += 1
                stack.append([*begun, stack[-1][4] if stack else "", number])
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
                key = bool(stack) and stack[-1][0] and stack[-1][1]
                self._turn(stack)
                if key:
                    stack[-1][3] = _any(event).start_mark.column  # the mapping's own mark is that of its anchor, where it has one
                    stack[-1][4] = event.value if isinstance(event, yaml.ScalarEvent) else ""
                if key and len(stack) == 1:
                    self.roots.append(_place(event))
                if key or isinstance(event, yaml.AliasEvent) or not stack:
                    continue
                scalar = self._scalar(event, resolver, stack)
                if scalar is not None:
                    yield scalar

    @staticmethod
    def _turn(stack: list[list[Any]]) -> None:
        if stack and stack[-1][0]:
            stack[-1][1] = not stack[-1][1]

    def _scalar(self, event: Any, resolver: Any, stack: list[list[Any]]) -> Scalar | None:
        """A string; a number, a date, true or null, or a value with a tag of a program, is none."""
        import yaml

        plain, quoted = event.implicit
        if plain and event.style is None:
            if resolver.resolve(yaml.ScalarNode, event.value, (True, False)) != "tag:yaml.org,2002:str":
                return None
        elif not quoted and event.tag not in ("tag:yaml.org,2002:str", "!"):
            return None
        begin, end = event.start_mark.index, event.end_mark.index
        # the mark is that of the anchor or tag, where the value has one
        begin += len(_before(self.source[begin:end], event.anchor, event.tag))
        if event.style in ("|", ">"):
            end = begin + len(self.source[begin:end].rstrip(" \t\r\n"))
        return Scalar(begin, end, event.value, event.style, any(level[2] for level in stack), *stack[-1][3:])


def _any(value: Any) -> Any:
    """What PyYAML's types allow to be none or another thing, though it never is."""
    return value


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.index, event.end_mark.index


def _before(raw: str, anchor: str | None, tag: str | None) -> str:
    match = re.match(r"(?:[&!][^\s]*\s+)*", raw) if anchor or tag else None
    return match.group() if match else ""


def encoded(text: str, *, scalar: Scalar, raw: str) -> str:
    """In the value's own style if a reader gets the same text, else in double quotes."""
    if scalar.style == '"':
        return _double(text, raw)
    if scalar.style in ("|", ">") and not scalar.flow:
        written = _block(text, scalar, raw)
        return written if written is not None else _double(text.rstrip("\n") + "\n" * scalar.text.endswith("\n"), raw)
    for written in (text,) if scalar.style is None else (f"'{text.replace(chr(39), chr(39) * 2)}'",):
        if "\n" not in text and _same(written, text, flow=scalar.flow):
            return written
    return _double(text, raw)


def _same(written: str, text: str, *, flow: bool) -> bool:
    import yaml

    try:
        return bool(yaml.safe_load(f"[{written}]" if flow else f"- {written}\n") == [text])
    except (yaml.YAMLError, ValueError):
        return False


def _double(text: str, raw: str) -> str:
    written = json.dumps(text, ensure_ascii=raw.isascii() and "\\u" in raw)
    return _SPECIAL.sub(lambda match: f"\\u{ord(match.group()):04x}", written)


def _block(text: str, scalar: Scalar, raw: str) -> str | None:
    """A block scalar with its header and indentation, without the line ends behind it; None where it can't say the text."""
    import yaml

    end = "\r\n" if "\r\n" in raw else "\n"
    header, *body = raw.replace("\r\n", "\n").split("\n")
    indents = [len(line) - len(line.lstrip(" ")) for line in body if line.strip()]
    indent = min(indents, default=scalar.indent + 2)
    lines = text.rstrip("\n").split("\n")
    if scalar.style == ">":
        lines = [part for line in lines for part in (line, "")][:-1]
    written = "\n".join([header, *(" " * indent + line if line else "" for line in lines)])
    trailing = "\n" * (len(scalar.text) - len(scalar.text.rstrip("\n")))
    chomped = text.rstrip("\n") + trailing
    outer = min(scalar.indent, indent - 1)
    try:
        read = yaml.safe_load(f"{' ' * outer}k: {written}\n{trailing[1:]}")
    except (yaml.YAMLError, ValueError):
        return None
    return written.replace("\n", end) if isinstance(read, dict) and read.get("k") == chomped else None
