"""The text between the tags of HTML: characters instead of references to them, placeholders as they are written.

Knows references; not tags.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from llmkit.translation.documents.base import one_line, with_marks
from llmkit.translation.placeholders import IN_PAGES, SYMBOL_ALONE

#: Several references may be one symbol.
_REFERENCE = re.compile(r"(?:&#?\w+;)+")


def read(raw: str) -> list[tuple[str, bool]]:
    """Text in pieces, placeholders as they are written: references as characters, lines joined."""
    out: list[tuple[str, bool]] = []
    for text, mark in with_marks(one_line(raw), IN_PAGES):
        out += [(text, True)] if mark else _unescaped(text)
    return out


def _references(run: str) -> list[str]:
    """References without a space between them: one symbol, or each for itself."""
    return [run] if SYMBOL_ALONE.fullmatch(html.unescape(run)) else re.findall(r"&#?\w+;", run)


def _unescaped(text: str) -> Iterator[tuple[str, bool]]:
    """Text with its references read; those to a symbol stay as they are written."""
    prose: list[str] = []
    runs = [each for part, run in with_marks(text, _REFERENCE) for each in (_references(part) if run else [part])]
    for part in runs:
        if part[:1] == "&" and SYMBOL_ALONE.fullmatch(html.unescape(part)):
            yield from ((html.unescape("".join(prose)), False), (part, True))
            prose = []
        else:
            prose.append(part)
    yield html.unescape("".join(prose)), False
