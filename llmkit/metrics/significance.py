"""Is one system better than another on the same rows, and how much of a difference could be seen at all?

- Randomization (Riezler and Maxwell 2005): how often does exchanging the two systems' rows at random give a difference at least
  as large? Right at any number of rows.
- Bootstrap (Koehn 2004), two-sided and centered: how often is a resampled difference as far from the mean of the resampled
  differences as the measured one is from 0? Resampled differences of few rows lie too close together, so they are spread as Student's t
  is (Hesterberg 2015, the expanded percentile interval). `evaluate score --paired-bs` is sacrebleu's test instead, which compares the
  difference of absolute values and so gives smaller p-values.
- McNemar's exact test, for metrics whose rows are right or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmkit.errors import UsageError, counted
from llmkit.metrics.base import json_number
from llmkit.metrics.intervals import LEAST_ROWS, Z_95, Interval, changes, paired_interval, t_quantile
from llmkit.metrics.statistics import Numbers, Statistic, sums_of

#: As many as Koehn (2004) draws.
RESAMPLES = 1000
#: 2 to this power are the exchanges of rows that a randomization test makes: about as many as sacreBLEU.
EXCHANGES = 13
#: Numbers of exchanges times rows that are held at once.
_BLOCK = 1 << 22
TESTS = ("auto", "bootstrap", "randomization", "mcnemar")
#: How older results and commands spell it.
ALIASES = {"randomisation": "randomization"}


@dataclass(frozen=True)
class Comparison:
    """A score against its baseline.

    difference: score minus baseline, with a 95% interval. effect: the difference in standard deviations of a row's
    difference. detectable: the smallest difference that a two-sided 5% test sees in 80% of samples of this size.
    These, the interval and p_value are None where they can't be known; `note` then says why.
    """

    name: str
    baseline: float
    value: float
    difference: float
    interval: Interval | None
    effect: float | None
    p_value: float | None
    test: str
    rows: int
    detectable: float | None
    higher_is_better: bool
    unit: str = "rows"
    note: str = ""

    @property
    def worse_by(self) -> float:
        """Above 0 when quality went down; NaN when one of the scores is."""
        return -self.difference if self.higher_is_better else self.difference

    @property
    def significant(self) -> bool:
        """Whether p is below 0.05, and there are rows enough for a test (`LEAST_ROWS`)."""
        return self.p_value is not None and self.p_value < 0.05 and self.rows >= LEAST_ROWS

    def __str__(self) -> str:
        verdict = "better" if self.worse_by < 0 else "worse" if self.worse_by > 0 else "the same"
        by = f" by {abs(self.difference):.4g}" if self.difference and math.isfinite(self.difference) else ""
        return f"{self.name}: {self.value:.6g} against {self.baseline:.6g}, {verdict}{by} ({'; '.join(self._grounds())})"

    def _grounds(self) -> list[str]:
        out = []
        if self.interval is not None:
            out.append(f"95% interval of the difference {self.interval[0]:+.4g} to {self.interval[1]:+.4g}")
        if self.p_value is not None:
            out.append(f"p = {self.p_value:.3g} by {self.test}, n = {self._count}")
        return out + ([self.note] if self.note else [])

    @property
    def _count(self) -> str:
        return f"{self.rows:,}" + ("" if self.unit == "rows" else f" {self.unit}")

    @property
    def power(self) -> str:
        """What a test of this size can show; empty where it can show nothing."""
        if self.detectable is None:
            return ""
        return f"{self.name}: with n = {self._count} a difference of {self.detectable:.3g} can be detected (two-sided 5% test, 80% power)"

    def as_json(self) -> dict[str, object]:
        """Infinite numbers are texts and unknown ones null, for JSON has neither."""
        numbers = {name: json_number(getattr(self, name)) for name in ("baseline", "value")}
        difference = self.difference if math.isfinite(self.difference) else None
        return {
            "name": self.name, **numbers, "difference": difference, "interval": None if self.interval is None else list(self.interval),
            "effect": self.effect, "p_value": self.p_value, "test": self.test, "rows": self.rows, "unit": self.unit,
            "detectable": self.detectable, "higher_is_better": self.higher_is_better, "note": self.note, "significant": self.significant,
        }  # fmt: skip


def named_test(name: str) -> str:
    """The significance test of that name, old spellings included. Raises UsageError."""
    test = ALIASES.get(name, name)
    if test not in TESTS:
        raise UsageError(f"`test` {name}: unknown", hint=f"one of {', '.join(TESTS)}")
    return test


def check_test(test: str, name: str, statistic: Statistic) -> None:
    """Raises UsageError for a test that does not apply to the score `name`."""
    if test == "mcnemar" and not statistic.right_or_wrong:
        raise UsageError(f"`test` mcnemar: the rows of {name} are not right or wrong", hint="bootstrap or randomization")


def compare(
    name: str,
    baseline: Numbers,
    system: Numbers,
    statistic: Statistic,
    *,
    higher_is_better: bool,
    test: str = "auto",
    seed: int = 12345,
    unit: str = "rows",
    values: tuple[float, float] | None = None,
) -> Comparison:
    """Compares two systems on the same rows.

    baseline, system: units [rows, columns] in the same order; unit: what they are. values: the two scores, where the units
    are only part of what they were made from. Raises UsageError for a test that does not apply.
    """
    chosen = named_test(test)
    check_test(chosen, name, statistic)
    if chosen == "auto":
        chosen = "mcnemar" if statistic.right_or_wrong else "randomization"
    before, now = values or (float(statistic(sums_of(baseline))[0]), float(statistic(sums_of(system))[0]))
    count = len(system)
    if note := _why_not(before, now, count, unit):
        difference = 0.0 if before == now else now - before
        return Comparison(name, before, now, difference, None, None, None, "none", count, None, higher_is_better, unit, note)
    difference = now - before
    interval, error, doubt = paired_interval(baseline, system, statistic, difference)
    p_value, label = _p_value(chosen, baseline, system, statistic, abs(difference), seed)
    return Comparison(
        name=name,
        baseline=before,
        value=now,
        difference=difference,
        interval=interval,
        effect=difference / (error * math.sqrt(count)) if error else 0.0,
        p_value=p_value if difference else 1.0,
        test=label,
        rows=count,
        detectable=_detectable(baseline, system, statistic, error, doubt),
        higher_is_better=higher_is_better,
        unit=unit,
        note=_note(baseline, system, statistic, unit),
    )


def _note(baseline: Numbers, system: Numbers, statistic: Statistic, unit: str) -> str:
    """What few rows can't show; empty where they are enough."""
    if len(system) < LEAST_ROWS:
        return f"fewer than {LEAST_ROWS} {unit} can't show a significant difference"
    different = _different(baseline, system)
    if statistic.kind in ("proportion", "percentage") or not 0 < different < LEAST_ROWS:
        return ""
    return f"only {counted(different, unit[:-1])} changed, so the interval may be too narrow"


