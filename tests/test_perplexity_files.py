"""Perplexity of several files: each file's own, of all documents together, and the average in which each file counts the same."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, write_rows

from llmkit.metrics.macro import macro_average
from llmkit.metrics.perplexity import Likelihood, scores

SHORT = ["The boy ran home.", "She opened the window and looked at the sea.", "They walked along the river until it was dark."]


@pytest.fixture
def files(tmp_path: Path, ragged: list[str]) -> tuple[Path, Path]:
    return (
        write_rows(tmp_path / "long.jsonl", [{"text": t} for t in ragged if t.count(" ") > 4]),
        write_rows(tmp_path / "short.jsonl", [{"text": t} for t in SHORT]),
    )


def test_each_file_counts_the_same_in_the_macro_average(run: Run, files: tuple[Path, Path]) -> None:
    ran = run("evaluate", "perplexity", "-i", files[0], "-i", files[1], "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    alone = [json.loads(run("evaluate", "perplexity", "-i", path, "--json").out) for path in files]
    parts = list(found["parts"].values())
    for part, own in zip(parts, alone, strict=True):
        assert part["scores"] == pytest.approx(own["scores"], rel=1e-6)
        assert part["signatures"] == own["signatures"]
    one, other = (part["scores"] for part in parts)
    assert found["scores"]["macro_bits_per_byte"] == pytest.approx((one["bits_per_byte"] + other["bits_per_byte"]) / 2)
    geometric = math.sqrt(one["token_perplexity"] * other["token_perplexity"])
    assert found["scores"]["macro_token_perplexity"] == pytest.approx(geometric)
    total = sum(part["scores"]["mean_log_likelihood"] * part["counts"]["tokens"] for part in parts)
    assert found["scores"]["mean_log_likelihood"] == pytest.approx(total / found["counts"]["tokens"])
    assert found["signatures"]["macro_bits_per_byte"].endswith("average:macro|files:2")
    assert found["rows"] == sum(part["rows"] for part in parts)


def test_a_macro_average_has_gates_and_a_baseline(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    base, command = tmp_path / "base.json", ["evaluate", "perplexity", "-i", files[0], "-i", files[1]]
    assert run(*command, "--report", base, "-q").code == 0
    again = run(*command, "--baseline", base, "--fail-if", "macro_bits_per_byte > 0.001")
    assert again.code == 4
    assert "macro_bits_per_byte" in again.err
    assert "the same" in again.err
    assert "worse by" not in again.err
    assert run("evaluate", "perplexity", "-i", files[0], "--fail-if", "macro_bits_per_byte > 1").code == 2


def test_a_file_that_is_named_twice_is_refused(run: Run, files: tuple[Path, Path]) -> None:
    ran = run("evaluate", "perplexity", "-i", files[0], "-i", files[1], "-i", files[0].parent / "." / files[0].name)
    assert ran.code == 2
    assert "is given twice" in ran.err


@pytest.mark.parametrize("ending", ["md", "html", "xml", "json"])
def test_a_report_holds_each_files_own_figures(run: Run, files: tuple[Path, Path], tmp_path: Path, ending: str) -> None:
    report = tmp_path / f"r.{ending}"
    assert run("evaluate", "perplexity", "-i", files[0], "-i", files[1], "--report", report, "-q").code == 0
    text = report.read_text()
    for part in ("macro_bits_per_byte", f"1: {files[0]}", f"2: {files[1]}"):
        assert part in text
    if ending == "html":
        assert f"2: {files[1]}.bits_per_byte by row" in text


def test_one_output_holds_the_rows_of_one_input(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    ran = run("evaluate", "perplexity", "-i", files[0], "-i", files[1], "-o", tmp_path / "out.jsonl")
    assert ran.code == 2
    assert not (tmp_path / "out.jsonl").exists()


def test_how_far_files_lie_apart_does_not_widen_the_interval_of_their_average() -> None:
    def documents(level: float) -> list[Likelihood]:
        rng = np.random.default_rng(1)
        return [Likelihood(-100 * (level + float(noise)), 100, 80, 400) for noise in rng.normal(0, 0.1, 40)]

    def width(*levels: float) -> float:
        files = [next(s for s in scores(documents(level), protocol="p", tokenizer="t") if s.name == "bits_per_byte") for level in levels]
        average = macro_average(files)
        assert average is not None
        assert average.interval is not None
        return average.interval[1] - average.interval[0]

    assert width(2.0, 5.0) == pytest.approx(width(3.0, 3.0))
