"""95% confidence intervals that cover, also for few rows and for scores near 0 and 100.

- Rows that are right or wrong: Wilson's score interval (Wilson 1927; Brown, Cai and DasGupta 2001).
- Means, ratios of sums (perplexity, word error rate), BLEU, chrF and TER: Student's t with the jackknife's standard error (Efron
  and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), on the scale on which the score is a mean. A score between 0 and
  100 is measured by its log odds, an error rate by its logarithm: near an end of its range its errors lie on one side.
- Differences between two systems: the same, of the paired difference. Of rows from 0 to 100, fewer than six of which change (or change
  otherwise than most): Agresti and Min's interval (2005), for of such rows Student's t held the truth in 6% to 92% of sets.

No interval where none can be known: one row, rows that do not differ, a score that is infinite or not a number, and BLEU of rows
none of which has a match of four words, which its smoothing makes up. That is the only condition on BLEU's rows: to leave out sets with
few matches, which are those of low scores, would leave intervals that hold the truth too often (98.5% of ten short sentences).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmkit.metrics.statistics import FOUR_WORD_MATCHES, MEANS, SACREBLEU, Numbers, Statistic, sums_of

Interval = tuple[float, float]

#: z of a two-sided 5% test.
Z_95 = 1.959964
#: With fewer rows no exact two-sided test can reach p < 0.05: 2 / 2^5 is 0.0625. With fewer that change, Student's t is too narrow.
LEAST_ROWS = 6
#: What rounding leaves of a score, relatively, summed over a million rows.
_ROUNDING = 1e-11
#: 97.5% and 80% quantiles of Student's t for 1 to 9 degrees of freedom.
_T_975 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)
_T_80 = (1.376382, 1.060660, 0.978472, 0.940965, 0.919544, 0.905703, 0.896030, 0.888890, 0.883404)


def t_quantile(freedom: float, *, power: bool = False) -> float:
    """The 97.5% quantile of Student's t (the 80% one with `power`), to four digits at whole degrees of freedom.

    freedom: counts as 1 at least. Above 9 degrees by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5); below,
    between two whole degrees, on the straight line over 1 / freedom.
    """
    if freedom <= len(_T_975):
        whole = [1 / n for n in range(len(_T_975), 0, -1)]
        return float(np.interp(1 / max(1.0, freedom), whole, (_T_80 if power else _T_975)[::-1]))
    z = 0.841621 if power else Z_95
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms)))


def wilson(share: float, count: float) -> Interval:
    """The interval of a proportion of which `share` (0 to 1) of `count` rows was seen."""
    center = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 / (1 + Z_95**2 / count) * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2))
    return (0.0 if share <= 0 else max(0.0, center - half), 1.0 if share >= 1 else min(1.0, center + half))


def leave_one_out(units: Numbers, statistic: Statistic) -> Numbers:
    """[rows]: the score without each row in turn; a ratio's, before it is made a score."""
    others = sums_of(units) - units
    return statistic(others) if statistic.kind in SACREBLEU else statistic.ratio(others)


def jackknife_error(values: Numbers, size: float = 0.0) -> float:
    """The standard error of a score; 0 for what only rounding makes of equal values.

    values: the score without each row in turn, [rows], two at least. size: of the numbers that they were computed from, where larger.
    """
    count = len(values)
    with np.errstate(all="ignore"):
        error = float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))
        size = max(size, float(np.abs(values).max()))
    return 0.0 if error < _ROUNDING * size else error


def freedom(units: Numbers, statistic: Statistic) -> float:
    """Degrees of freedom of the jackknife's error: rows less one, of which a ratio counts long ones more (Kish 1965).

    units: [rows, columns]. The second column of sacrebleu's units is the length of the reference.
    """
    weights = units[:, statistic.columns[1]]
    with np.errstate(all="ignore"):
        effective = float(weights.sum() ** 2 / (weights**2).sum())
    return effective - 1 if math.isfinite(effective) else 1.0


def interval_of(units: Numbers, statistic: Statistic) -> Interval | None:
    """The 95% interval of a score, None where there can be none.

    units: [rows, columns].
    """
    if len(units) == 0 or (len(units) < 2 and not statistic.right_or_wrong):
        return None
    if statistic.kind == "proportion" or (statistic.kind == "percentage" and _at_an_end(units, statistic.columns)):
        share = float(statistic.ratio(sums_of(units))[0]) / 100
        low, high = wilson(share, len(units))
        return 100 * low, 100 * high
    if statistic.kind == "bleu" and not units[:, FOUR_WORD_MATCHES].any():
        return None
    ratio = float((statistic if statistic.kind in SACREBLEU else statistic.ratio)(sums_of(units))[0])
    if not math.isfinite(ratio):
        return None
    half = t_quantile(freedom(units, statistic)) * jackknife_error(leave_one_out(units, statistic))
    if not half > 0:
        return None
    return scored_interval(ratio, half, statistic)


