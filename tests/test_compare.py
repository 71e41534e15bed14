"""Baselines and comparisons: the same rows, the same signature, and a difference that may be chance."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import sacrebleu
from conftest import Run, write_rows

from llmkit.metrics.significance import compare
from llmkit.metrics.statistics import Statistic, mean_units

REFERENCES = [
    f"the {a} {b} went to the {c} by the sea"
    for a, b, c in itertools.product(("old", "young"), ("king", "queen", "cat"), ("house", "boat"))
]


def rows(path: Path, wrong: int, *, ids: bool = True) -> Path:
    """Outputs of which every third up to `wrong` lacks its end."""
    out = []
    for i, reference in enumerate(REFERENCES):
        words = reference.split()
        out.append({"prediction": " ".join(words[: -2 if i < wrong else None]), "reference": reference} | ({"id": f"r{i}"} if ids else {}))
    return write_rows(path, out)


@pytest.fixture
def results(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A good and a worse result of the same test set."""
    paths = tmp_path / "good.json", tmp_path / "worse.json"
    for path, wrong in zip(paths, (2, 9), strict=True):
        source = rows(path.with_suffix(".jsonl"), wrong)
        assert run("evaluate", "score", "--metrics", "bleu,chrf,exact_match", "-i", source, "--report", path, "-q").code == 0
    return paths


def test_a_significant_loss_against_the_baseline_fails(run: Run, results: tuple[Path, Path], tmp_path: Path) -> None:
    good, worse = results
    arguments = ["evaluate", "score", "--metrics", "bleu,chrf,exact_match"]
    down = run(*arguments, "-i", worse.with_suffix(".jsonl"), "--baseline", good)
    assert down.code == 4
    assert "worse by" in down.err
    assert "p = " in down.err
    assert "can be detected" in down.err
    up = run(*arguments, "-i", good.with_suffix(".jsonl"), "--baseline", worse, "--json")
    assert up.code == 0
    assert all(gate["passed"] for gate in json.loads(up.out)["gates"])
    assert run(*arguments, "-i", good.with_suffix(".jsonl"), "--baseline", good).code == 0


@pytest.mark.parametrize(("bound", "code"), [("2%", 4), ("60%", 0), ("1", 4), ("60", 0)])
def test_max_regression_is_a_bound_on_the_loss(run: Run, results: tuple[Path, Path], bound: str, code: int) -> None:
    good, worse = results
    ran = run("evaluate", "bleu", "-i", worse.with_suffix(".jsonl"), "--baseline", good, "--max-regression", bound)
    assert ran.code == code


