"""BLEU, chrF and TER, computed by sacrebleu: the same score and signature digit for digit.

Post, A Call for Clarity in Reporting BLEU Scores (2018).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import UnavailableError, UsageError, one_line
from llmkit.metrics.base import Score
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, reference_streams, sacrebleu_metric, sacrebleu_units, sums_of

#: Decimals of sacrebleu's interval: all that a float has.
_DIGITS = 15
#: A smoothing value counts n-grams, and a sum of larger ones overflows.
_MOST_SMOOTHING = 1_000_000
#: sacrebleu's bootstrap intervals hold the truth in less than 93% over fewer rows (tests/test_interval_coverage.py).
BOOTSTRAP_ROWS = 50
TOKENIZERS = (
    "none", "zh", "13a", "intl", "char", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200", "spBLEU-1K",
)  # fmt: skip

#: Tokenizers that leave a run of Chinese or Japanese characters one word, and such a run.
_BY_SPACES = (None, "none", "13a", "intl")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]{4}")


@dataclass(frozen=True)
class OverlapSettings:
    """sacrebleu's options, with its names and defaults. confidence_n: resamples of sacrebleu's interval, 0 for the jackknife's."""

    tokenize: str | None = None
    lowercase: bool = False
    smooth_method: str = "exp"
    smooth_value: float | None = None
    effective_order: bool = False
    chrf_char_order: int = 6
    chrf_word_order: int = 0
    chrf_beta: int = 2
    chrf_whitespace: bool = False
    chrf_eps_smoothing: bool = False
    ter_normalized: bool = False
    ter_no_punct: bool = False
    ter_asian_support: bool = False
    ter_case_sensitive: bool = False
    confidence_n: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for values outside their bounds, and for a smoothing value that nothing reads."""
        if self.smooth_value is not None:
            if not 0 <= self.smooth_value <= _MOST_SMOOTHING:
                raise UsageError(f"`smooth_value` {self.smooth_value:g}: it must be between 0 and {_MOST_SMOOTHING:,}")
            if self.smooth_method not in ("floor", "add-k"):
                raise UsageError("`smooth_value` is for `smooth_method` floor and add-k", hint="add one of them, or remove `smooth_value`")
        if self.chrf_char_order < 1:
            raise UsageError(f"`chrf_char_order` {self.chrf_char_order}: it must be 1 or more")
        if self.chrf_beta < 1:
            raise UsageError(f"`chrf_beta` {self.chrf_beta}: it must be 1 or more")
        if self.ter_asian_support and not (self.ter_normalized or self.ter_no_punct):
            raise UsageError(
                "`ter_asian_support` extends `ter_normalized` and `ter_no_punct`", hint="add one of them, or remove `ter_asian_support`"
            )
        if self.confidence_n == 1:
            raise UsageError("`confidence_n` 1: an interval needs 2 resamples or more")


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]], settings: OverlapSettings) -> Score:
    """Corpus BLEU, from 0 to 100 (Papineni et al. 2002).

    references: one list of references a prediction; their numbers may differ. Raises UsageError for unknown options, UnavailableError
    for a tokenizer whose library or model file is missing.
    """
    from sacrebleu.metrics import BLEU

    if settings.tokenize not in (None, *TOKENIZERS):
        raise UsageError(f"`tokenize` {settings.tokenize}: unknown", hint=f"one of {', '.join(TOKENIZERS)}")
    if settings.smooth_method not in BLEU.SMOOTH_DEFAULTS:
        raise UsageError(f"`smooth_method` {settings.smooth_method}: unknown", hint=f"one of {', '.join(BLEU.SMOOTH_DEFAULTS)}")
    _refuse_download(settings.tokenize)
    return _score("bleu", predictions, references, settings)


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]], settings: OverlapSettings) -> Score:
    """chrF2 of the corpus, from 0 to 100, or chrF2++ with `chrf_word_order` 2 (Popović 2015, 2017). references: as in `bleu`."""
    return _score("chrf", predictions, references, settings)


def ter(predictions: Sequence[str], references: Sequence[Sequence[str]], settings: OverlapSettings) -> Score:
    """Translation edit rate in percent, above 100 where more is edited than there are words (Snover et al. 2006): lower is better."""
    return _score("ter", predictions, references, settings, higher=False)


def sacrebleu_options(name: str, settings: OverlapSettings) -> dict[str, Any]:
    """The arguments of sacrebleu's metric `name`: 'bleu', 'chrf' or 'ter'."""
    if name == "bleu":
        same = ("lowercase", "tokenize", "smooth_method", "smooth_value", "effective_order")
        return {option: getattr(settings, option) for option in same}
    own = {
        "chrf": ("char_order", "word_order", "beta", "whitespace", "eps_smoothing"),
        "ter": ("normalized", "no_punct", "asian_support", "case_sensitive"),
    }[name]
    out = {option: getattr(settings, f"{name}_{option}") for option in own}
    return out | {"lowercase": settings.lowercase} if name == "chrf" else out


def unsplit_by_bleu(references: Sequence[Sequence[str]], settings: OverlapSettings) -> int:
    """How many rows hold Chinese or Japanese sentences that the tokenizer leaves whole."""
    if settings.tokenize not in _BY_SPACES:
        return 0
    return sum(any(_UNSPACED.search(text) for text in refs) for refs in references)


def _refuse_download(tokenizer: str | None) -> None:
    """Nothing is downloaded to compute a number: a tokenizer with a model must have it already. Raises UnavailableError."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    known = SPM_MODELS.get(tokenizer or "")
    if known is not None and not (Path(SACREBLEU_DIR) / "models" / Path(known["url"]).name).exists():
        raise UnavailableError(
            f"`tokenize` {tokenizer} needs sacrebleu's model file, and nothing is downloaded to compute a number",
            hint=f"run sacrebleu -tok {tokenizer} once with a network",
        )


def _score(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    settings: OverlapSettings,
    *,
    higher: bool = True,
) -> Score:
    options = sacrebleu_options(name, settings)
    streams = reference_streams(references)
    try:
        metric = sacrebleu_metric(name, options)
    except (RuntimeError, ImportError) as exc:  # a tokenizer whose library is missing
        raise UnavailableError(f"`tokenize` {settings.tokenize}: {one_line(exc)}") from exc
    units, statistic = sacrebleu_units(metric, predictions, streams), Statistic(name, options=options)
    # the score of the corpus is that of the sums, and to ask for it again would take TER's time twice
    value, interval = float(statistic(sums_of(units))[0]), None
    if settings.confidence_n <= 1:
        interval = interval_of(units, statistic)
    else:
        result = metric.corpus_score(predictions, streams, n_bootstrap=settings.confidence_n)
        ci = json.loads(result.format(width=_DIGITS, signature=str(metric.get_signature()), is_json=True))
        # a score of 0 on every resample is left out there
        mean, half = ci.get("confidence_mean", value), ci.get("confidence_var", 0.0)
        interval = (mean - half, mean + half)
    return Score(name, value, str(metric.get_signature()), interval, higher, units, statistic)
