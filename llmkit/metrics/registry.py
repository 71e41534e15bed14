"""The scores of texts by name. A new one is a function in a module beside this file, and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmkit.errors import UsageError
from llmkit.metrics import answers, overlap
from llmkit.metrics.base import Score
from llmkit.metrics.overlap import OverlapSettings


@dataclass(frozen=True)
class TextSettings:
    """Options of all scores of texts."""

    overlap: OverlapSettings = field(default_factory=OverlapSettings)
    normalise: tuple[str, ...] = ()


TextMetric = Callable[[Sequence[str], Sequence[Sequence[str]], TextSettings], Score]

TEXT_METRICS: dict[str, TextMetric] = {
    "bleu": lambda p, r, s: overlap.bleu(p, r, s.overlap),
    "chrf": lambda p, r, s: overlap.chrf(p, r, s.overlap),
    "ter": lambda p, r, s: overlap.ter(p, r, s.overlap),
    "exact_match": lambda p, r, s: answers.exact_match(p, r, s.normalise),
    "f1": lambda p, r, s: answers.f1(p, r, s.normalise),
}


def chosen(names: str) -> tuple[str, ...]:
    """The metrics of a comma-separated list. Raises UsageError with "did you mean"."""
    asked = tuple(dict.fromkeys(name.strip().lower().replace("-", "_") for name in names.split(",") if name.strip()))
    for name in asked:
        if name not in TEXT_METRICS:
            close = difflib.get_close_matches(name, TEXT_METRICS, n=1)
            raise UsageError(
                f"--metrics: there is no metric '{name}'",
                hint=f"did you mean '{close[0]}'?" if close else f"there are {', '.join(TEXT_METRICS)}",
            )
    if not asked:
        raise UsageError("--metrics names none", hint=f"some of {', '.join(TEXT_METRICS)}")
    return asked
