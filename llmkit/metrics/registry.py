"""The scores of texts by name. A new one is a function in a module beside this file, and one line here.

An installed package adds its own by the entry point group `llmkit.metrics`: the name of the score, and a `TextMetric`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from llmkit.errors import UnavailableError, UsageError, did_you_mean, one_line
from llmkit.metrics import answers, external, overlap, words
from llmkit.metrics.base import Score
from llmkit.metrics.overlap import OverlapSettings

GROUP = "llmkit.metrics"


@dataclass(frozen=True)
class TextSettings:
    """Options of all scores of texts."""

    overlap: OverlapSettings = field(default_factory=OverlapSettings)
    normalize: tuple[str, ...] = ()
    trust_remote_code: bool = False


Compute = Callable[[Sequence[str], Sequence[Sequence[str]], TextSettings], Score]


@dataclass(frozen=True)
class TextMetric:
    """compute: predictions, a list of references each, and settings become a `Score` of the metric's name.

    percent: its values are percentages, from 0 to 100 (or more, for error rates).
    """

    compute: Compute
    percent: bool = True


_OURS: dict[str, TextMetric] = {
    "bleu": TextMetric(lambda p, r, s: overlap.bleu(p, r, s.overlap)),
    "chrf": TextMetric(lambda p, r, s: overlap.chrf(p, r, s.overlap)),
    "ter": TextMetric(lambda p, r, s: overlap.ter(p, r, s.overlap)),
    "exact_match": TextMetric(lambda p, r, s: answers.exact_match(p, r, s.normalize)),
    "accuracy": TextMetric(lambda p, r, s: answers.exact_match(p, r, s.normalize, name="accuracy")),
    "f1": TextMetric(lambda p, r, s: answers.f1(p, r, s.normalize)),
    "wer": TextMetric(lambda p, r, s: words.wer(p, r, s.normalize)),
    "rouge1": TextMetric(lambda p, r, s: words.rouge("rouge1", p, r, s.normalize)),
    "rouge2": TextMetric(lambda p, r, s: words.rouge("rouge2", p, r, s.normalize)),
    "rougel": TextMetric(lambda p, r, s: words.rouge("rougeL", p, r, s.normalize)),
    "rougelsum": TextMetric(lambda p, r, s: words.rouge("rougeLsum", p, r, s.normalize)),
}
_FAMILIES = {"rouge": ("rouge1", "rouge2", "rougel", "rougelsum")}
#: Options that not all of our metrics read, and which ones do.
READERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("tokenize", "smooth_method", "smooth_value", "effective_order"), frozenset({"bleu"})),
    **dict.fromkeys([f"chrf_{name}" for name in ("char_order", "word_order", "beta", "whitespace", "eps_smoothing")], frozenset({"chrf"})),
    **dict.fromkeys([f"ter_{name}" for name in ("normalized", "no_punct", "asian_support", "case_sensitive")], frozenset({"ter"})),
    "lowercase": frozenset({"bleu", "chrf"}),
    **dict.fromkeys(("confidence", "confidence_n"), frozenset({"bleu", "chrf", "ter"})),
    "normalize": frozenset({"exact_match", "accuracy", "f1", "wer", "rouge"}),
}
#: Percentages that other commands compute.
_PERCENT = ("accuracy", "accuracy_normalized", "pass_rate", "pass_all", "pass_any", "same_top_token")


@cache
def _added() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {entry.name.lower().replace("-", "_"): entry for entry in importlib.metadata.entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """All metrics: ours, then those of installed packages."""
    return (*_OURS, *(name for name in _added() if name not in _OURS))


def metric_named(name: str) -> TextMetric:
    """Raises KeyError for an unknown name, UnavailableError for an installed one that is broken."""
    if name in _OURS:
        return _OURS[name]
    entry = _added()[name]
    try:
        metric = entry.load()
    except Exception as exc:  # the package's own code
        raise UnavailableError(f"the metric {name} of {entry.value} can't be loaded: {type(exc).__name__}: {one_line(exc)}") from exc
    if not isinstance(metric, TextMetric):
        raise UnavailableError(f"the metric {name}: {entry.value} is not a llmkit.metrics.registry.TextMetric")
    return metric


def is_percentage(name: str) -> bool:
    """Whether a score is known to be on the scale from 0 to 100."""
    return name.startswith("pass@") or name in _PERCENT or (name in names() and metric_named(name).percent)


def readers(metrics: Sequence[str]) -> set[str]:
    """The metrics as `READERS` calls them; all of those when one is an installed package's, which may read any option."""
    if any(name in _added() and name not in _OURS for name in metrics):
        return set().union(*READERS.values())
    return {family for family, several in _FAMILIES.items() if set(several) & set(metrics)} | set(metrics)


def chosen(text: str, *, trust_remote_code: bool = False) -> tuple[str, ...]:
    """The metrics of a comma-separated list; names that are not ours are modules of evaluate.

    Raises UsageError, with "did you mean", for a name that is neither ours nor a module that may be run.
    """
    wanted: list[str] = []
    known = names()
    for part in (name.strip() for name in text.split(",")):
        own = part.lower().replace("-", "_")
        own = next((name for name in (own.replace("_", ""),) if name.startswith("rouge") and name in (*_FAMILIES, *known)), own)
        if own in _FAMILIES:
            wanted += _FAMILIES[own]
        elif own in known:
            wanted.append(own)
        elif own == "chrf++":
            raise UsageError(f"`metrics`: {part} is chrf with word n-grams", hint="`metrics` chrf with `chrf_word_order` 2")
        elif own.startswith("pass@"):
            raise UsageError(f"`metrics`: {part} is measured by running code", hint="llmkit evaluate code")
        elif part:
            if not external.is_local(part) and not trust_remote_code:
                default = f"there are {', '.join(known)}; metrics of a hub need `trust_remote_code`"
                hint = did_you_mean(own, [*known, *_FAMILIES], default=default)
                raise UsageError(f"`metrics`: there is no metric '{part}'", hint=hint)
            wanted.append(part)
    if not wanted:
        raise UsageError("`metrics` is empty", hint=f"some of {', '.join(known)}")
    return tuple(dict.fromkeys(wanted))


def score_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names of the scores, as far as they are known beforehand: a module's are its own, beginning with its name."""
    return tuple(name if name in names() else Path(name).stem for name in metrics)


def module_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """Those of `score_names` that are modules, whose scores are known when they have run."""
    return score_names([name for name in metrics if name not in names()])


def compute(name: str, predictions: Sequence[str], references: Sequence[Sequence[str]], settings: TextSettings) -> tuple[Score, ...]:
    """One metric's scores: one of ours, or as many as a module gives. references: per prediction, one text at least.

    Raises what the metric raises: InputError for texts that have no score, UsageError for its options, UnavailableError for what is
    not installed.
    """
    if name in names():
        return (metric_named(name).compute(predictions, references, settings),)
    return external.external(name, predictions, references, trust_remote_code=settings.trust_remote_code)
