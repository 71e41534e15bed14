"""From the units of a test set (documents, sentences, questions) to a score: what intervals and comparison work on.

A unit is a few numbers that add up over the test set; a statistic turns the sums into the score. Both can be written
down, so a later run can hold its own units against those of an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from llmkit.errors import InputError
from llmkit.private_parts import require

Numbers = npt.NDArray[np.float64]

#: a / b of right-or-wrong rows, of rows from 0 to 100, of numbers above 0 (errors), below 0 (log-likelihoods), and of any.
MEANS = ("proportion", "percentage", "rate", "log", "mean")
SACREBLEU = ("bleu", "chrf", "ter")
#: The column of BLEU's units that counts matches of four words.
FOUR_WORD_MATCHES = 5
KINDS = (*MEANS, "exp", "bits", "quotient", *SACREBLEU)


@dataclass(frozen=True)
class Statistic:
    """A function of column sums.

    kind: 'proportion' (a / b, each row 0 or 100), 'percentage' (a / b, each row from 0 to 100), 'rate' (a / b, 0 or more), 'log' (a / b,
    0 or less), 'mean' (a / b), 'exp' (e to the -a / b: a perplexity), 'bits' (-a / b / ln 2), 'quotient' (e to the -a / b, of any size),
    or 'bleu', 'chrf', 'ter' (sacrebleu, with `options`). columns: of a and b.
    """

    kind: str
    columns: tuple[int, int] = (0, 1)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, sums: Numbers) -> Numbers:
        """sums: [resamples, columns]. Returns [resamples], infinite or NaN where the score is."""
        if self.kind in SACREBLEU:
            require("resampling")
            metric = self._metric()
            # resamples of few rows repeat, and sacrebleu takes one at a time
            different, places = np.unique(sums, axis=0, return_inverse=True)
            scores = np.array([metric._compute_score_from_stats(row.tolist()).score for row in different])
            return np.asarray(scores[places.reshape(-1)])
        return self.from_ratio(self.ratio(sums))

    def ratio(self, sums: Numbers) -> Numbers:
        """a / b of each row of sums: the score on the scale on which it is a mean. Not for sacrebleu's scores.

        sums: [resamples, columns]. Returns [resamples].
        """
        with np.errstate(all="ignore"):
            out: Numbers = sums[:, self.columns[0]] / sums[:, self.columns[1]]
        return out

    def from_ratio(self, ratio: Numbers) -> Numbers:
        """ratio: [...]. Returns the scores, [...]: monotone in it, so the ends of an interval are ends again."""
        with np.errstate(all="ignore"):
            if self.kind in ("exp", "quotient"):
                return np.asarray(np.exp(-ratio))
            return np.asarray(-ratio / math.log(2)) if self.kind == "bits" else ratio

    def _metric(self) -> Any:
        """sacrebleu's metric, for sums. Its tokenizer has done its work, and may need what this machine lacks."""
        return sacrebleu_metric(self.kind, {name: value for name, value in self.options.items() if name != "tokenize"})

    @property
    def all_options(self) -> Mapping[str, Any]:
        """What of sacrebleu's options decides a score, with sacrebleu's default where none was chosen."""
        if self.kind not in SACREBLEU:
            return {}
        options = {name: value for name, value in self.options.items() if name != "tokenize"}  # which the signature names
        if self.kind == "bleu" and options.get("smooth_value") is None:
            options["smooth_value"] = self._metric().SMOOTH_DEFAULTS[options.get("smooth_method", "exp")]
        return options

    @property
    def bounds(self) -> tuple[float, float]:
        """What `ratio`, or a score of sacrebleu, lies between."""
        if self.kind in ("proportion", "percentage", "bleu", "chrf"):
            return 0.0, 100.0
        return (0.0 if self.kind in ("rate", "ter") else -math.inf), (0.0 if self.kind in ("log", "exp", "bits") else math.inf)

    @property
    def right_or_wrong(self) -> bool:
        """Whether each row counts as 0 or 1."""
        return self.kind == "proportion"

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for a result file."""
        return {"kind": self.kind, "columns": list(self.columns), "options": dict(self.options)}

    @classmethod
    def from_json(cls, content: Any) -> Statistic:
        """Raises InputError for what `as_json` can't have written."""
        try:
            first, second = content["columns"]
            out = cls(str(content["kind"]), (int(first), int(second)), dict(content["options"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise InputError(f"a statistic is malformed: {exc}") from exc
        if out.kind not in KINDS:
            raise InputError(f"unknown statistic '{out.kind}'")
        if out.kind in SACREBLEU:
            try:
                out._metric()
            except Exception as exc:  # sacrebleu's assertions and more
                raise InputError(f"a statistic has other options than {out.kind}: {exc}") from exc
        return out


def sacrebleu_metric(kind: str, options: Mapping[str, Any]) -> Any:
    """sacrebleu's metric object. kind: 'bleu', 'chrf' or 'ter'; options: its arguments."""
    from sacrebleu import metrics

    return {"bleu": metrics.BLEU, "chrf": metrics.CHRF, "ter": metrics.TER}[kind](**options)


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first of each row, then the second of each, ...; None where a row has fewer.

    references: per row, one text at least; one row at least.
    """
    return [[refs[i] if i < len(refs) else None for refs in references] for i in range(max(map(len, references)))]


def sacrebleu_units(metric: Any, predictions: Sequence[str], streams: Sequence[Sequence[str | None]]) -> Numbers:
    """What each row adds to the corpus score of one of sacrebleu's metrics: [rows, columns], float64.

    streams: see `reference_streams`. This and `Statistic.__call__` use private methods of sacrebleu (`llmkit.private_parts`): it has no
    public way from rows to a score of some of them. Raises UnavailableError when they are gone.
    """
    require("resampling")
    return np.array(metric._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def sums_of(units: Numbers) -> Numbers:
    """units: [rows, columns]. Returns [1, columns]: the whole test set."""
    whole: Numbers = units.sum(0, keepdims=True)
    return whole


def mean_units(values: Sequence[float]) -> Numbers:
    """Units whose mean is the mean of `values`: [rows, 2], float64, a value and 1 each."""
    return np.array([[value, 1.0] for value in values], dtype=np.float64).reshape(-1, 2)
