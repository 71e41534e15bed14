"""Word error rate by jiwer, ROUGE by rouge-score: metrics whose definition is a library.

Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004). With several references the best one counts.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmkit.errors import InputError, UnavailableError
from llmkit.metrics.answers import apply
from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, mean_units, sums_of


def wer(predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Sequence[str]) -> Score:
    """Word error rate in percent: substitutions, deletions and insertions by words of the references. Lower is better.

    references: per prediction, one at least; the nearest counts. Raises InputError for a reference without a word, UnavailableError
    without jiwer.
    """
    jiwer = _library("jiwer", "jiwer")
    units = []
    for number, (prediction, refs) in enumerate(zip(predictions, references, strict=True), 1):
        counts = []
        for reference in refs:
            words = apply(reference, normalize)
            if not words.strip():
                raise InputError(f"row {number}: a reference has no word after normalization")
            measures = jiwer.process_words(words, apply(prediction, normalize))
            errors = measures.substitutions + measures.deletions + measures.insertions
            counts.append((100.0 * errors, float(measures.hits + measures.substitutions + measures.deletions)))
        units.append(min(counts, key=lambda c: c[0] / c[1]))
    return _score("wer", np.array(units), normalize, "jiwer", higher=False)


def rouge(kind: str, predictions: Sequence[str], references: Sequence[Sequence[str]], normalize: Sequence[str]) -> Score:
    """Mean F-measure in percent, without stemming. kind: rouge1, rouge2, rougeL or rougeLsum (whose sentences are lines).

    references: per prediction, one at least. Raises UnavailableError without rouge-score.
    """
    scorer = _library("rouge_score.rouge_scorer", "rouge-score").RougeScorer([kind], use_stemmer=False)
    rows = []
    for prediction, refs in zip(predictions, references, strict=True):
        by_kind = scorer.score_multi([apply(r, normalize) for r in refs], apply(prediction, normalize))
        rows.append(100 * float(by_kind[kind].fmeasure))
    return _score(kind.lower(), mean_units(rows), normalize, "rouge-score", stem=False)


def unread_by_rouge(references: Sequence[Sequence[str]]) -> int:
    """How many predictions score 0 whatever they are: their references have none of the letters a to z and digits that ROUGE reads."""
    return sum(not any(re.search("[a-z0-9]", text.lower()) for text in refs) for refs in references)


def _score(name: str, units: Any, normalize: Sequence[str], library: str, *, higher: bool = True, **more: object) -> Score:
    statistic = Statistic("percentage" if higher else "rate")
    version = f"{library}-{importlib.metadata.version(library)}"
    sign = signature(normalize=",".join(normalize) or "none", **more, version=version)
    return Score(name, float(statistic(sums_of(units))[0]), sign, interval_of(units, statistic), higher, units, statistic)


def _library(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise UnavailableError(f"this metric needs {package}", hint="pip install 'llmkit[metrics]'") from exc