def test_rows_are_paired_by_id_whatever_their_order(run: Run, results: tuple[Path, Path], tmp_path: Path) -> None:
    good, _ = results
    lines = good.with_suffix(".jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "turned.jsonl").write_text("".join(reversed(lines)))
    ran = run("evaluate", "score", "--metrics", "exact_match", "-i", tmp_path / "turned.jsonl", "--baseline", good)
    assert ran.code == 0
    assert "the same (" in ran.err


def test_a_baseline_of_other_rows_is_refused(run: Run, results: tuple[Path, Path], tmp_path: Path) -> None:
    good, _ = results
    for change in ({"id": "other"}, {"reference": "another text"}):
        changed = [json.loads(line) for line in good.with_suffix(".jsonl").read_text().splitlines()]
        changed[3] |= change
        ran = run("evaluate", "bleu", "-i", write_rows(tmp_path / "x.jsonl", changed), "--baseline", good)
        assert ran.code == 2
        assert "both must score the same rows" in ran.err
    ran = run("evaluate", "bleu", "-i", good.with_suffix(".jsonl"), "--limit", "5", "--baseline", good)
    assert ran.code == 2
    assert "12 rows" in ran.err


def test_a_baseline_of_another_signature_is_refused(run: Run, results: tuple[Path, Path]) -> None:
    good, _ = results
    ran = run("evaluate", "bleu", "-i", good.with_suffix(".jsonl"), "--baseline", good, "--tokenize", "char")
    assert ran.code == 2
    assert "tok:13a" in ran.err
    assert "tok:char" in ran.err


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 99}'])
def test_a_baseline_that_is_no_result_is_refused_before_anything_is_computed(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    ran = run("evaluate", "bleu", "-p", "no-such", "-r", "no-such", "--baseline", path)
    assert ran.code == 2
    assert str(path) in ran.err


def test_max_regression_without_baseline_is_refused(run: Run) -> None:
    assert run("evaluate", "bleu", "-p", "x", "-r", "y", "--max-regression", "2%").code == 2
    assert "2% or 0.5" in run("evaluate", "bleu", "-p", "x", "-r", "y", "--max-regression", "much", "--baseline", "z").err


def test_ids_that_occur_twice_are_refused(run: Run, tmp_path: Path) -> None:
    twice = write_rows(
        tmp_path / "x.jsonl", [{"id": 1, "prediction": "a", "reference": "a"}, {"id": "1", "prediction": "a", "reference": "a"}]
    )
    ran = run("evaluate", "bleu", "-i", twice)
    assert ran.code == 2
    assert "rows 1 and 2 have the same id '1'" in ran.err


def test_compare_shows_each_result_against_the_first(run: Run, results: tuple[Path, Path]) -> None:
    good, worse = results
    ran = run("evaluate", "compare", good, worse, good)
    assert ran.code == 0
    assert len(re.findall("^bleu ", ran.out, re.MULTILINE)) == 2
    assert "with n = 12 a difference of" in ran.err
    found = json.loads(run("evaluate", "compare", good, worse, "--json").out)["comparisons"]
    assert [c["name"] for c in found] == ["bleu", "chrf", "exact_match"]
    assert all(c["difference"] < 0 for c in found)
    assert found[2]["test"] == "McNemar's exact test"
    assert run("evaluate", "compare", good).code == 2


def test_the_difference_of_bleu_is_sacrebleus_with_its_paired_tests(run: Run, results: tuple[Path, Path]) -> None:
    from sacrebleu.significance import PairedTest

    good, worse = results
    texts = [[json.loads(line)["prediction"] for line in p.with_suffix(".jsonl").read_text().splitlines()] for p in results]
    _, theirs = PairedTest([("a", texts[0]), ("b", texts[1])], {"BLEU": sacrebleu.BLEU()}, [REFERENCES], test_type="ar", n_samples=10_000)()
    found = json.loads(run("evaluate", "compare", good, worse, "--json", "--test", "randomization").out)["comparisons"][0]
    assert found["baseline"] == theirs["BLEU"][0].score
    assert found["value"] == theirs["BLEU"][1].score
    assert found["p_value"] == pytest.approx(theirs["BLEU"][1].p_value, abs=0.02)


def test_mcnemar_counts_the_rows_that_differ() -> None:
    before = mean_units([100.0] * 10 + [0.0] * 10)
    now = mean_units([100.0] * 9 + [0.0] * 1 + [100.0] * 8 + [0.0] * 2)
    found = compare("accuracy", before, now, Statistic("proportion"), higher_is_better=True)
    # 1 lost, 8 won: 2 * (C(9,0) + C(9,1)) / 2^9
    assert found.p_value == pytest.approx(2 * 10 / 512)
    assert found.difference == pytest.approx(35.0)


def test_noise_is_rarely_significant_and_a_real_difference_often() -> None:
    rng = np.random.default_rng(1)
    false = true = 0
    for _ in range(40):
        base = rng.normal(50, 10, 100)
        noise, shift = base + rng.normal(0, 5, 100), base + rng.normal(2.5, 5, 100)
        false += compare("x", mean_units([*base]), mean_units([*noise]), Statistic("mean"), higher_is_better=True).significant
        true += compare("x", mean_units([*base]), mean_units([*shift]), Statistic("mean"), higher_is_better=True).significant
    assert false <= 6
    assert true >= 36


def test_the_detectable_difference_follows_from_the_spread() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(50, 10, 400)
    found = compare("x", mean_units([*base]), mean_units([*base + rng.normal(0, 5, 400)]), Statistic("mean"), higher_is_better=True)
    assert found.detectable == pytest.approx(2.8016 * 5 / math.sqrt(400), rel=0.15)


def test_perplexity_has_a_baseline_too(run: Run, tmp_path: Path, ragged: list[str]) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"id": i, "text": t} for i, t in enumerate(ragged)])
    path = tmp_path / "base.json"
    assert run("evaluate", "perplexity", "-i", texts, "--report", path, "-q").code == 0
    again = run("evaluate", "perplexity", "-i", texts, "--baseline", path, "--max-regression", "1%", "--batch-size", "1")
    assert again.code == 0
    worse = run("evaluate", "perplexity", "-i", texts, "--baseline", path, "--context", "4", "--stride", "4")
    assert worse.code == 2
    assert "context:512" in worse.err


