"""A learning rate is suggested by a few steps at rising rates, of which nothing is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from conftest import Run, write_rows

from llmkit.training.lr_finder import rising, suggestion


def test_rates_rise_by_the_same_factor() -> None:
    rates = rising(1e-4, 1e-1, 4)
    assert rates == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1))


def test_the_rate_where_the_loss_falls_fastest_is_suggested() -> None:
    rates = rising(1e-6, 1.0, 61)  # ten a decade
    # falls from 3 to 1 around 1e-3, then blows up beyond 1e-1
    losses = [3 - 2 / (1 + math.exp(-4 * (math.log10(r) + 3))) + (50 * r if r > 0.1 else 0) for r in rates]
    found = suggestion(rates, losses)
    assert found is not None
    assert 1e-3 < found < 1e-2  # the mean follows the loss by some steps


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    assert suggestion(rising(1e-6, 1.0, 10), [1.0 + i for i in range(10)]) is None


def test_a_fall_that_the_rows_may_have_made_suggests_nothing() -> None:
    rates = rising(1e-6, 1.0, 100)
    differing = [3.0 + (0.5 if i % 2 else -0.5) for i in range(100)]
    assert suggestion(rates, differing) is None
    clear = [loss - (1.0 if rate > 1e-3 else 0.0) for rate, loss in zip(rates, differing, strict=True)]
    found = suggestion(rates, clear)
    assert found is not None
    assert 5e-4 < found < 1e-2


def test_a_run_is_asked_for_its_rate_and_nothing_is_written(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    done = run("finetune", texts, "-m", gpt2, "--find-lr", "--json", "--lora-r", "4", "--batch-size", "4")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["rates"] == sorted(found["rates"])
    assert len(found["rates"]) == len(found["losses"]) > 20
    assert found["rates"][0] < found["suggested"] < found["rates"][-1]
    assert [path.name for path in tmp_path.iterdir()] == [texts.name]


@pytest.mark.parametrize(
    "options", [["--dry-run"], ["-o", "out"], ["--learning-rate", "1e-3"], ["--epochs", "2"], ["--save-steps", "5"], ["--no-watch"]]
)
def test_what_would_have_no_effect_is_refused(run: Run, tmp_path: Path, options: list[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}])
    done = run("finetune", rows, "--find-lr", *options)
    assert done.code == 2
    assert "cannot be combined with" in done.err
