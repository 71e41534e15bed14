"""The language in which an office program checks the texts of a document: that of the translation, where it was the document's.

Knows names of languages; not formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

#: Scripts for which a text has a language of its own.
_KINDS = {
    "Hans": "asian", "Hant": "asian", "Hani": "asian", "Jpan": "asian", "Kore": "asian", "Hang": "asian", "Arab": "complex",
    "Hebr": "complex", "Thai": "complex", "Deva": "complex", "Syrc": "complex", "Thaa": "complex",
}  # fmt: skip


def parts(target: str) -> tuple[str, str | None, str]:
    """A language as programs name it: its code and its usual country, and the kind of its script: western, asian or complex."""
    from langcodes import Language

    full = Language.get(target).maximize()
    return full.language or target, full.territory, _KINDS.get(full.script or "", "western")


def named(target: str) -> str:
    """A language with its usual country: fr-FR."""
    language, country, _ = parts(target)
    return f"{language}-{country}" if country else target


def primary(tag: str) -> str:
    """The language of a tag, without its country."""
    return tag.replace("_", "-").partition("-")[0].lower()


def of_most(tags: Iterable[str]) -> str | None:
    """The language that most tags have; None without one."""
    counted = Counter(primary(tag) for tag in tags)
    return max(counted, key=lambda tag: counted[tag], default=None)
