"""From the units of a test set (documents, sentences, questions) to a score: what resampling and comparison work on.

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


@dataclass(frozen=True)
class Statistic:
    """A function of column sums.

    kind: 'mean' (a / b), 'exp' (e to the -a / b), 'bits' (-a / b / ln 2), or 'bleu', 'chrf', 'ter' (sacrebleu, with `options`).
    columns: of a and b.
    """

    kind: str
    columns: tuple[int, int] = (0, 1)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, sums: Numbers) -> Numbers:
        """sums: [resamples, columns]. Returns [resamples]."""
        if self.kind in ("bleu", "chrf", "ter"):
            require("resampling")
            metric = sacrebleu_metric(self.kind, self.options)
            return np.array([metric._compute_score_from_stats(row.tolist()).score for row in sums])
        a, b = sums[:, self.columns[0]], sums[:, self.columns[1]]
        with np.errstate(over="ignore"):
            ratio: Numbers = a / b
            if self.kind == "exp":
                ratio = np.exp(-ratio)
            elif self.kind == "bits":
                ratio = -ratio / math.log(2)
        return ratio

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": list(self.columns), "options": dict(self.options)}

    @classmethod
    def from_json(cls, content: Any) -> Statistic:
        """Raises InputError for what `as_json` can't have written."""
        try:
            first, second = content["columns"]
            out = cls(str(content["kind"]), (int(first), int(second)), dict(content["options"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise InputError(f"a statistic is malformed: {exc}") from exc
        if out.kind not in ("mean", "exp", "bits", "bleu", "chrf", "ter"):
            raise InputError(f"unknown statistic '{out.kind}'")
        return out


def sacrebleu_metric(kind: str, options: Mapping[str, Any]) -> Any:
    """sacrebleu's metric object."""
    from sacrebleu import metrics

    return {"bleu": metrics.BLEU, "chrf": metrics.CHRF, "ter": metrics.TER}[kind](**options)


def sums_of(units: Numbers) -> Numbers:
    """[1, columns]: the whole test set."""
    whole: Numbers = units.sum(0, keepdims=True)
    return whole


def mean_units(values: Sequence[float]) -> Numbers:
    """Units whose 'mean' statistic is the mean of `values`."""
    return np.array([[value, 1.0] for value in values], dtype=np.float64).reshape(-1, 2)