def _why_not(before: float, now: float, count: int, unit: str) -> str:
    """Why no test can be made; empty where one can."""
    if not math.isfinite(before) or not math.isfinite(now):
        return "no test: a score is infinite" if not math.isnan(before) and not math.isnan(now) else "no test: a score is not a number"
    return f"no test: it needs two or more {unit}; `max_regression` sets a bound" if count < 2 else ""


def _p_value(chosen: str, baseline: Numbers, system: Numbers, statistic: Statistic, observed: float, seed: int) -> tuple[float, str]:
    rng = np.random.default_rng(seed)
    if chosen == "mcnemar":
        return _mcnemar(baseline[:, 0], system[:, 0]), "McNemar's exact test"
    if chosen == "randomization":
        return _randomization(baseline, system, statistic, observed, rng), "approximate randomization"
    resampled, count = _bootstrap_differences(baseline, system, statistic, rng), len(system)
    wider = t_quantile(count - 1) / Z_95 * math.sqrt(count / (count - 1))
    extreme = int((np.abs(resampled - resampled.mean()) * wider > observed).sum())
    return (extreme + 1) / (len(resampled) + 1), "two-sided paired bootstrap"


def _detectable(baseline: Numbers, system: Numbers, statistic: Statistic, error: float, doubt: float) -> float | None:
    """None below `LEAST_ROWS`, where nothing can be detected, and where the two systems' rows do not differ.

    doubt: the error's relative variance.
    """
    count = len(system)
    if count < LEAST_ROWS:
        return None
    if statistic.right_or_wrong:
        # McNemar's test sees one row less than there are (its continuity), and eight losses where six are needed.
        differing = max(8.0, float((baseline[:, 0] != system[:, 0]).sum()))
        return min(100.0, 100 * (1 + (t_quantile(count - 1) + t_quantile(count - 1, power=True)) * math.sqrt(differing)) / count)
    # the error is itself estimated, low on average, and an underestimate costs more power than an overestimate adds: to the second
    # order, power is 80% for a difference 1.68 times the doubt larger (73% of 10 rows without it)
    least = (t_quantile(count - 1) + t_quantile(count - 1, power=True)) * error * (1 + 2 * doubt)
    # a test needs six rows that change, as McNemar's does, so a few that changed by chance say too little
    least *= math.sqrt(max(1.0, 8 / max(1, _different(baseline, system))))
    most = statistic.bounds[1] - statistic.bounds[0] if statistic.kind == "percentage" else math.inf
    return min(least, most) if 0 < least < math.inf else None


