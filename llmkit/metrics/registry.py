"""The scores of texts by name. A new one is a function in a module beside this file, and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmkit.errors import UsageError
from llmkit.metrics import answers, external, overlap, words
from llmkit.metrics.base import Score
from llmkit.metrics.overlap import OverlapSettings


@dataclass(frozen=True)
class TextSettings:
    """Options of all scores of texts."""

    overlap: OverlapSettings = field(default_factory=OverlapSettings)
    normalise: tuple[str, ...] = ()
    trust_remote_code: bool = False


TextMetric = Callable[[Sequence[str], Sequence[Sequence[str]], TextSettings], Score]

TEXT_METRICS: dict[str, TextMetric] = {
    "bleu": lambda p, r, s: overlap.bleu(p, r, s.overlap),
    "chrf": lambda p, r, s: overlap.chrf(p, r, s.overlap),
    "ter": lambda p, r, s: overlap.ter(p, r, s.overlap),
    "exact_match": lambda p, r, s: answers.exact_match(p, r, s.normalise),
    "accuracy": lambda p, r, s: answers.exact_match(p, r, s.normalise, name="accuracy"),
    "f1": lambda p, r, s: answers.f1(p, r, s.normalise),
    "wer": lambda p, r, s: words.wer(p, r, s.normalise),
    "rouge1": lambda p, r, s: words.rouge("rouge1", p, r, s.normalise),
    "rouge2": lambda p, r, s: words.rouge("rouge2", p, r, s.normalise),
    "rougel": lambda p, r, s: words.rouge("rougeL", p, r, s.normalise),
    "rougelsum": lambda p, r, s: words.rouge("rougeLsum", p, r, s.normalise),
}
_FAMILIES = {"rouge": ("rouge1", "rouge2", "rougel", "rougelsum")}


def chosen(names: str, *, trust_remote_code: bool = False) -> tuple[str, ...]:
    """The metrics of a comma-separated list; names that are not ours are modules of evaluate.

    Raises UsageError, with "did you mean", for a name that is neither ours nor a module that may be run.
    """
    asked: list[str] = []
    for part in (name.strip() for name in names.split(",")):
        own = part.lower().replace("-", "_")
        if own in _FAMILIES:
            asked += _FAMILIES[own]
        elif own in TEXT_METRICS:
            asked.append(own)
        elif own.startswith("pass@"):
            raise UsageError(f"--metrics: {part} is measured by running code", hint="llmkit evaluate code")
        elif part:
            if not external.is_local(part) and not trust_remote_code:
                close = difflib.get_close_matches(own, [*TEXT_METRICS, *_FAMILIES], n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"ours are {', '.join(TEXT_METRICS)}; a hub's need --trust-remote-code"
                raise UsageError(f"--metrics: there is no metric '{part}'", hint=hint)
            asked.append(part)
    if not asked:
        raise UsageError("--metrics names none", hint=f"some of {', '.join(TEXT_METRICS)}")
    return tuple(dict.fromkeys(asked))


def score_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names of the scores, as far as they are known beforehand: a module's are its own, beginning with its name."""
    return tuple(name if name in TEXT_METRICS else Path(name).stem for name in metrics)


def compute(name: str, predictions: Sequence[str], references: Sequence[Sequence[str]], settings: TextSettings) -> tuple[Score, ...]:
    """One metric's scores: one of ours, or as many as a module gives."""
    if name in TEXT_METRICS:
        return (TEXT_METRICS[name](predictions, references, settings),)
    return external.external(name, predictions, references, trust_remote_code=settings.trust_remote_code)
