"""Verification of a translated file: it is read again, and everything in it that is not words must be what it was.

Where it is not, the segments that break it are looked for and left in their own words. What a format's skeleton is, the format
says. Knows skeletons; not formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from llmkit.errors import InputError
from llmkit.translation.documents.base import Document

#: Files that are built and read while segments that break one are looked for; then the rest is left as it was.
_TRIES = 200


@runtime_checkable
class HasSkeleton(Protocol):
    """A document that can be proven. skeleton: what a translation must not change in a file of the format; compared for equality.

    Tags, code, placeholders, the targets of links, timing, keys, the number of paragraphs. Raises InputError for a file that
    can't be read.
    """

    def skeleton(self, data: bytes) -> object:
        """data: a file of the document's format. Raises InputError for one that can't be read."""
        ...


@dataclass(frozen=True)
class Verified:
    """A file whose skeleton is that of its source. left: the segments that are in their own words because they would break it."""

    data: bytes
    left: tuple[int, ...] = ()


def verify(document: Document, translations: Sequence[str | None]) -> Verified:
    """The document's file from the translations that keep its structure. Reads it twice, and more often where one breaks it."""
    data = document.build(translations)
    if not isinstance(document, HasSkeleton):
        return Verified(data)
    wanted = document.skeleton(document.build([None] * len(translations)))
    if _skeleton(document, data) == wanted:
        return Verified(data)
    accepted: list[str | None] = [None] * len(translations)
    left: list[int] = []
    groups = [list(range(len(translations)))]
    tries = 0
    while groups:
        group = groups.pop()
        tried = list(accepted)
        for number in group:
            tried[number] = translations[number]
        tries += 1
        if tries <= _TRIES and _skeleton(document, document.build(tried)) == wanted:
            accepted = tried
        elif len(group) == 1 or tries > _TRIES:
            left += [number for number in group if translations[number] is not None]
        else:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return Verified(document.build(accepted), tuple(left))


def _skeleton(document: HasSkeleton, data: bytes) -> object:
    """None for a file that can't be read."""
    try:
        return document.skeleton(data)
    except InputError:
        return None
