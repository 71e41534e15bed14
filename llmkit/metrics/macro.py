"""The macro average of a score over several files: each counts the same, however long it is.

Of a ratio of sums (a mean loss, bits per byte) it is the mean of the files' ratios; of a perplexity the geometric mean of the files'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmkit.metrics.base import Score
from llmkit.metrics.intervals import Interval, freedom, jackknife_error, leave_one_out, scored_interval, t_quantile
from llmkit.metrics.statistics import Numbers, Statistic, sums_of


def macro_average(files: Sequence[Score]) -> Score | None:
    """The average of one score of several files, two at least; None for a score that is not a ratio of sums.

    The files are taken as given, so the interval is of their documents (of the windows of a file that is a single document). A
    comparison with a baseline is by documents, each with its weight.
    """
    first = files[0]
    if first.statistic is None or any(f.units is None or f.statistic is None for f in files):
        return None
    statistic = Statistic(first.statistic.kind)
    units = np.concatenate([_weighted(_units(f), first.statistic) for f in files])
    mean = float(statistic.ratio(sums_of(units))[0])
    interval = None
    if math.isfinite(mean) and all(len(_parts(f)) > 1 for f in files):
        interval = _interval([_weighted(_parts(f), first.statistic) for f in files], mean, statistic)
    sign = f"{first.signature}|average:macro|files:{len(files)}"
    value = float(statistic(sums_of(units))[0])
    return Score(f"macro_{first.name}", value, sign, interval, first.higher_is_better, units, statistic)


def _units(score: Score) -> Numbers:
    return np.zeros((0, 2)) if score.units is None else score.units


def _parts(score: Score) -> Numbers:
    """The units of a file's interval: its windows where it is one document, else its documents that have tokens."""
    if score.blocks is not None:
        return score.blocks
    units = _units(score)
    return units if score.statistic is None else units[units[:, score.statistic.columns[1]] > 0]


def _weighted(units: Numbers, statistic: Statistic) -> Numbers:
    """[rows, 2]: numerator and denominator, so that the denominators of the file add up to 1."""
    columns: Numbers = np.ascontiguousarray(units[:, list(statistic.columns)])  # summed as a saved result's, to the last bit
    with np.errstate(all="ignore"):
        return np.asarray(columns / columns[:, 1].sum())


def _interval(files: Sequence[Numbers], mean: float, statistic: Statistic) -> Interval | None:
    """The 95% interval of the files' mean: each file's own error by the jackknife, together by Satterthwaite (1946)."""
    squares = [jackknife_error(leave_one_out(units, statistic)) ** 2 for units in files]
    total = sum(squares)
    if not 0 < total < math.inf:
        return None
    degrees = total**2 / sum(square**2 / max(1.0, freedom(units, statistic)) for square, units in zip(squares, files, strict=True))
    half = t_quantile(degrees) * math.sqrt(total) / len(files)
    return scored_interval(mean, half, statistic)
