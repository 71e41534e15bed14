"""Xcode's string catalogs (.xcstrings): each string gets a localization for the target, its state `needs_review`.

JSON, written as Xcode writes it: https://developer.apple.com/documentation/xcode/localizing-and-varying-text-with-a-string-catalog.
The text is the source language's value, with its variations by plural and device, or the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from llmkit.errors import InputError
from llmkit.translation.documents import json_messages, messages
from llmkit.translation.documents.base import Segment, decoded, has_letters, joined, with_marks
from llmkit.translation.documents.edits import Change, EditedDocument, Lines, Unit
from llmkit.translation.documents.plurals import ORDER, lacking

Place = tuple[int, int]
#: Characters that show a file's line ends and layout.
_FIRST = 1000


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """target: the tag of the localization that is made. Raises InputError for a file that is no catalog."""
    source = decoded(data, name)
    content = json_messages.load(source, name)
    if not isinstance(content, dict) or not isinstance(content.get("strings"), dict) or "sourceLanguage" not in content:
        raise InputError("is not a string catalog: it has no `strings` and `sourceLanguage`", path=name)
    places = {path: (begin, end) for path, begin, end in json_messages.values(source) if 1 < len(path) < 5}
    lines = Lines(source)
    units: list[Unit] = []
    for key, entry in content["strings"].items():
        if isinstance(entry, dict) and entry.get("shouldTranslate") is not False:
            units += _unit(source, key, entry, str(content["sourceLanguage"]), target or "und", places, lines)
    return EditedDocument(source, tuple(units), messages.compare, shape=lambda new: _shape(decoded(new, name), name, target or "und"))


def _shape(source: str, name: str, target: str) -> object:
    """All but the localizations of the target, and its texts."""
    content: Any = json_messages.load(source, name)
    for entry in content["strings"].values():
        known = entry.get("localizations")
        if isinstance(known, dict) and any(unit.get("state") in ("new", "needs_review") for unit in _string_units(known.get(target))):
            del known[target]
        if known == {}:
            del entry["localizations"]
    return content


def _unit(
    source: str, key: str, entry: dict[str, Any], language: str, target: str, places: dict[tuple[str, ...], Place], lines: Lines
) -> Iterator[Unit]:
    made = _made(key, entry, language, target)
    worded = [unit for unit in _string_units(made) if messages.is_text(unit["value"])]
    segments = []
    for unit in worded:
        text, marks = joined(with_marks(unit["value"], messages.MARKS))
        segments.append(Segment(text, text, lines.at(places["strings", key][0]), marks))
    if not segments or not all(has_letters(segment.prose()) for segment in segments):
        return

    def write(texts: Sequence[str]) -> Iterator[Change]:
        for unit, text in zip(worded, texts, strict=True):
            unit["value"] = text
        yield _change(source, key, target, made, places, list(entry.get("localizations") or ()))

    yield Unit(tuple(segments), write)


def _made(key: str, entry: dict[str, Any], language: str, target: str) -> Any:
    """The target's localization, before its texts are translated: empty where there is one already."""
    known = entry.get("localizations")
    known = known if isinstance(known, dict) else {}
    if any(unit.get("state") != "new" for unit in _string_units(known.get(target))):
        return {}
    made = deepcopy(known.get(language))
    if not list(_string_units(made)):
        made = {"stringUnit": {"state": "new", "value": key}}
    _complete(made, target)
    for unit in _string_units(made):
        unit["state"] = "needs_review"
    return made


def _complete(node: Any, target: str) -> None:
    """Adds the plural categories of the target that the source lacks, with the text of "other"."""
    if not isinstance(node, dict):
        return
    plural = node.get("plural")
    if isinstance(plural, dict):
        added = {category: deepcopy(plural["other"]) for category in lacking(set(plural), target)}
        node["plural"] = dict(sorted((plural | added).items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    for child in node.values():
        _complete(child, target)


def _string_units(node: Any) -> Iterator[dict[str, Any]]:
    """The units of a localization, in order."""
    if isinstance(node, dict):
        if isinstance(node.get("stringUnit"), dict) and isinstance(node["stringUnit"].get("value"), str):
            yield node["stringUnit"]
        for name, child in node.items():
            if name != "stringUnit":
                yield from _string_units(child)


def _change(source: str, key: str, target: str, made: Any, places: dict[tuple[str, ...], Place], languages: list[str]) -> Change:
    """The localization in its place: in that of an empty one, behind the language before it, or in an object of its own."""
    entry = ("strings", key)
    there = places.get((*entry, "localizations", target))
    if there is not None:
        return (*there, _written(made, source, there[0]))
    before = [language for language in languages if language < target and (*entry, "localizations", language) in places]
    if before:
        begin, end = places[(*entry, "localizations", max(before))]
        return end, end, "," + _member(target, made, source, _indent(source, begin))
    if languages:
        begin, _ = places[(*entry, "localizations")]
        return begin + 1, begin + 1, _member(target, made, source, _indent(source, begin) + "  ") + ","
    begin, end = places[entry]
    new = {"localizations": {target: made}}
    if not source[begin + 1 : end - 1].strip():
        return begin, end, _written(new, source, begin)
    member = _member("localizations", new["localizations"], source, _indent(source, begin) + "  ")
    known = [places[(*entry, name)][1] for name in ("comment", "extractionState") if (*entry, name) in places]
    return (max(known), max(known), "," + member) if known else (begin + 1, begin + 1, member + ",")


def _indent(source: str, at: int) -> str:
    line = source[source.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _member(key: str, value: Any, source: str, indent: str) -> str:
    end = ("\r\n" if "\r\n" in source[:_FIRST] else "\n") + indent if "\n" in source[:_FIRST] else ""
    return f"{end}{json.dumps(key, ensure_ascii=False)}{_colon(source)}{_indented(value, source, indent)}"


def _written(value: Any, source: str, at: int) -> str:
    """An object as Xcode writes it, indented like the line that it begins in."""
    return _indented(value, source, _indent(source, at))


def _indented(value: Any, source: str, indent: str) -> str:
    if "\n" not in source[:_FIRST]:
        return json.dumps(value, ensure_ascii=False, separators=(",", _colon(source)))
    written = json.dumps(value, ensure_ascii=False, indent=2, separators=(",", _colon(source)))
    return written.replace("\n", ("\r\n" if "\r\n" in source[:_FIRST] else "\n") + indent)


def _colon(source: str) -> str:
    return " : " if '" : ' in source[:_FIRST] else ": "
