"""Was anything lost? Signs, in a translated piece, that a model left out, repeated or did not translate.

Knows texts; not models. Each check is a function that says in a few words what is wrong, or nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from llmkit.translation.placeholders import PLACEHOLDER

#: A single digit is often written as a word.
_NUMBER = re.compile(r"\d{2,}")
#: What can be put back word for word where a model has lost it.
KEPT = re.compile(f"{PLACEHOLDER.pattern}|{_NUMBER.pattern}")
#: Characters of a piece from which a ratio of lengths says something.
_LONG = 24
_RATIO = (0.3, 3.5)


def problems(source_text: str, translation: str, finish_reason: str) -> list[str]:
    """What is wrong with a piece, empty when nothing is."""
    said = [check(source_text, translation) for check in _CHECKS]
    if finish_reason == "length":
        said.append("it was cut off at the limit of new tokens")
    return [problem for problem in said if problem]


def _nothing(source_text: str, translation: str) -> str | None:
    return "the translation is empty" if source_text.strip() and not translation.strip() else None


def _ratio(source_text: str, translation: str) -> str | None:
    if len(source_text) < _LONG or not translation:
        return None
    ratio = len(translation) / len(source_text)
    return f"it is {ratio:.1f} times as long as the source" if not _RATIO[0] <= ratio <= _RATIO[1] else None


def _copied(source_text: str, translation: str) -> str | None:
    words = re.findall(r"[^\W\d_]{2,}", PLACEHOLDER.sub(" ", source_text))
    same = source_text.strip().casefold() == translation.strip().casefold()
    # names and titles stay as they are
    return "it was not translated" if same and sum(word.islower() for word in words) >= 3 else None


def _repeated(source_text: str, translation: str) -> str | None:
    def most(text: str) -> int:
        words = text.casefold().split()
        return max(Counter(zip(words, words[1:], words[2:], strict=False)).values(), default=0)

    return "it repeats itself" if most(translation) > max(2, 2 * most(source_text)) else None


def _missing(pattern: re.Pattern[str], what: str) -> Callable[[str, str], str | None]:
    def check(source_text: str, translation: str) -> str | None:
        lost = Counter(pattern.findall(source_text)) - Counter(pattern.findall(translation))
        return f"{what} {', '.join(list(lost)[:3])} missing" if lost else None

    return check


_CHECKS: tuple[Callable[[str, str], str | None], ...] = (
    _nothing, _ratio, _copied, _repeated, _missing(_NUMBER, "number"), _missing(PLACEHOLDER, "placeholder"),
)  # fmt: skip