def scored_interval(ratio: float, half: float, statistic: Statistic) -> Interval | None:
    """The interval of `ratio`, whose error is `half`, as scores, within what a score can be. None where an end is infinite."""
    least, most = statistic.bounds
    if least < ratio < most and math.isfinite(least):
        ends = _on_its_scale(ratio - least, half, most - least) + least
    else:
        ends = np.clip([ratio - half, ratio + half], least, most)
    low, high = sorted(map(float, statistic.from_ratio(ends) + 0.0))  # no -0
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _on_its_scale(value: float, half: float, most: float) -> Numbers:
    """The ends of an interval that is symmetric in log odds, or in the logarithm where `most` is infinite. value: between 0 and `most`."""
    factor = np.exp(np.minimum(half / value / (1 - value / most), 700.0) * np.array([-1.0, 1.0]))
    out: Numbers = value * factor / (1 + (factor - 1) * (value / most))
    return out


def paired_interval(baseline: Numbers, system: Numbers, statistic: Statistic, difference: float) -> tuple[Interval | None, float, float]:
    """The 95% interval of a difference between two systems on the same rows, its standard error, and how sure that error is itself.

    baseline, system: [rows, columns], two rows at least. The last is the error's variance over its square (see `variance_of_error`).
    """
    if statistic.right_or_wrong or (statistic.kind == "percentage" and changed(baseline, system) < LEAST_ROWS):
        ends, bounded_error = _bounded_differences((system[:, 0] - baseline[:, 0]) / 100)
        if statistic.right_or_wrong:
            return ends, bounded_error, 0.0
    else:
        ends = None
    one, other = leave_one_out(system, statistic), leave_one_out(baseline, statistic)
    if statistic.kind not in (*SACREBLEU, *MEANS):
        one, other = statistic.from_ratio(one), statistic.from_ratio(other)
    error = jackknife_error(one - other, float(np.abs([one, other]).max()))
    half = t_quantile(freedom(system, statistic)) * error
    if ends is None and half > 0 and math.isfinite(half):
        most = statistic.bounds[1] - statistic.bounds[0]
        ends = max(-most, difference - half), min(most, difference + half)
    return ends, error, variance_of_error(one - other)


def changed(baseline: Numbers, system: Numbers) -> int:
    """How many rows change otherwise than most do, which is usually not at all. baseline, system: [rows, columns]."""
    _, counts = np.unique(changes(baseline, system), axis=0, return_counts=True)
    return len(system) - int(counts.max())


def changes(baseline: Numbers, system: Numbers) -> Numbers:
    """By how much units differ, [rows, columns], without what only rounding makes of equal ones."""
    with np.errstate(all="ignore"):
        out: Numbers = (system - baseline).round(9)
    return out


def variance_of_error(values: Numbers) -> float:
    """The relative variance of a standard error that is estimated from `values`, [rows], two at least.

    (kurtosis - 1) / 4n (Cramér, Mathematical Methods of Statistics, 1946, 27.7), and no less than that of normal ones, as few rows
    seldom show how heavy the tails are.
    """
    count = len(values)
    with np.errstate(all="ignore"):
        squares = (values - values.mean()) ** 2
        kurtosis = float(((squares / squares.mean()) ** 2).mean())
    return max((kurtosis - 1) / (4 * count) if math.isfinite(kurtosis) else 0.0, 1 / (2 * (count - 1)))


def _bounded_differences(won: Numbers) -> tuple[Interval, float]:
    """Agresti and Min (2005): Wald's interval after half a row is added to each of the four cells (won, lost, both right, both wrong).

    won: [rows], each from -1 (lost) to 1. Returns the interval, as percentages, and its standard error.
    """
    count = len(won) + 2
    difference = float(won.sum()) / count
    error = math.sqrt(max(0.0, (float((won**2).sum()) + 1) / count - difference**2) / count)
    low, high = max(-1.0, difference - Z_95 * error), min(1.0, difference + Z_95 * error)
    return (100 * low, 100 * high), 100 * error


def _at_an_end(units: Numbers, columns: Sequence[int]) -> bool:
    """Whether nearly all rows are 0 or nearly all 100: too few others to tell how much rows differ."""
    values = units[:, columns[0]]
    return min(int((values > 0).sum()), int((values < 100).sum())) < 5
