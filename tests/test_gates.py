"""Gates as a CI step meets them: what is said of each, on the terminal and in reports, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

from llmkit.errors import OutputError, UsageError
from llmkit.metrics.base import Score
from llmkit.metrics.gates import conditions, regression
from llmkit.reports import scaling

MODULE = """
import datasets
import evaluate
import numpy

class Share(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"whole": 1.0, "half": numpy.float32(0.5)}
"""


@pytest.fixture
def saved(tmp_path: Path) -> list[object]:
    """Arguments that score two saved outputs, of which one is right."""
    (tmp_path / "hyp.txt").write_text("a\nb\n")
    (tmp_path / "ref.txt").write_text("a\nc\n")
    return ["evaluate", "score", "--metrics", "exact_match,f1", "-p", tmp_path / "hyp.txt", "-r", tmp_path / "ref.txt"]


def test_each_gate_is_a_line_with_its_value_and_distance_and_failed_ones_are_errors(run: Run, saved: list[object]) -> None:
    ran = run(*saved, "--fail-if", "exact_match < 30", "--fail-if", "f1 < 60", "--fail-if", "exact_match < 90")
    assert ran.code == 4
    assert "exact_match" in ran.out
    assert ran.err.splitlines() == [
        "exact_match 50 passes 'exact_match < 30' by 20",
        "error: f1 50 fails 'f1 < 60' by 10",
        "error: exact_match 50 fails 'exact_match < 90' by 40",
    ]
    assert run(*saved, "--fail-if", "exact_match < 30", "-q").err == ""
    assert run(*saved, "--fail-if", "f1 < 60", "-q").err == "error: f1 50 fails 'f1 < 60' by 10\n"


def test_a_comparison_with_a_baseline_is_one_line_too(run: Run, saved: list[object], tmp_path: Path) -> None:
    assert run(*saved, "--report", tmp_path / "base.json").code == 0
    ran = run(*saved, "--baseline", tmp_path / "base.json", "--max-regression", "2%")
    assert ran.code == 0
    (line,) = [line for line in ran.err.splitlines() if line.startswith("exact_match: 50 against 50")]
    assert line.endswith("passes 'not worse than the baseline by more than 2%'")


def test_reports_list_gates_that_passed_and_that_failed(run: Run, saved: list[object], tmp_path: Path) -> None:
    reports = [tmp_path / f"r{ending}" for ending in (".html", ".md", ".xml", ".json")]
    named = [word for report in reports for word in ("--report", report)]
    assert run(*saved, *named, "--fail-if", "exact_match < 30", "--fail-if", "f1 < 60").code == 4
    for report in reports[:3]:
        text = report.read_text().replace("&lt;", "<").replace("&#x27;", "'")
        assert "exact_match 50 passes 'exact_match < 30' by 20" in text, report
        assert "f1 50 fails 'f1 < 60' by 10" in text, report
    assert [gate["passed"] for gate in json.loads(reports[3].read_text())["gates"]] == [True, False]


@pytest.mark.parametrize("ending", ["json", "md", "xml", "html"])
def test_a_report_replaces_an_earlier_report_and_no_other_file(run: Run, saved: list[object], tmp_path: Path, ending: str) -> None:
    report = tmp_path / f"r.{ending}"
    report.write_text('{"question": "mine"}\n')
    ran = run(*saved, "--report", report)
    assert (ran.code, ran.out, report.read_text()) == (2, "", '{"question": "mine"}\n')
    assert "is no report of llmkit" in ran.err
    report.write_text("")
    for _ in range(2):
        assert run(*saved, "--report", report).code == 0
        assert "exact_match" in report.read_text()


def test_a_plot_replaces_an_earlier_plot_and_no_other_picture(tmp_path: Path) -> None:
    for ending in ("png", "svg", "pdf"):
        path = tmp_path / f"p.{ending}"
        path.write_bytes(b"\x89PNG of mine")
        with pytest.raises(OutputError, match="is no plot of llmkit"):
            scaling.check(str(path))
        path.unlink()
        scaling.draw([scaling.Point("a", 10, 3.0), scaling.Point("b", 20, 2.0)], "loss", str(path))
        scaling.check(str(path))


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        ("exact_match_score < 20", "did you mean 'exact_match'"),
        ("exactmatch < 20", "did you mean 'exact_match'"),
        ("f1_macro < 20", "did you mean 'f1'"),
        ("perplexity > 3", "there are exact_match, f1"),
    ],
)
def test_a_name_that_no_score_has_is_refused_before_anything_is_read(run: Run, condition: str, meant: str) -> None:
    ran = run("evaluate", "score", "--metrics", "exact_match,f1", "-p", "none", "-r", "none", "--fail-if", condition)
    assert ran.code == 2
    assert "--fail-if" in ran.err
    assert meant in ran.err
    assert "none" not in ran.err


def test_names_of_perplexity_and_choice_are_checked_as_strictly() -> None:
    known = ("token_perplexity", "macro_token_perplexity", "accuracy", "accuracy_normalized")
    for name in ("token_perplexity_mean", "accuracy_norm", "macro_perplexities"):
        with pytest.raises(UsageError, match=f"no '{name}'") as caught:
            conditions([f"{name} > 3"], known)
        assert "did you mean" in str(caught.value.hint)
    named = conditions(["ppl > 3", "macro_ppl > 3", "accuracy_normalised < 50"], known)
    assert [condition.name for condition in named] == ["token_perplexity", "macro_token_perplexity", "accuracy_normalized"]


def test_scores_of_a_metric_module_are_known_when_it_has_run(
    run: Run, saved: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "share.py").write_text(MODULE)
    saved[3] = f"{tmp_path / 'share.py'},exact_match"
    right = run(*saved, "--fail-if", "share_whole < 1", "--report", tmp_path / "base.json")
    assert right.code == 0, right.err
    wrong = run(*saved, "--fail-if", "share_hole < 1")
    assert wrong.code == 4
    assert "share_whole" in wrong.out
    assert "available are share_whole, share_half" in wrong.err
    compared = run(*saved, "--baseline", tmp_path / "base.json")
    assert compared.code == 0, compared.err
    assert "share_whole, share_half: not compared with the baseline" in compared.err


@pytest.mark.parametrize("condition", ["perplexity > 30", "perplexity >= 30", "perplexity == 30", "perplexity != 30"])
def test_a_condition_that_the_shell_took_apart_needs_quotes(tmp_path: Path, condition: str) -> None:
    import shutil
    import subprocess
    import sys

    command = f"{sys.executable} -m llmkit evaluate perplexity -i none.txt --fail-if {condition}"
    done = subprocess.run([shutil.which("bash") or "bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "quotes" in done.stderr


@pytest.mark.parametrize(("condition", "remarked"), [("exact_match < 0.9", True), ("exact_match < 1", True), ("exact_match < 1%", False)])
def test_a_bound_between_0_and_1_of_a_percentage_is_remarked_on(run: Run, saved: list[object], condition: str, remarked: bool) -> None:
    ran = run(*saved, "--fail-if", condition)
    assert ran.code == 0
    assert ("exact_match is a percentage, from 0 to 100" in ran.err) is remarked


@pytest.mark.parametrize("name", ["pass_rate", "pass_all", "same_top_token", "accuracy_normalized", "pass@1"])
def test_every_score_from_0_to_100_is_known_as_a_percentage(name: str) -> None:
    fraction, percent = conditions([f"{name} < 0.9", f"{name} < 90%"], [name])
    assert (fraction.remark is not None, percent.remark, percent.bound) == (True, None, 90.0)


@pytest.mark.parametrize("name", ["kl_divergence", "kl_p99", "perplexity_ratio", "macro_bits_per_byte", "macro_token_perplexity"])
def test_a_percent_sign_is_refused_where_the_score_is_no_percentage(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is not a percentage"):
        conditions([f"{name} > 1%"], [name])
    assert conditions(["rms_delta_p > 0.5%"], ["rms_delta_p"])[0].bound == 0.5


@pytest.mark.parametrize(
    ("condition", "score", "failed"),
    [
        ("bleu ≤ 50", "bleu", True), ("bleu ≥ 51", "bleu", False), ("bleu ≠ 50", "bleu", False), ("bleu<5e1", "bleu", False),
        ("my-metric_acc < 60", "my-metric_acc", True), ("My_Metric_acc < 60", "my-metric_acc", True), ("v1.2_f1 < 60", "v1.2_f1", True),
    ],
)  # fmt: skip
def test_operators_and_names_are_taken_as_people_write_them(condition: str, score: str, failed: bool) -> None:
    (found,) = conditions([condition], ["bleu", "my-metric", "v1.2"], ["my-metric", "v1.2"])
    gate = found.check([Score(score, 50.0, "s")])
    assert gate.passed is not failed
    assert gate.message.startswith(f"{score} 50 ")


@pytest.mark.parametrize(
    "condition", ["40 < bleu < 60", "bleu < 60 and bleu > 3", "bleu = 50", "bleu => 50", "bleu < 1,000", "bleu < nan", ""]
)
def test_what_is_no_condition_is_told_what_is(run: Run, condition: str) -> None:
    ran = run("evaluate", "bleu", "-p", "x", "-r", "x", "--fail-if", condition)
    assert ran.code == 2
    assert "one of > >= < <= == !=, and a number" in ran.err


def test_a_bound_may_have_an_exponent() -> None:
    assert regression("1e-3").amount == 0.001
    assert regression("1e1%").amount == 0.1
