"""Simulations: intervals hold the truth, tests raise few false alarms, and the stated difference is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from llmkit.metrics.intervals import interval_of
from llmkit.metrics.significance import Comparison, compare
from llmkit.metrics.statistics import Numbers, Statistic, mean_units, sacrebleu_metric, sacrebleu_units, sums_of

pytestmark = pytest.mark.slow
WORDS = ["the", "king", "and", "queen", "lived", "in", "a", "small", "old", "house"]
Draw = Callable[[np.random.Generator, int], Numbers]


def right_or_wrong(share: float) -> Draw:
    return lambda rng, count: mean_units(list(100.0 * (rng.random(count) < share)))


def percentages(rng: np.random.Generator, count: int) -> Numbers:
    return mean_units(list(100 * rng.beta(4, 2, count)))


def documents(rng: np.random.Generator, count: int) -> Numbers:
    """(log-likelihood, tokens) of documents of lognormal length."""
    tokens = np.ceil(rng.lognormal(5, 0.7, count))
    return np.stack([-tokens * rng.normal(3, 0.4, count), tokens], 1)


def errors(rng: np.random.Generator, count: int) -> Numbers:
    """(100 * errors, words) of sentences."""
    words = rng.integers(5, 30, count)
    return np.stack([100.0 * rng.binomial(words, rng.beta(4, 12, count)), words.astype(np.float64)], 1)


def held(draw: Draw, statistic: Statistic, count: int, truth: float, trials: int = 2000) -> float:
    """The share of trials whose interval holds the truth."""
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(trials):
        found = interval_of(draw(rng, count), statistic)
        inside += found is not None and found[0] <= truth <= found[1]
    return inside / trials


def true_value(draw: Draw, statistic: Statistic) -> float:
    return float(statistic(sums_of(draw(np.random.default_rng(1), 2_000_000)))[0])


@pytest.mark.parametrize("count", [10, 20, 50, 200])
@pytest.mark.parametrize(
    ("draw", "kind"), [(percentages, "percentage"), (documents, "exp"), (documents, "bits"), (documents, "log"), (errors, "rate")]
)
def test_intervals_of_means_and_ratios_hold_the_truth(draw: Draw, kind: str, count: int) -> None:
    statistic = Statistic(kind)
    assert 0.93 <= held(draw, statistic, count, true_value(draw, statistic)) <= 0.97


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_of_perplexity_holds_the_truth_over_few_documents(count: int) -> None:
    assert 0.93 <= held(documents, Statistic("exp"), count, true_value(documents, Statistic("exp"))) <= 0.98


@pytest.mark.parametrize("count", [10, 20, 50, 100])
def test_wilsons_intervals_hold_the_truth_on_average_over_proportions(count: int) -> None:
    # rows are whole numbers, so the coverage at one proportion jumps about the nominal one
    shares = np.linspace(0.02, 0.98, 25)
    found = [held(right_or_wrong(float(p)), Statistic("proportion"), count, 100 * float(p), 400) for p in shares]
    assert 0.93 <= float(np.mean(found)) <= 0.97
    assert min(found) > 0.80


def rejected(kind: str, draw: Draw, count: int, trials: int, test: str = "auto") -> float:
    """The share of A/A runs that are called significant."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(trials):
        found += compare("x", draw(rng, count), draw(rng, count), Statistic(kind), higher_is_better=True, test=test).significant
    return found / trials


@pytest.mark.parametrize("count", [6, 10, 30])
@pytest.mark.parametrize(("draw", "kind"), [(percentages, "percentage"), (documents, "exp"), (right_or_wrong(0.8), "proportion")])
def test_equal_systems_are_rarely_called_different(draw: Draw, kind: str, count: int) -> None:
    # 5% and three standard errors of 1,000 trials
    assert rejected(kind, draw, count, 1000) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def found_when_stated(kind: str, count: int, trials: int) -> float:
    """The share of runs that call a difference significant which is as large as another run of as many rows stated."""
    rng, found = np.random.default_rng(3), 0
    for _ in range(trials):
        if kind == "mean":
            base = rng.normal(50, 10, count)
            stated = compared(kind, base, base + rng.normal(0, 5, count))
            other = base + rng.normal(0, 5, count) - (stated.detectable or 0)
        else:
            base = np.where(rng.random(count) < 0.8, 100.0, 0.0)
            flipped = rng.random(count) < 0.1
            stated = compared(kind, base, np.where(flipped, 100 - base, base))
            # as many rows differ, and as many more of them are lost as were stated
            differing = max(8.0, float(flipped.sum())) / count
            lost = (differing + (stated.detectable or 0) / 100) / 2
            draw = rng.random(count)
            other = np.where(draw < lost, 0.0, np.where(draw < differing, 100.0, 50.0))
            base = np.where(draw < lost, 100.0, np.where(draw < differing, 0.0, 50.0))
        found += compared(kind, base, other).significant
    return found / trials


