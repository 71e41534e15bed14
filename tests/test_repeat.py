"""--repeat: several sampled answers to each row, how many of them pass, and what that shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from conftest import Run, read_rows, write_rows

from llmkit.metrics.answers import exact_match
from llmkit.metrics.overlap import OverlapSettings, bleu
from llmkit.metrics.repeated import over_samples, pass_rates

COMMAND = ["evaluate", "score", "-m", "builtin:stories", "--max-new-tokens", "2", "--temperature", "1", "--top-k", "3"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [{"prompt": f"{who} said", "reference": " to"} for who in ("The king", "A boy", "She")])


def test_the_rate_is_the_share_of_all_samples_that_pass(run: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = run(*COMMAND, "-i", rows, "--repeat", "8", "--metrics", "f1,exact_match", "--normalize", "punctuation,space", "-o", out, "--json")
    assert ran.code == 0, ran.err
    found, answers = json.loads(ran.out), [row["predictions"] for row in read_rows(out)]
    assert [len(own) for own in answers] == [8, 8, 8]
    assert len({text for own in answers for text in own}) > 1
    flat = [text for own in answers for text in own]
    alone = exact_match(flat, [[" to"]] * 24, ("punctuation", "space"))
    assert found["scores"]["pass_rate"] == found["scores"]["exact_match"] == pytest.approx(alone.value)
    assert "repeat:8" in found["signatures"]["f1"]
    assert found["signatures"]["pass_rate"].endswith("of:exact_match")
    assert found["rows"] == 3
    assert "pass_rate" in found["intervals"]


def test_samples_follow_from_the_seed_row_by_row(run: Run, rows: Path, tmp_path: Path) -> None:
    def answers(name: str, *options: str) -> list[list[str]]:
        assert run(*COMMAND, "-i", rows, "-o", tmp_path / name, *options).code == 0
        found: list[list[str]] = [row["predictions"] for row in read_rows(tmp_path / name)]
        return found

    four = answers("a.jsonl", "--repeat", "4")
    assert answers("b.jsonl", "--repeat", "4", "--batch-size", "1") == four
    assert [own[:4] for own in answers("c.jsonl", "--repeat", "6")] == four
    assert answers("d.jsonl", "--repeat", "4", "--seed", "1") != four


def test_rows_count_by_all_any_and_share_of_their_samples() -> None:
    predictions = ["a", "a", "a", "b", "b", "b"]
    one = exact_match(predictions, [["a"]] * 6, ())
    rate, every, some = pass_rates([one], 2)
    assert (rate.name, every.name, some.name) == ("pass_rate", "pass_all", "pass_any")
    assert (rate.value, every.value, some.value) == pytest.approx((50, 100 / 3, 200 / 3))
    assert rate.units is not None
    assert len(rate.units) == 3


def test_the_samples_of_a_row_are_one_unit_of_the_interval() -> None:
    rng, inside, narrow = np.random.default_rng(1), 0, 0
    for _ in range(300):
        shares = rng.beta(2, 2, 20)
        right = rng.random((20, 8)) < shares[:, None]
        score = exact_match(["a" if value else "b" for value in right.ravel()], [["a"]] * 160, ())
        found = over_samples(score, 8).interval
        assert found is not None
        assert score.interval is not None
        inside += found[0] <= 50 <= found[1]
        narrow += score.interval[0] <= 50 <= score.interval[1]
    assert 0.92 * 300 <= inside <= 0.98 * 300
    assert narrow < 0.85 * 300  # as if all samples were rows


def test_a_corpus_score_is_that_of_all_samples() -> None:
    predictions, references = ["the cat sat", "a cat sat down", "it rained", "it rains"], [["the cat sat"]] * 2 + [["it rained today"]] * 2
    score = over_samples(bleu(predictions, references, OverlapSettings()), 2)
    assert score.value == sacrebleu.corpus_bleu(predictions, [[r[0] for r in references]]).score
    assert score.units is not None
    assert len(score.units) == 2


def test_gates_and_baselines_hold_the_rate(run: Run, rows: Path, tmp_path: Path) -> None:
    command, base = [*COMMAND, "-i", rows, "--repeat", "3", "--metrics", "exact_match"], tmp_path / "base.json"
    assert run(*command, "--fail-if", "pass_rate < 99", "--report", base).code == 4
    assert run(*command, "--baseline", base, "--max-regression", "1").code == 0
    more = run(*COMMAND, "-i", rows, "--repeat", "4", "--metrics", "exact_match", "--baseline", base)
    assert more.code == 2
    assert "two different signatures" in more.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repeat", "3", "--temperature", "0", "--top-k", "3"], "all answers are the same"), (["--repeat", "0"], "1 or more"),
        (["--repeat", "3", "--metrics", "bleu", "-ci"], "--repeat"), (["--repeat", "3", "--num-beams", "2"], "does not sample"),
        (["--repeat", "3", "--metrics", "f1", "--fail-if", "pass_rate < 1"], "no 'pass_rate'"),
    ],
)  # fmt: skip
def test_what_makes_no_samples_is_refused_before_the_model_loads(run: Run, rows: Path, options: list[str], said: str) -> None:
    ran = run(*COMMAND, "-m", "no-such-model", "-i", rows, *options)
    assert ran.code == 2
    assert said in ran.err


def test_saved_outputs_are_not_sampled(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "saved.jsonl", [{"prediction": "a", "reference": "a"}])
    ran = run("evaluate", "score", "-i", rows, "--metrics", "exact_match", "--repeat", "3")
    assert ran.code == 2
    assert "needs --model" in ran.err
