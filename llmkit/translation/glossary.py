"""Terms that are to be translated in one way: read from a table, looked for in every translation.

Knows texts; not models.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmkit.errors import InputError


@dataclass(frozen=True)
class Glossary:
    """(term, its translation), the longest terms first. A term matches whole words, in any case."""

    terms: tuple[tuple[str, str], ...]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds any of the terms."""
        return re.compile("|".join(rf"(?<!\w){re.escape(term)}(?!\w)" for term, _ in self.terms), re.IGNORECASE)

    def translation(self, term: str) -> str:
        """What a term that was found is to become, a capital at its beginning as the term's."""
        wanted = next(target for source, target in self.terms if source.casefold() == term.casefold())
        return wanted[:1].upper() + wanted[1:] if term[:1].isupper() and wanted[:1].islower() else wanted

    def violations(self, source: str, translation: str) -> list[str]:
        """Terms of `source` whose translation is missing, or there less often."""
        found = [match.group() for match in self.pattern.finditer(source)]
        written = translation.casefold()
        out = []
        for term, target in self.terms:
            count = sum(f.casefold() == term.casefold() for f in found)
            if count and written.count(target.casefold()) < count:
                out.append(f"glossary: '{term}' is not '{target}'")
        return out


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
