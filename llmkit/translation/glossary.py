"""Terms that are to be translated in one way: read from a table, looked for in every translation.

Knows texts; not models.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmkit.errors import InputError


@dataclass(frozen=True)
class Glossary:
    """(term, its translation), the longest terms first. A term matches whole words, also in the plain plural.

    Case is ignored, but a term in capitals (IT) matches capitals alone.
    """

    terms: tuple[tuple[str, str], ...]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds any of the terms."""
        return re.compile("|".join(rf"(?<!\w){_form(term)}(?!\w)" for term, _ in self.terms))

    @cached_property
    def _forms(self) -> tuple[tuple[re.Pattern[str], str, str], ...]:
        return tuple((re.compile(_form(term)), term, target) for term, target in self.terms)

    def _term(self, text: str) -> tuple[str, str]:
        """The term that a match stands for, and its translation. A term as it is written wins over its forms."""
        exact = next(((term, target) for term, target in self.terms if term == text), None)
        return exact or next((term, target) for form, term, target in self._forms if form.fullmatch(text))

    def translation(self, term: str) -> str:
        """What a match is to become, a capital at its beginning as the term's."""
        _, wanted = self._term(term)
        return wanted[:1].upper() + wanted[1:] if term[:1].isupper() and wanted[:1].islower() else wanted

    def violations(self, source: str, translation: str) -> list[str]:
        """Terms of `source` whose translation is missing, or there less often. Each counts for itself, as whole words."""
        wanted = Counter(self._term(match.group()) for match in self.pattern.finditer(source))
        written: dict[str, int] = {}
        out = []
        for (term, target), count in wanted.items():
            key = target.casefold()
            if key not in written:
                form = rf"(?<!\w){re.escape(key)}{'(?:s|x|es)?' if key[-1:].isalpha() else ''}(?!\w)"
                written[key] = len(re.findall(form, translation.casefold()))
            written[key] -= count
            if written[key] < 0:
                out.append(f"glossary: '{term}' is not '{target}'")
        return out


def _form(term: str) -> str:
    """A pattern of a term and of its plain plural, in any case except where the term is in capitals."""
    pattern = re.escape(term)
    if term.isupper():
        return f"{pattern}s?"
    if term[-1:].isalpha():
        pattern = rf"{re.escape(term[:-1])}(?:y|ies)" if re.search(r"[^aeiou]y$", term) else rf"{pattern}(?:s|es)?"
    return f"(?i:{pattern})"


def read_glossary(path: str) -> Glossary:
    """Two columns, the term and its translation (.csv, or .tsv); a first row 'source,target' names them.

    Raises InputError naming the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = [(n, row) for n, row in enumerate(csv.reader(file, delimiter="\t" if path.endswith(".tsv") else ","), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"cannot be read: {getattr(exc, 'strerror', None) or exc}", path=path) from exc
    if rows and [cell.strip().casefold() for cell in rows[0][1][:2]] == ["source", "target"]:
        rows = rows[1:]
    terms: dict[str, str] = {}
    for line, row in rows:
        cells = [cell.strip() for cell in row]
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise InputError("a term and its translation are expected", path=path, line=line, hint="for example: house,maison")
        if terms.setdefault(cells[0].casefold(), cells[1]) != cells[1]:
            raise InputError(f"'{cells[0]}' has another translation above", path=path, line=line)
    if not terms:
        raise InputError("holds no term", path=path)
    names = {row[0].strip().casefold(): row[0].strip() for _, row in rows}
    return Glossary(tuple(sorted(((names[key], target) for key, target in terms.items()), key=lambda term: -len(term[0]))))
