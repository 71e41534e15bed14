"""Accuracy: the share of rows that are right, in percent."""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.metrics.base import Score
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, mean_units, sums_of


def accuracy(name: str, right: Sequence[bool], signature: str) -> Score:
    """The percentage of rows that are right, with Wilson's interval. right: a truth value per row, one at least."""
    units, statistic = mean_units([100.0 * value for value in right]), Statistic("proportion")
    return Score(name, float(statistic(sums_of(units))[0]), signature, interval_of(units, statistic), units=units, statistic=statistic)
