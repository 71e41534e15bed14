"""Confidence intervals by resampling units (documents, blocks, sentences) with replacement.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmkit.metrics.statistics import Numbers

RESAMPLES = 1000
#: A resample holds all units' numbers at once; this many numbers are drawn at a time.
_DRAWN = 1 << 22


def bootstrap_sums(units: Numbers, *, resamples: int = RESAMPLES, seed: int = 12345) -> Numbers:
    """Column sums of each resample.

    units: [units, columns]. Returns [resamples, columns]. The same units and seed give the same sums.
    """
    rng = np.random.default_rng(seed)
    count = len(units)
    out = np.empty((resamples, units.shape[1]))
    step = max(1, _DRAWN // max(count, 1))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        # How often each unit was drawn: the sums follow by one matrix product.
        drawn = rng.integers(0, count, (size, count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        out[start : start + size] = times @ units
    return out


def percentile_interval(values: Numbers, *, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of `values` [resamples]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def interval_of(units: Numbers, statistic: Callable[[Numbers], Numbers]) -> tuple[float, float] | None:
    """The 95% interval of a statistic of column sums; None for a single unit.

    statistic: [resamples, columns] → [resamples].
    """
    return None if len(units) < 2 else percentile_interval(statistic(bootstrap_sums(units)))
