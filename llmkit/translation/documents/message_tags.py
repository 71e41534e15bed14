"""Tags in messages: what their attributes say to people is a text of its own, as a branch inside the sentence.

Knows tags; not the files that messages stand in.
"""

from __future__ import annotations

import re
from dataclasses import replace

from llmkit.translation.documents.base import has_letters, joined, with_marks
from llmkit.translation.documents.icu import Branch

#: As in pages: see `html`.
_SAID = re.compile(r"""(\s(?:title|alt|placeholder|aria-label)\s*=\s*)(?:"([^"<>]*)"|'([^'<>]*)')""")


def with_attributes(branch: Branch, marks: re.Pattern[str]) -> Branch:
    """The branch; what the attributes of its tags say are branches in it. marks: what in their prose stays."""
    holes = {number: tuple(with_attributes(p, marks) if isinstance(p, Branch) else p for p in made) for number, made in branch.holes}
    for number, (begin, end) in enumerate(branch.marks):
        if number not in holes and (made := _parts(branch.text[begin:end], marks)):
            holes[number] = made
    return replace(branch, holes=tuple(sorted(holes.items(), key=lambda hole: hole[0]))) if holes else branch


def without_attributes(mark: str) -> str:
    """A mark without what its attributes say: what a translation may not change."""
    return _SAID.sub(r"\1", mark) if mark.startswith("<") else mark


def _parts(mark: str, marks: re.Pattern[str]) -> tuple[str | Branch, ...]:
    """A tag cut at the texts of its attributes; nothing for one that has none."""
    out: list[str | Branch] = []
    at = 0
    for match in _SAID.finditer(mark) if mark.startswith("<") else ():
        group = 2 if match[2] is not None else 3
        text, places = joined(with_marks(match[group], marks))
        if has_letters(match[group]):
            out += [mark[at : match.start(group)], Branch(text, places, quote="\"'"[group - 2])]
            at = match.end(group)
    return (*out, mark[at:]) if out else ()
