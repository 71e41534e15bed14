"""Plural categories of languages, as CLDR has them: what a message needs in its translation that its source lacks.

https://cldr.unicode.org/index/cldr-spec/plural-rules. Knows languages; not messages.
"""

from __future__ import annotations

import functools

#: In the order in which people write them.
ORDER = ("zero", "one", "two", "few", "many", "other")
#: Whole numbers that show each category that people count with; French has "many" from a million on.
_NUMBERS = 201


@functools.cache
def categories(tag: str | None) -> tuple[str, ...]:
    """The categories that whole numbers up to some hundreds need in a language; none for one that is not known, or without babel."""
    if tag is None:
        return ()
    try:
        from babel.core import Locale, UnknownLocaleError
    except ImportError:
        return ()
    try:
        form = Locale.parse(tag.replace("_", "-"), sep="-").plural_form
    except (UnknownLocaleError, ValueError):
        return ()
    needed = {form(number) for number in range(_NUMBERS)}
    return tuple(category for category in ORDER if category in needed)


def lacking(present: set[str], tag: str | None) -> tuple[str, ...]:
    """The categories to add, each with the text of "other"; none where there is no "other"."""
    return tuple(category for category in categories(tag) if category not in present) if "other" in present else ()