def test_reports_fit_their_readers(run: Run, tmp_path: Path) -> None:
    hostile = [{"prediction": "<script>alert(1)</script> | =1+1 \x00", "reference": "<b>x</b> & y"}, {"prediction": "a", "reference": "b"}]
    source = write_rows(tmp_path / "x.jsonl", hostile)
    reports = {ending: tmp_path / f"r{ending}" for ending in (".json", ".md", ".xml", ".html")}
    options = [x for path in reports.values() for x in ("--report", path)]
    ran = run("evaluate", "score", "--metrics", "chrf,f1", "-i", source, "--fail-if", "chrf < 99", "--fail-if", "f1 > 100", *options)
    assert ran.code == 4
    suite = Xml.fromstring(reports[".xml"].read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    assert [case.get("name") for case in suite.iter("testcase")] == ["scores", "chrf < 99", "f1 > 100"]
    page = reports[".html"].read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<svg" in page
    assert "**failed**" in reports[".md"].read_text()
    assert json.loads(reports[".json"].read_text())["gates"][0]["passed"] is False


@pytest.mark.parametrize("path", ["x.pdf", "missing/x.json"])
def test_reports_that_cannot_be_are_refused_before_anything_is_computed(run: Run, tmp_path: Path, path: str) -> None:
    ran = run("evaluate", "bleu", "-p", "no-such", "-r", "no-such", "--report", tmp_path / path)
    assert ran.code == 2
    assert "--report" in ran.err


def test_a_failed_run_leaves_an_earlier_report_alone(run: Run, results: tuple[Path, Path]) -> None:
    good, _ = results
    before = good.read_bytes()
    assert run("evaluate", "bleu", "-p", "no-such", "-r", "no-such", "--report", good).code == 2
    assert good.read_bytes() == before


def test_the_power_law_goes_through_points_that_follow_one(tmp_path: Path) -> None:
    from llmkit.reports.scaling import Point, draw, fit

    points = [(n, (8.8e13 / n) ** 0.076) for n in (10**6, 10**7, 10**8)]
    alpha, scale = fit(points)
    assert alpha == pytest.approx(0.076)
    assert scale == pytest.approx(8.8e13, rel=1e-6)
    found = draw([Point(str(n), n, loss) for n, loss in points], "mean loss per token", str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert found["alpha"] == pytest.approx(0.076)


def test_compare_plots_loss_against_parameters(run: Run, tmp_path: Path, ragged: list[str], llama: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": t} for t in ragged])
    paths = []
    for name, model in (("tiny", llama), ("stories", "builtin:stories")):
        paths.append(tmp_path / f"{name}.json")
        assert run("evaluate", "perplexity", "-m", model, "-i", texts, "--context", "128", "--report", paths[-1], "-q").code == 0
    ran = run("evaluate", "compare", *paths, "--plot", tmp_path / "scaling.png", "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    # of two tokenizers only figures per byte and word can be compared
    assert {c["name"] for c in found["comparisons"]} == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    assert found["scaling"]["metric"] == "bits_per_byte"
    assert found["scaling"]["alpha"] > 0
    assert (tmp_path / "scaling.png").exists()
