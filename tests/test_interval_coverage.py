"""Simulations: intervals hold the truth, tests raise few false alarms, and the stated difference is found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from llmkit.metrics.intervals import interval_of, paired_interval
from llmkit.metrics.significance import Comparison, compare, exchanges
from llmkit.metrics.statistics import Numbers, Statistic, mean_units, sacrebleu_metric, sacrebleu_units, sums_of

pytestmark = pytest.mark.slow
WORDS = ["the", "king", "and", "queen", "lived", "in", "a", "small", "old", "house"]
REFERENCES = [" ".join(np.random.default_rng(i).choice(WORDS, 5 + i % 20)) for i in range(2000)]
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


def sentences(noise: tuple[float, float], lengths: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Outputs and references: words are lost, added and exchanged, in some sentences more than in others (a beta distribution)."""
    rng = np.random.default_rng(1)
    words = np.array([f"{'aeiou'[i % 5] * (i % 4)}w{i}" for i in range(400)])
    often = 1 / np.arange(1, 401) ** 0.9
    outputs, references = [], []
    for _ in range(3000):
        reference = rng.choice(words, int(rng.integers(*lengths)), p=often / often.sum())
        error, out = rng.beta(*noise), []
        for word in reference:
            luck = rng.random()
            if luck >= 0.2 * error:
                out.append(word if luck >= error else rng.choice(words))
            if rng.random() < 0.15 * error:
                out.append(rng.choice(words))
        outputs.append(" ".join(out))
        references.append(" ".join(reference))
    return outputs, references


#: Good outputs, poor ones, nearly right ones and short ones.
CORPORA = {"good": ((2, 5), (5, 30)), "poor": ((4, 4), (5, 30)), "right": ((1, 20), (5, 30)), "short": ((2, 5), (3, 9))}


@functools.cache
def corpus(name: str, metric: str) -> Numbers:
    """The units of 3,000 sentences."""
    outputs, references = sentences(*CORPORA[name])
    return sacrebleu_units(sacrebleu_metric(metric, {}), outputs, [references])


def drawn(units: Numbers) -> Draw:
    return lambda rng, count: units[rng.integers(0, len(units), count)]


@dataclass(frozen=True)
class FastBleu(Statistic):
    """sacrebleu's BLEU (exponential smoothing) of many sums at once."""

    def __call__(self, sums: Numbers) -> Numbers:
        matches, all_of_them = sums[:, 2:6], sums[:, 6:10]
        with np.errstate(all="ignore"):
            smoothed = 1 / (2.0 ** np.cumsum(matches == 0, 1) * all_of_them)
            precisions = np.where(matches == 0, smoothed, matches / all_of_them)
            brevity = np.minimum(1, np.exp(1 - sums[:, 1] / sums[:, 0]))
            score = 100 * brevity * np.exp(np.log(precisions).mean(1))
        return np.where((matches.sum(1) == 0) | (all_of_them.min(1) == 0), 0, score)


def test_the_fast_bleu_is_sacrebleus() -> None:
    draw, rng = drawn(corpus("poor", "bleu")), np.random.default_rng(0)
    sums = np.stack([draw(rng, count).sum(0) for count in (1, 2, 3, 5, 10, 100) for _ in range(50)])
    assert FastBleu("bleu")(sums) == pytest.approx(Statistic("bleu")(sums))


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


@pytest.mark.parametrize("count", [10, 20, 50, 200])
@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("name", CORPORA)
def test_intervals_of_bleu_chrf_and_ter_hold_the_truth(name: str, metric: str, count: int) -> None:
    units, statistic = corpus(name, metric), Statistic(metric)
    truth, rng = float(statistic(sums_of(units))[0]), np.random.default_rng(count)
    found = [interval_of(drawn(units)(rng, count), statistic) for _ in range(2000)]
    there = [ends for ends in found if ends is not None]
    assert len(there) > 0.98 * len(found)
    assert 0.93 <= sum(low <= truth <= high for low, high in there) / len(there) <= 0.97


