"""Plural categories of languages, as CLDR has them: what a message needs in its translation that its source lacks.

https://cldr.unicode.org/index/cldr-spec/plural-rules. Knows languages; not messages.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterable

#: In the order in which people write them.
ORDER = ("zero", "one", "two", "few", "many", "other")
#: Keys of the texts of one plural: i18next's `cat_one`, `cat_other`, Rails' `one`, `other`; not those of ordinal numbers.
_KEY = re.compile(rf"(?P<stem>.+(?<!_ordinal)[_.])?(?P<category>{'|'.join(ORDER)})")
#: Whole numbers that show each category that people count with; French has "many" from a million on.
_NUMBERS = 201


@functools.cache
def _numbers(tag: str) -> dict[str, frozenset[int]]:
    """The whole numbers of each category up to some hundreds; none for a language that is not known, or without babel."""
    try:
        from babel.core import Locale, UnknownLocaleError
    except ImportError:
        return {}
    try:
        form = Locale.parse(tag.replace("_", "-"), sep="-").plural_form
    except (UnknownLocaleError, ValueError):
        return {}
    categories = [form(number) for number in range(_NUMBERS)]
    return {category: frozenset(n for n, each in enumerate(categories) if each == category) for category in ORDER if category in categories}


def categories(tag: str | None) -> tuple[str, ...]:
    """The categories that a language needs; none for one that is not known, or without babel."""
    return tuple(_numbers(tag)) if tag is not None else ()


def lacking(present: set[str], tag: str | None) -> tuple[str, ...]:
    """The categories to add, each with the text of "other"; none where there is no "other".

    present: categories, and numbers of their own (`=1`), which need no category.
    """
    if tag is None or "other" not in present:
        return ()
    own = {int(each[1:]) for each in present if each.startswith("=")}
    return tuple(category for category, numbers in _numbers(tag).items() if category not in present and not numbers <= own)


def keys_lacking(keys: Iterable[tuple[Hashable, str]], tag: str | None) -> dict[tuple[Hashable, str], tuple[str, ...]]:
    """By the key of a plural's "other", the keys to add, each with its text. keys: (the object that it is in, the key)."""
    present: dict[tuple[Hashable, str], set[str]] = {}
    others: set[Hashable] = set()  # objects with keys of another kind
    for parent, key in keys:
        match = _KEY.fullmatch(key)
        others |= set() if match and not match["stem"] else {parent}
        if match:
            present.setdefault((parent, match["stem"] or ""), set()).add(match["category"])
    return {
        (parent, f"{stem}other"): tuple(f"{stem}{category}" for category in lacking(categories, tag))
        for (parent, stem), categories in present.items()
        if len(categories) > 1 and "other" in categories and (stem or parent not in others)
    }
