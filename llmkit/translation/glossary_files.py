"""Glossaries as files: a table of two columns (.csv, .tsv), or TermBase eXchange (.tbx, ISO 30042).

Knows files; not how terms are found.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, LlmkitError, UnavailableError, UsageError, one_line
from llmkit.files import read_at_most
from llmkit.translation.glossary import Glossary
from llmkit.translation.languages import Language, language

#: Larger files are no glossaries.
_MOST = 100_000_000
#: What columns are called, and the code of a language.
_HEADERS = frozenset((("source", "target"), ("src", "tgt"), ("term", "translation"), ("source term", "target term"), ("from", "to")))
_CODE = re.compile(r"[a-zA-Z]{2,3}(?:[-_][a-zA-Z]{2,4})?")
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_glossary(path: str, source: Language | None = None, target: Language | None = None) -> Glossary:
    """The terms of a file. source and target: of a .tbx with more than two languages.

    Raises InputError naming the line, UsageError where such languages are not given, UnavailableError without lxml for a .tbx.
    """
    try:
        data = read_at_most(Path(path), _MOST)
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror or exc}", path=path) from exc
    pairs = _tbx(data, path, source, target) if path.lower().endswith(".tbx") else _table(data, path, source, target)
    terms: dict[str, str] = {}
    for line, term, translation in pairs:
        if terms.setdefault(term, translation) != translation:
            raise InputError(f"'{term}' has another translation above", path=path, line=line)
    if not terms:
        raise InputError("holds no term", path=path)
    return Glossary(tuple(terms.items()))


def _table(data: bytes, path: str, source: Language | None, target: Language | None) -> list[tuple[int | None, str, str]]:
    """Two columns, the term and its translation; a first row may name them. A .csv may be separated by semicolons or tabs."""
    try:
        lines = data.decode("utf-8-sig").splitlines(keepends=True)
        delimiters = "\t" if path.lower().endswith(".tsv") else ",;\t"
        delimiter = max(delimiters, key=lambda each: sum(len(row) > 1 for row in csv.reader(lines, delimiter=each)))
        reader = csv.reader(lines, delimiter=delimiter)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"cannot be read: {exc}", path=path) from exc
    if rows and len(rows[0][1]) > 1 and _is_header(rows[0][1][0], rows[0][1][1], source, target):
        rows = rows[1:]
    for line, cells in rows:
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise InputError("a term and its translation are expected", path=path, line=line, hint="for example: house,maison")
    return [(line, cells[0], cells[1]) for line, cells in rows]


def _is_header(first: str, second: str, source: Language | None, target: Language | None) -> bool:
    """Whether two cells name columns: `source,target`, `term,translation`, or the two languages."""
    if (first.casefold(), second.casefold()) in _HEADERS:
        return True
    if target is None or not _is_name(second, target):
        return False
    return _is_name(first, source) if source is not None else bool(_CODE.fullmatch(first))


def _is_name(cell: str, lang: Language) -> bool:
    """Whether a cell is the name or a code of a language."""
    if cell.casefold() == lang.name.casefold():
        return True
    try:
        return bool(_CODE.fullmatch(cell)) and language(cell).related(lang)
    except UsageError:
        return False


def _tbx(data: bytes, path: str, source: Language | None, target: Language | None) -> list[tuple[int | None, str, str]]:
    """Of each concept the terms of the source language, each with the first term of the target language."""
    concepts = list(_concepts(data, path))
    known = {lang.tag: lang for concept in concepts for lang, _, _ in concept}
    if len(known) == 2 and (source is None) != (target is None):
        given = source or target
        other = [lang for lang in known.values() if given is not None and not lang.related(given)]
        source, target = (source or other[0], target or other[0]) if other else (source, target)
    if source is None or target is None:
        names = ", ".join(sorted(known))
        raise UsageError(f"{path}: a glossary of several languages ({names}) needs both", hint="name them with `from` and `to`")
    out: list[tuple[int | None, str, str]] = []
    for concept in concepts:
        written = next((term for lang, term, _ in concept if lang.related(target)), None)
        if written is not None:
            out += [(line, term, written) for lang, term, line in concept if lang.related(source)]
    # of terms that mean several things the first counts
    return list({term: (line, term, written) for line, term, written in reversed(out)}.values())[::-1]


def _concepts(data: bytes, path: str) -> list[list[tuple[Language, str, int | None]]]:
    """The terms of each concept with their languages and lines, of both forms (martif and tbx)."""
    try:
        from lxml import etree
    except ImportError as exc:
        raise UnavailableError("reading a .tbx glossary needs lxml", hint="pip install 'llmkit[documents]'") from exc
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError as exc:
        raise InputError(f"is not XML: {one_line(exc)}", path=path) from exc
    out = []
    for concept in root.iter("{*}termEntry", "{*}conceptEntry"):
        terms = []
        for section in concept.iter("{*}langSet", "{*}langSec"):
            lang = _language(section.get(_LANG, ""), path, section.sourceline)
            terms += [(lang, text, each.sourceline) for each in section.iter("{*}term") if (text := _text(each))]
        out.append(terms)
    return out


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def _language(tag: str, path: str, line: int) -> Language:
    try:
        return language(tag)
    except LlmkitError as exc:
        raise InputError(f"'{tag[:60]}' is not a language", path=path, line=line) from exc
