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


def test_bleu_of_rows_that_hardly_match_has_no_interval() -> None:
    """Two rows share four words with their reference: the rest of the score is smoothing."""
    few = bleu([*(refs[0] for refs in REFERENCES[:2]), *["the sea by a cat"] * 6], REFERENCES, OverlapSettings())
    assert few.value > 0
    assert few.interval is None


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