def _different(baseline: Numbers, system: Numbers) -> int:
    """How many rows differ, but for rounding."""
    return int(changes(baseline, system).any(axis=1).sum())


def _bootstrap_differences(baseline: Numbers, system: Numbers, statistic: Statistic, rng: np.random.Generator) -> Numbers:
    """Score minus baseline on `RESAMPLES` draws of rows, the same rows for both."""
    count = len(system)
    out = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[None].astype(np.float64)
        out.append(statistic(times @ system)[0] - statistic(times @ baseline)[0])
    return np.array(out)


def _randomization(baseline: Numbers, system: Numbers, statistic: Statistic, observed: float, rng: np.random.Generator) -> float:
    """How often an exchange of the two systems' rows gives a difference at least as large."""
    both = sums_of(baseline)[0] + sums_of(system)[0]
    count = extreme = 0
    # a difference that is equal but for rounding is as large
    bound = observed * (1 - 1e-9) - 1e-12
    for chosen in exchanges(len(system), rng):
        first = sums_of(system) + chosen.astype(np.float64) @ (baseline - system)
        one, other = np.split(statistic(np.concatenate([first, both - first])), 2)
        extreme += int((np.abs(one - other) >= bound).sum())
        count += len(chosen)
    return extreme / count


def exchanges(count: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """Exchanges of rows, 2^`EXCHANGES` at most, in blocks [exchanges, rows]: 1 where a row is exchanged.

    They are all sums (modulo 2) of a few, and so a group: a test by a group has its level whatever the draw, one by as many
    independent draws only on average over draws (Hemerik and Goeman 2018). To exchange all other rows gives the same difference,
    so for few rows these are all that there are.
    """
    every = count - 1 <= EXCHANGES
    makers = np.eye(count, dtype=np.uint8)[1:] if every else rng.integers(0, 2, (EXCHANGES, count), dtype=np.uint8)
    block, inner = np.zeros((1, count), np.uint8), 0
    while inner < len(makers) and 2 * block.size <= _BLOCK:
        block = np.concatenate([block, block ^ makers[inner]])
        inner += 1
    outer, others = makers[inner:], np.zeros(count, np.uint8)
    for number in range(1 << len(outer)):
        if number:  # Gray's order: the next sum has one more or one less
            others ^= outer[(number & -number).bit_length() - 1]
        yield block ^ others


def _mcnemar(baseline: Numbers, system: Numbers) -> float:
    """Two-sided exact p of the rows on which the two disagree."""
    lost, won = int((baseline > system).sum()), int((system > baseline).sum())
    total = lost + won
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(lost, won) + 1))
    return float(min(1.0, 2 * tail / 2**total))
