"""BLEU, chrF and TER have intervals as all other scores, and exchanges of rows are those of an exact test."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from llmkit.metrics.overlap import OverlapSettings, bleu, chrf, ter
from llmkit.metrics.significance import compare, exchanges
from llmkit.metrics.statistics import Statistic, mean_units

REFERENCES = [[f"the {a} went to the {b} by the {c}"] for a, b, c in itertools.product(("king", "cat"), ("house", "boat"), ("sea", "hill"))]
#: Every other one lacks its end, by one word more each time.
OUTPUTS = [" ".join(refs[0].split()[: -(i // 2) - 1 if i % 2 else None]) for i, refs in enumerate(REFERENCES)]


@pytest.mark.parametrize("metric", [bleu, chrf, ter])
def test_scores_of_sacrebleu_have_an_interval_within_their_range(metric: object) -> None:
    assert callable(metric)
    score = metric(OUTPUTS, REFERENCES, OverlapSettings())
    assert score.interval is not None
    low, high = score.interval
    assert 0 < low < score.value < high
    assert high < 100 or metric is ter


def test_near_an_end_of_its_range_an_interval_reaches_farther_inwards() -> None:
    score = chrf([*OUTPUTS[:2], *(refs[0] for refs in REFERENCES[2:])], REFERENCES, OverlapSettings())
    assert score.interval is not None
    low, high = score.interval
    assert 100 - score.value > high - score.value > 0
    assert score.value - low > high - score.value


def test_bleu_of_rows_of_which_none_matches_has_no_interval() -> None:
    """Where no row shares four words with its reference, the score is made by smoothing."""
    none = bleu(["the sea by a cat"] * 8, REFERENCES, OverlapSettings())
    assert none.value > 0
    assert none.interval is None
    one = bleu([REFERENCES[0][0], *["the sea by a cat"] * 7], REFERENCES, OverlapSettings())
    assert one.interval is not None
    assert one.interval[1] > 3 * one.interval[0]


@pytest.mark.parametrize("kind", ["mean", "rate", "exp"])
def test_of_all_exchanges_of_equal_systems_at_most_one_in_twenty_is_significant(kind: str) -> None:
    """Each exchange is as likely as any other where the systems are equal, so this is the share of false alarms without an error."""
    rng, count = np.random.default_rng(4), 8
    tokens = np.ceil(rng.lognormal(3, 0.7, (2, count)))
    one, other = (np.stack([n * rng.normal(3, 0.5, count), n], 1) for n in tokens)
    found = 0
    for chosen in itertools.product((False, True), repeat=count):
        exchanged = np.array(chosen)[:, None]
        before, now = np.where(exchanged, other, one), np.where(exchanged, one, other)
        found += compare("x", before, now, Statistic(kind), higher_is_better=True).significant
    assert found / 2**count == pytest.approx(0.046875)  # 12 of 256: the most below 0.05 of exchanges that come in pairs


def test_heavy_tails_state_a_larger_difference_that_can_be_detected() -> None:
    """Few rows with large differences estimate their spread poorly, which costs power."""
    even, heavy = np.tile([-1.0, 1.0], 20), np.array([-1.0, 1.0] * 2 + [0.0] * 36) * 10**0.5
    stated = [
        compare("x", mean_units([50.0] * 40), mean_units([*(50 + d + 0.01)]), Statistic("mean"), higher_is_better=True).detectable
        for d in (even, heavy)
    ]
    assert stated[0] is not None
    assert stated[1] is not None
    assert stated[1] / stated[0] == pytest.approx((1 + 2 * 9 / 160) / (1 + 1 / 39))


def test_the_bootstrap_of_sacrebleu_is_said_to_be_narrow_over_few_rows(run: Run, tmp_path: Path) -> None:
    files = []
    for name, lines in (("hyp", OUTPUTS), ("ref", [refs[0] for refs in REFERENCES])):
        files.append(tmp_path / name)
        files[-1].write_text("".join(line + "\n" for line in lines * 7))
    few = run("evaluate", "bleu", "-p", files[0], "-r", files[1], "-ci", "--json", "--limit", "8")
    assert "too narrow over fewer than 50 rows" in few.err
    alone = run("evaluate", "bleu", "-p", files[0], "-r", files[1], "--json", "--limit", "8")
    assert alone.err == ""
    narrow, wide = (json.loads(ran.out)["intervals"]["bleu"] for ran in (few, alone))
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert run("evaluate", "bleu", "-p", files[0], "-r", files[1], "-ci", "--json").err == ""


@pytest.mark.parametrize("count", [6, 9])
def test_few_rows_are_exchanged_in_every_way(count: int) -> None:
    rng = np.random.default_rng(count)
    before, now = rng.normal(50, 10, count), rng.normal(60, 10, count)
    found = compare("x", mean_units([*before]), mean_units([*now]), Statistic("mean"), higher_is_better=True)
    signs = np.array(list(itertools.product((1, -1), repeat=count)))
    exact = float((np.abs(signs @ (now - before)) >= abs((now - before).sum()) - 1e-9).mean())
    assert found.p_value == pytest.approx(exact)


def test_many_rows_are_exchanged_as_a_group() -> None:
    """Two exchanges one after the other are a third one, so the test keeps its level whatever the draw."""
    found = {row.tobytes() for block in exchanges(40, np.random.default_rng(3)) for row in block}
    assert len(found) == 2**13
    some = [np.frombuffer(row, np.uint8) for row in list(found)[:60]]
    assert all((one ^ other).tobytes() in found for one, other in itertools.combinations(some, 2))
