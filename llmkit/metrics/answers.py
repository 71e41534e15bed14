"""Right or wrong, and how nearly: exact match and token F1, over answers normalized as the signature says.

The protocol of SQuAD (Rajpurkar et al. 2016) is `case,punctuation,articles,space`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from llmkit.errors import UsageError
from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, mean_units, sums_of
from llmkit.version import __version__

_STEPS: dict[str, Callable[[str], str]] = {
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
    "case": str.casefold,
    "punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    "articles": lambda text: re.sub(r"\b(a|an|the)\b", " ", text),
    "space": lambda text: " ".join(text.split()),
}
STEPS = tuple(_STEPS)


def steps(text: str) -> tuple[str, ...]:
    """The normalization steps of a comma-separated list, in the order they are applied. Raises UsageError."""
    wanted = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in _STEPS:
            raise UsageError(f"`normalize`: there is no step '{name}'", hint=f"none, or some of {', '.join(STEPS)}")
    return tuple(name for name in STEPS if name in wanted)


def exact_match(
    predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Sequence[str], *, name: str = "exact_match"
) -> Score:
    """Percentage of predictions that equal one of their references.

    references: per prediction, one text at least. normalize: steps as `steps` gives them, applied to both.
    """
    rows = [float(any(p == r for r in refs)) for p, refs in _normalized(predictions, references, normalize)]
    return _mean(name, rows, normalize, "proportion")


def f1(predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Sequence[str]) -> Score:
    """Mean over predictions of the best token F1 against a reference, in percent (Rajpurkar et al. 2016). Tokens lie between white space.

    references and normalize: as in `exact_match`.
    """
    rows = [max(_token_f1(p.split(), r.split()) for r in refs) for p, refs in _normalized(predictions, references, normalize)]
    return _mean("f1", rows, normalize, "percentage")


def apply(text: str, normalize: Sequence[str]) -> str:
    """`text` after the normalization steps, each by its name."""
    for name in normalize:
        text = _STEPS[name](text)
    return text


def _normalized(predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Sequence[str]) -> list[tuple[str, list[str]]]:
    pairs = zip(predictions, references, strict=True)
    return [(apply(p, normalize), [apply(r, normalize) for r in refs]) for p, refs in pairs]


def _token_f1(prediction: list[str], reference: list[str]) -> float:
    common = sum((Counter(prediction) & Counter(reference)).values())
    if not prediction or not reference:
        return float(prediction == reference)
    return 2 * common / (len(prediction) + len(reference))


def _mean(name: str, rows: Sequence[float], normalize: Sequence[str], kind: str) -> Score:
    units, statistic = mean_units([100 * value for value in rows]), Statistic(kind)
    sign = signature(normalize=",".join(normalize) or "none", version=f"llmkit-{__version__}")
    return Score(name, float(statistic(sums_of(units))[0]), sign, interval_of(units, statistic), units=units, statistic=statistic)
