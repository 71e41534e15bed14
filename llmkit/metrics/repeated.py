"""Scores of several sampled answers to each row: their mean, and how often all or any of a row's samples pass.

Samples of one row are alike, so a row with all its samples is one unit: intervals and comparisons are over rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmkit.metrics.base import Score
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import SACREBLEU, Numbers, Statistic, mean_units, sums_of

#: Scores made of the first metric whose rows are right or wrong.
PASS_NAMES = ("pass_rate", "pass_all", "pass_any")


def over_samples(score: Score, count: int) -> Score:
    """score: of all samples, `count` of each row one after another. The same value, with a row's samples as one unit."""
    sign = f"{score.signature}|repeat:{count}"
    if score.units is None or score.statistic is None:
        return replace(score, signature=sign, interval=None)
    units: Numbers = score.units.reshape(-1, count, score.units.shape[1]).sum(1)
    statistic = score.statistic
    if statistic.kind not in SACREBLEU:
        units = units / count
        statistic = replace(statistic, kind="percentage") if statistic.right_or_wrong else statistic
    return replace(score, signature=sign, units=units, statistic=statistic, interval=interval_of(units, statistic))


def pass_rates(scores: Sequence[Score], count: int) -> tuple[Score, ...]:
    """`PASS_NAMES` by the first score whose rows are right or wrong; none without one. scores: of all samples, as in `over_samples`.

    pass_rate is the share of samples that pass, pass_all that of rows whose samples all do, pass_any that of rows with one at least.
    """
    score = next((s for s in scores if s.statistic is not None and s.statistic.right_or_wrong), None)
    if score is None or score.units is None:
        return ()
    right = score.units[:, 0].reshape(-1, count) > 0
    sign = f"{score.signature}|repeat:{count}|of:{score.name}"
    rate = replace(over_samples(score, count), name="pass_rate", signature=sign)
    return (
        rate,
        _share("pass_all", [all(row) for row in right.tolist()], sign),
        _share("pass_any", [any(row) for row in right.tolist()], sign),
    )


def _share(name: str, rows: Sequence[bool], sign: str) -> Score:
    units, statistic = mean_units([100.0 * value for value in rows]), Statistic("proportion")
    return Score(name, float(statistic(sums_of(units))[0]), sign, interval_of(units, statistic), units=units, statistic=statistic)