def compared(kind: str, baseline: Numbers, system: Numbers) -> Comparison:
    return compare("x", mean_units(list(baseline)), mean_units(list(system)), Statistic(kind), higher_is_better=True)


@pytest.mark.parametrize(("kind", "count"), [("mean", 10), ("mean", 30), ("mean", 200), ("proportion", 200)])
def test_the_stated_difference_is_found(kind: str, count: int) -> None:
    assert found_when_stated(kind, count, 300) >= 0.80 - 2 * (0.8 * 0.2 / 300) ** 0.5


def samples(rng: np.random.Generator, count: int) -> Numbers:
    """Rows of eight sampled answers each, of which as many pass as the row is easy."""
    return mean_units(list(100.0 * rng.binomial(8, rng.beta(2, 2, count)) / 8))


@pytest.mark.parametrize("count", [10, 30, 100])
def test_the_interval_of_a_pass_rate_holds_the_truth(count: int) -> None:
    assert 0.93 <= held(samples, Statistic("percentage"), count, 50.0) <= 0.97


@pytest.mark.parametrize("count", [10, 30, 100])
def test_the_interval_of_a_macro_average_holds_the_truth(count: int) -> None:
    """Three files whose levels lie far apart, `count` documents each."""
    from llmkit.metrics.macro import macro_average
    from llmkit.metrics.perplexity import Likelihood, scores

    rng, levels, inside = np.random.default_rng(count), (2.0, 3.0, 5.0), 0
    for _ in range(1000):
        files = []
        for level in levels:
            tokens = np.ceil(rng.lognormal(5, 0.5, count))
            losses = tokens * rng.normal(level, 0.3, count)
            found = [Likelihood(-float(loss), int(n), int(n), int(n)) for loss, n in zip(losses, tokens, strict=True)]
            files.append(next(s for s in scores(found, protocol="p", tokenizer="t") if s.name == "bits_per_byte"))
        average = macro_average(files)
        assert average is not None
        assert average.interval is not None
        inside += average.interval[0] <= float(np.mean(levels)) / np.log(2) <= average.interval[1]
    assert 0.93 <= inside / 1000 <= 0.97


@pytest.mark.parametrize("count", [10, 30, 100])
def test_the_interval_of_a_divergence_holds_the_truth(count: int) -> None:
    def divergences(rng: np.random.Generator, count: int) -> Numbers:
        tokens = np.ceil(rng.lognormal(5, 0.5, count))
        return np.stack([tokens * rng.gamma(8, 0.002 / 8, count), tokens], 1)

    assert 0.93 <= held(divergences, Statistic("rate"), count, 0.002) <= 0.97


def false_alarms(kind: str, trials: int) -> float:
    """The share of A/A runs of 12 rows that are called significant: of sampled answers, or of BLEU over the same sentences."""
    rng, found = np.random.default_rng(11), 0
    for _ in range(trials):
        if kind == "percentage":
            found += compare("x", samples(rng, 12), samples(rng, 12), Statistic(kind), higher_is_better=True).significant
            continue
        references = [" ".join(rng.choice(WORDS, 8)) for _ in range(12)]
        texts = [[" ".join(w if rng.random() < 0.8 else rng.choice(WORDS) for w in ref.split()) for ref in references] for _ in range(2)]
        before, after = (sacrebleu_units(sacrebleu_metric("bleu", {}), each, [references]) for each in texts)
        found += compare("bleu", before, after, Statistic("bleu"), higher_is_better=True).significant
    return found / trials


@pytest.mark.parametrize("kind", ["bleu", "percentage"])
def test_equal_systems_with_baseline_raise_few_false_alarms_in_a_thousand_runs(kind: str) -> None:
    assert false_alarms(kind, 1000) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
