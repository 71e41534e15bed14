"""Is one system better than another on the same rows, and how much of a difference could be seen at all?

Paired bootstrap: Koehn, Statistical Significance Tests for Machine Translation Evaluation (2004). Approximate
randomization: Riezler and Maxwell (2005). Both with sacrebleu's counts and definitions of p. McNemar's test: its exact
binomial form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from llmkit.errors import UsageError
from llmkit.metrics.intervals import percentile_interval
from llmkit.metrics.statistics import Numbers, Statistic, sums_of

RESAMPLES = 1000
SHUFFLES = 10_000
TESTS = ("auto", "bootstrap", "randomization", "mcnemar")
#: z of a two-sided 5% test, and of 80% power: what a difference must measure up to.
_Z_ALPHA, _Z_POWER = 1.959964, 0.841621


@dataclass(frozen=True)
class Comparison:
    """A score against its baseline.

    difference: score minus baseline, with a 95% interval. effect: the difference in standard deviations of a row's
    difference. detectable: the smallest difference that a two-sided 5% test sees in 80% of samples of this size.
    """

    name: str
    baseline: float
    value: float
    difference: float
    interval: tuple[float, float]
    effect: float
    p_value: float
    test: str
    rows: int
    detectable: float
    higher_is_better: bool

    @property
    def worse_by(self) -> float:
        """Above 0 when quality went down."""
        return -self.difference if self.higher_is_better else self.difference

    @property
    def significant(self) -> bool:
        return self.p_value < 0.05

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "better" if self.worse_by < 0 else "worse" if self.worse_by > 0 else "the same"
        return (
            f"{self.name}: {self.value:.6g} against {self.baseline:.6g}, {verdict} by {abs(self.difference):.4g} "
            f"(95% interval of the difference {low:+.4g} to {high:+.4g}; p = {self.p_value:.3g} by {self.test}, n = {self.rows:,})"
        )

    @property
    def power(self) -> str:
        return f"{self.name}: with n = {self.rows:,} a difference of {self.detectable:.3g} can be detected (two-sided 5% test, 80% power)"


def compare(
    name: str,
    baseline: Numbers,
    system: Numbers,
    statistic: Statistic,
    *,
    higher_is_better: bool,
    test: str = "auto",
    seed: int = 12345,
) -> Comparison:
    """Compares two systems on the same rows.

    baseline, system: units [rows, columns] in the same order. Raises UsageError for a test that does not apply.
    """
    if test not in TESTS:
        raise UsageError(f"--test {test}: unknown", hint=f"one of {', '.join(TESTS)}")
    rng = np.random.default_rng(seed)
    before, now = float(statistic(sums_of(baseline))[0]), float(statistic(sums_of(system))[0])
    difference = now - before
    resampled = _bootstrap_differences(baseline, system, statistic, rng)
    error = float(resampled.std())
    binary = statistic.kind == "mean" and set(np.unique(np.concatenate([baseline[:, 0], system[:, 0]]))) <= {0.0, 100.0}
    if test == "mcnemar" and not binary:
        raise UsageError(f"--test mcnemar: {name} is not right or wrong", hint="bootstrap or randomization")
    chosen = ("mcnemar" if binary else "bootstrap") if test == "auto" else test
    if chosen == "mcnemar":
        p_value, label = _mcnemar(baseline[:, 0], system[:, 0]), "McNemar's exact test"
    elif chosen == "randomization":
        p_value, label = _randomization(baseline, system, statistic, abs(difference), rng), "approximate randomization"
    else:
        extreme = int((np.abs(resampled - resampled.mean()) > abs(difference)).sum())
        p_value, label = (extreme + 1) / (len(resampled) + 1), "paired bootstrap"
    return Comparison(
        name=name,
        baseline=before,
        value=now,
        difference=difference,
        interval=percentile_interval(resampled),
        effect=difference / (error * math.sqrt(len(system))) if error else 0.0,
        p_value=p_value if difference else 1.0,
        test=label,
        rows=len(system),
        detectable=(_Z_ALPHA + _Z_POWER) * error,
        higher_is_better=higher_is_better,
    )


def _bootstrap_differences(baseline: Numbers, system: Numbers, statistic: Statistic, rng: np.random.Generator) -> Numbers:
    """Score minus baseline on `RESAMPLES` draws of rows, the same rows for both."""
    count = len(system)
    out = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[None].astype(np.float64)
        out.append(statistic(times @ system)[0] - statistic(times @ baseline)[0])
    return np.array(out)


def _randomization(baseline: Numbers, system: Numbers, statistic: Statistic, observed: float, rng: np.random.Generator) -> float:
    """How often a random exchange of the two systems' rows gives a difference at least as large."""
    both = sums_of(baseline)[0] + sums_of(system)[0]
    step, extreme = max(1, (1 << 22) // len(system)), 0
    for start in range(0, SHUFFLES, step):
        chosen = rng.integers(0, 2, (min(step, SHUFFLES - start), len(system))).astype(np.float64)
        first = chosen @ baseline + (1 - chosen) @ system
        extreme += int((np.abs(statistic(first) - statistic(both - first)) >= observed - 1e-12).sum())
    return (extreme + 1) / (SHUFFLES + 1)


def _mcnemar(baseline: Numbers, system: Numbers) -> float:
    """Two-sided exact p of the rows on which the two disagree."""
    lost, won = int((baseline > system).sum()), int((system > baseline).sum())
    total = lost + won
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(lost, won) + 1))
    return float(min(1.0, 2 * tail / 2**total))