@pytest.mark.parametrize(("count", "least", "most"), [(10, 0.80, 0.92), (50, 0.92, 0.97), (200, 0.93, 0.97)])
@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_the_bootstrap_of_sacrebleu_is_narrow_below_fifty_rows(metric: str, count: int, least: float, most: float) -> None:
    """What `--confidence` shows, which is sacrebleu's to the last digit (tests/test_scores.py)."""
    units, statistic = corpus("good", metric), FastBleu("bleu") if metric == "bleu" else Statistic(metric)
    truth, rng, inside, trials = float(statistic(sums_of(units))[0]), np.random.default_rng(count), 0, 300 if metric != "bleu" else 1000
    for _ in range(trials):
        rows = drawn(units)(rng, count)
        scores = np.sort(statistic(rng.multinomial(count, np.full(count, 1 / count), 1000).astype(np.float64) @ rows))
        inside += abs(truth - scores.mean()) <= (scores[-26] - scores[25]) / 2
    assert least <= inside / trials <= most


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


@pytest.mark.parametrize("count", [6, 10, 30, 100])
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


def test_the_stated_difference_of_bleu_is_found() -> None:
    """A run states a difference; as many rows as would state the true one find that in 80% of runs."""
    rng, found, trials, count = np.random.default_rng(5), 0, 1000, 100
    units = [sacrebleu_units(sacrebleu_metric("bleu", {}), texts, [REFERENCES]) for texts in (noisy(0.20, 1), noisy(0.23, 2))]
    statistic = FastBleu("bleu")
    true = abs(float((statistic(sums_of(units[0])) - statistic(sums_of(units[1])))[0]))
    for _ in range(trials):
        first = rng.integers(0, len(REFERENCES), count)
        stated = compare("bleu", units[0][first], units[1][first], statistic, higher_is_better=True).detectable
        assert stated is not None
        rows = rng.integers(0, len(REFERENCES), round(count * (stated / true) ** 2))
        found += compare("bleu", units[0][rows], units[1][rows], statistic, higher_is_better=True).significant
    assert found / trials >= 0.80 - 2 * (0.8 * 0.2 / trials) ** 0.5


@pytest.mark.parametrize(("kind", "count"), [("mean", 10), ("mean", 30), ("mean", 200), ("proportion", 200)])
def test_the_stated_difference_is_found(kind: str, count: int) -> None:
    assert found_when_stated(kind, count, 2000) >= 0.80 - 2 * (0.8 * 0.2 / 2000) ** 0.5


@pytest.mark.parametrize("name", ["good", "short"])
@pytest.mark.parametrize("kind", ["percentage", "exp", "rate", "bleu"])
def test_of_all_exchanges_of_equal_systems_at_most_one_in_twenty_is_significant(kind: str, name: str) -> None:
    """1,024 A/A runs that are all there can be of ten pairs of rows, so their share of false alarms has no sampling error."""
    rng, count = np.random.default_rng(len(name)), 10
    draw = {"percentage": percentages, "exp": documents, "rate": errors, "bleu": drawn(corpus(name, "bleu"))}[kind]
    statistic, (one, other), found = FastBleu("bleu") if kind == "bleu" else Statistic(kind), (draw(rng, count), draw(rng, count)), 0
    for number in range(1 << count):
        exchanged = (number >> np.arange(count) & 1).astype(bool)[:, None]
        before, after = np.where(exchanged, other, one), np.where(exchanged, one, other)
        found += compare("x", before, after, statistic, higher_is_better=True).significant
    assert 0.04 <= found / (1 << count) <= 0.05


def test_the_exchanges_that_a_test_draws_of_many_rows_give_as_few_false_alarms() -> None:
    """8,192 A/A runs of 30 documents, of which the test draws as many exchanges: a group, so that each run is tested by the same ones."""
    rng = np.random.default_rng(2)
    one, other, found = documents(rng, 30), documents(rng, 30), 0
    group = np.concatenate(list(exchanges(30, np.random.default_rng(12345)))).astype(bool)
    for exchanged in group[:, :, None]:
        before, after = np.where(exchanged, other, one), np.where(exchanged, one, other)
        found += compare("x", before, after, Statistic("exp"), higher_is_better=False).significant
    assert len(group) == 8192
    assert 0.045 <= found / len(group) <= 0.05


@pytest.mark.parametrize("count", [6, 10, 30, 100])
def test_the_bootstrap_of_equal_systems_is_rarely_significant(count: int) -> None:
    # by 1,000 resamples, and only on average over sets: 5% and four standard errors of 1,000 trials
    assert rejected("percentage", percentages, count, 1000, "bootstrap") <= 0.05 + 4 * (0.05 * 0.95 / 1000) ** 0.5


@pytest.mark.parametrize("count", [10, 30, 100])
def test_the_interval_of_a_difference_of_bleu_holds_the_truth(count: int) -> None:
    rng, inside, statistic = np.random.default_rng(count), 0, FastBleu("bleu")
    before, after = (sacrebleu_units(sacrebleu_metric("bleu", {}), noisy(*made), [REFERENCES]) for made in ((0.20, 1), (0.23, 2)))
    truth = float((statistic(sums_of(after)) - statistic(sums_of(before)))[0])
    for _ in range(2000):
        rows = rng.integers(0, len(REFERENCES), count)
        difference = float((statistic(sums_of(after[rows])) - statistic(sums_of(before[rows])))[0])
        found, *_ = paired_interval(before[rows], after[rows], statistic, difference)
        inside += found is not None and found[0] <= truth <= found[1]
    assert 0.93 <= inside / 2000 <= 0.97


def changes(share: float, largest: bool) -> Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]:
    """Rows from 0 to 100, a share of which loses, much or anything."""

    def draw(rng: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
        lost = (rng.random(count) < share) * (100 * rng.beta(8, 2, count) if largest else 100 * rng.random(count))
        return mean_units([100.0] * count), mean_units(list(100 - lost))

    return draw


@pytest.mark.parametrize("count", [10, 20, 50, 200])
@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("largest", [False, True])
def test_the_interval_of_a_difference_holds_the_truth_where_few_rows_change(share: float, largest: bool, count: int) -> None:
    """Agresti and Min's interval may be wider than such rows need; Student's t held the truth in 58% of ten."""
    draw, rng, inside = changes(share, largest), np.random.default_rng(count), 0
    for _ in range(2000):
        before, after = draw(rng, count)
        found, *_ = paired_interval(before, after, Statistic("percentage"), float((after - before)[:, 0].mean()))
        inside += found is not None and found[0] <= -100 * share * (0.8 if largest else 0.5) <= found[1]
    assert inside / 2000 >= 0.93


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


def noisy(share: float, seed: int) -> list[str]:
    """The references with a share of the words exchanged, in some sentences more than in others."""
    rng = np.random.default_rng(seed)
    shares = share * 2 * np.random.default_rng(9).beta(2, 2, len(REFERENCES))
    return [
        " ".join(w if rng.random() >= own else str(rng.choice(WORDS)) for w in text.split())
        for own, text in zip(shares, REFERENCES, strict=True)
    ]


@pytest.mark.parametrize("count", [10, 30, 100])
def test_equal_systems_are_rarely_called_different_by_bleu(count: int) -> None:
    """A thousand A/A runs of two outputs for the same sentences."""
    rng, found, statistic = np.random.default_rng(11), 0, FastBleu("bleu")
    one, other = (sacrebleu_units(sacrebleu_metric("bleu", {}), noisy(0.2, seed), [REFERENCES]) for seed in (1, 2))
    for _ in range(1000):
        rows, exchanged = rng.integers(0, len(REFERENCES), count), rng.random((count, 1)) < 0.5
        before, after = np.where(exchanged, other[rows], one[rows]), np.where(exchanged, one[rows], other[rows])
        found += compare("bleu", before, after, statistic, higher_is_better=True).significant
    assert found / 1000 <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


@pytest.mark.parametrize("count", [10, 30, 100])
def test_equal_systems_of_sampled_answers_are_rarely_called_different(count: int) -> None:
    assert rejected("percentage", samples, count, 1000) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
