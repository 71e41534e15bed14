"""Intervals, tests and gates say what is known, and nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, write_rows

from llmkit.metrics.gates import conditions, regression, regression_gate
from llmkit.metrics.intervals import interval_of, t_quantile, wilson
from llmkit.metrics.significance import compare
from llmkit.metrics.statistics import Statistic, mean_units


def strict(text: str) -> Any:
    """JSON without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, value in ((1, 12.7062), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)):
        assert t_quantile(freedom) == pytest.approx(value, abs=2e-4)
    assert t_quantile(10, power=True) == pytest.approx(0.8791, abs=1e-4)


def test_ten_right_of_ten_is_not_certainty(run: Run, files: Callable[[str, str], Path]) -> None:
    ten = files("ten.txt", "".join(f"{i}\n" for i in range(10)))
    found = json.loads(run("evaluate", "score", "-p", ten, "-r", ten, "--metrics", "exact_match,f1,accuracy", "--json").out)
    for name in ("exact_match", "f1", "accuracy"):
        assert found["intervals"][name] == pytest.approx([72.25, 100], abs=0.01)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.mark.parametrize("kind", ["mean", "exp", "bits"])
def test_one_row_and_equal_rows_have_no_interval(kind: str) -> None:
    assert interval_of(mean_units([3.0]), Statistic(kind)) is None
    assert interval_of(mean_units([3.0] * 9), Statistic(kind)) is None


@pytest.mark.parametrize("size", [100.0, 1e-9])
def test_what_rounding_makes_of_equal_rows_is_no_interval(size: float) -> None:
    """BLEU of a perfect corpus is 100, and without a row 100 but for the last digit."""
    one, other = mean_units([size] * 8 + [size * (1 + 1e-13)]), mean_units([size * (1 + 1e-13)] + [size] * 8)
    assert interval_of(one, Statistic("mean")) is None
    found = compare("bleu", one, other, Statistic("mean"), higher_is_better=True)
    assert (found.interval, found.detectable, found.effect, found.significant) == (None, None, 0.0, False)
    assert interval_of(mean_units([size] * 8 + [size * (1 + 1e-6)]), Statistic("mean")) is not None


def test_one_document_is_compared_by_its_windows(run: Run, tmp_path: Path, files: Callable[[str, str], Path]) -> None:
    text = files("a.txt", "Once upon a time there was a little boy who lived near the sea with his mother. " * 3)
    base = tmp_path / "a.json"
    command = ["evaluate", "perplexity", "-i", text, "--context", "8", "--stride", "8"]
    assert run(*command, "--report", base, "-q").code == 0
    ran = run(*command, "--baseline", base)
    assert ran.code == 0
    assert "windows" in ran.err
    assert "n = 1 " not in ran.err


def test_one_unit_shows_no_difference(run: Run, tmp_path: Path, files: Callable[[str, str], Path]) -> None:
    text, base = files("a.txt", "Once upon a time there was a little boy."), tmp_path / "a.json"
    assert run("evaluate", "perplexity", "-i", text, "--report", base, "-q").code == 0
    command = ["evaluate", "perplexity", "-i", text, "--dtype", "bfloat16", "--baseline", base]
    ran = run(*command)
    assert ran.code == 0
    assert "p =" not in ran.err
    assert "interval of the difference" not in ran.err
    assert "can be detected" not in ran.err
    assert "no test" in ran.err
    assert run(*command, "--max-regression", "50%").code == 0


def test_an_infinite_score_is_said_and_not_compared(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "zh.jsonl", [{"text": "从前有一个小男孩住在海边的一座小房子里他每天都去看海上的船" * 3}] * 2)
    base = tmp_path / "zh.json"
    first = run("evaluate", "perplexity", "-i", rows, "--report", base)
    assert "Warning" not in first.err
    found = strict(base.read_text())
    assert found["scores"]["word_perplexity"] == "inf"
    assert "word_perplexity" not in found["intervals"]
    again = run("evaluate", "perplexity", "-i", rows, "--baseline", base, "--max-regression", "2%")
    assert again.code == 0, again.err
    ran = run("evaluate", "compare", base, base, "--json")
    word = next(c for c in strict(ran.out)["comparisons"] if c["name"] == "word_perplexity")
    assert (word["baseline"], word["p_value"], word["interval"], word["significant"]) == ("inf", None, None, False)


@pytest.mark.parametrize(
    ("before", "now", "passed"), [(5.0, np.inf, False), (np.inf, 5.0, True), (np.inf, np.inf, True), (5.0, np.nan, False)]
)
@pytest.mark.parametrize("bound", [None, "2%"])
def test_gates_on_infinite_scores(before: float, now: float, passed: bool, bound: str | None) -> None:
    found = compare("ppl", mean_units([before] * 2), mean_units([now] * 2), Statistic("mean"), higher_is_better=False)
    if bound is None and now == np.inf != before:
        passed = True  # without a bound only a significant loss fails, and infinity is never tested
    assert regression_gate(found, None if bound is None else regression(bound)).passed is passed


def test_no_few_rows_are_significant() -> None:
    for count in range(2, 6):
        for test in ("auto", "bootstrap", "randomization"):
            found = compare(
                "x",
                mean_units([50.0] * count),
                mean_units(list(np.arange(60.0, 60 + count))),
                Statistic("mean"),
                higher_is_better=False,
                test=test,
            )
            assert not found.significant
            assert "fewer than 6" in str(found)


def test_mcnemar_follows_from_the_metric(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "w.jsonl", [{"id": i, "prediction": "a b c x", "reference": "a b c d"} for i in range(8)])
    base = tmp_path / "w.json"
    assert run("evaluate", "score", "--metrics", "wer", "-i", rows, "--report", base, "-q").code == 0
    ran = run("evaluate", "score", "--metrics", "wer", "-i", rows, "--baseline", base, "--test", "mcnemar", "--json")
    assert ran.code == 2
    assert "not right or wrong" in ran.err
    assert ran.out == ""  # refused before anything is measured
    found = run("evaluate", "compare", base, base, "--json")
    assert json.loads(found.out)["comparisons"][0]["test"] == "approximate randomization"


def test_old_spellings_of_tests_are_known(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "r.jsonl", [{"prediction": "a", "reference": "a"}] * 7)
    base = tmp_path / "base.json"
    assert run("evaluate", "bleu", "-i", rows, "--report", base, "-q").code == 0
    assert run("evaluate", "compare", base, base, "--test", "randomisation", "-q").code == 0
    assert run("evaluate", "compare", base, base, "--test", "wilcoxon").code == 2


def test_a_failing_gate_still_prints_the_results(run: Run, files: Callable[[str, str], Path], tmp_path: Path) -> None:
    text = files("a.txt", "the cat sat on the mat\n")
    ran = run("evaluate", "bleu", "-p", text, "-r", text, "--fail-if", "bleu > 1", "--report", tmp_path / "r.xml", "--json")
    assert ran.code == 4
    assert "bleu" in json.loads(ran.out)["scores"]
    assert (tmp_path / "r.xml").exists()


def test_a_fraction_for_a_percentage_is_remarked_on(run: Run, files: Callable[[str, str], Path]) -> None:
    text = files("a.txt", "b c d e\n")
    ran = run("evaluate", "score", "--metrics", "f1", "-p", text, "-r", text, "--fail-if", "f1 < 0.9")
    assert ran.code == 0
    assert "0.9 is 0.9%, not 90%" in ran.err
    assert conditions(["f1 < 0.9%"], ["f1"])[0].remark is None
    assert conditions(["bits_per_byte > 0.9"], ["bits_per_byte"])[0].remark is None
    assert conditions(["chrf++ < 50"], ["chrf"])[0].name == "chrf"


@pytest.mark.parametrize(
    "options",
    [
        ["--paired-bs", "--paired-ar"],
        ["--paired-bs", "--fail-if", "bleu < 99.9"],
        ["--paired-ar", "--report", "pb.json"],
        ["--paired-bs", "--metrics", "exact_match"],
        ["--smooth-method", "add-k", "--smooth-value", "-3"],
        ["--smooth-method", "floor", "--smooth-value", "nan"],
        ["--smooth-method", "add-k", "--smooth-value", "1e308"],
        ["--smooth-value", "5"],
        ["--metrics", "chrf", "--chrf-char-order", "0"],
        ["-ci", "--confidence-n", "1"],
    ],
)
def test_options_without_effect_or_sense_are_refused(run: Run, files: Callable[[str, str], Path], options: list[str]) -> None:
    a, b, r = files("a.txt", "the cat sat\n"), files("b.txt", "the cat sat\n"), files("r.txt", "the cat sat\n")
    systems = ["-p", a, "-p", b] if "--paired" in options[0] else ["-p", a]
    ran = run("evaluate", "score", *systems, "-r", r, *options)
    assert ran.code == 2, ran.err
    assert ran.out == ""


def test_a_test_of_no_questions_is_refused(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "q.jsonl", [{"question": "Is it?", "choices": ["yes", "no"], "answer": 0}])
    ran = run("evaluate", "choice", "-i", rows, "--limit", "0")
    assert ran.code == 2
    assert "there are no rows to score" in ran.err


def test_a_context_of_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "e.jsonl", [{"text": "Hello there."}])
    assert run("evaluate", "perplexity", "-i", rows, "--context", "0").code == 2


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_scored_rows_are_jsonl_and_others_refused_before_the_run(run: Run, tmp_path: Path, ending: str) -> None:
    rows = write_rows(tmp_path / "h.jsonl", [{"text": "Hello there."}])
    ran = run("evaluate", "perplexity", "-i", rows, "-o", tmp_path / f"h.{ending}")
    assert ran.code == 2
    assert not (tmp_path / f"h.{ending}").exists()


@pytest.mark.parametrize("blank", [" ", "", "\u3000\n"])
def test_blank_choices_and_labels_are_named(run: Run, tmp_path: Path, blank: str) -> None:
    rows = write_rows(tmp_path / "w.jsonl", [{"question": "Is it?", "choices": ["yes", blank], "answer": 0}])
    ran = run("evaluate", "choice", "-i", rows)
    assert ran.code == 3
    assert "1 row failed; the first: " in ran.err
    assert "choice 2 of field 'choices' is blank" in ran.err
    assert run("evaluate", "choice", "-i", rows, "--labels", "yes,,no").code == 2


@pytest.mark.parametrize("count", [3, 10])
def test_intervals_over_few_documents_hold_the_truth(count: int) -> None:
    """The short form of tests/test_interval_coverage.py."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(500):
        tokens = np.ceil(rng.lognormal(5, 0.7, count))
        found = interval_of(np.stack([-tokens * rng.normal(3, 0.4, count), tokens], 1), Statistic("exp"))
        inside += found is not None and found[0] <= np.exp(3) <= found[1]
    assert inside >= 0.92 * 500


@pytest.mark.parametrize("count", [6, 10])
def test_equal_systems_are_rarely_called_different(count: int) -> None:
    """The short form of tests/test_interval_coverage.py."""
    rng, found = np.random.default_rng(2), 0
    for _ in range(200):
        one, other = mean_units([*rng.normal(50, 10, count)]), mean_units([*rng.normal(50, 10, count)])
        found += compare("x", one, other, Statistic("mean"), higher_is_better=True).significant
    assert found <= 0.09 * 200


def few_changed(count: int, changed: int, kind: str = "percentage") -> Any:
    """Of `count` rows the first `changed` lose 60."""
    before, now = np.full(count, 80.0), np.full(count, 80.0)
    now[:changed] -= 60
    return compare("x", mean_units([*before]), mean_units([*now]), Statistic(kind), higher_is_better=True)


@pytest.mark.parametrize("changed", [0, 1, 3, 5, 47])
def test_a_few_rows_that_change_do_not_make_an_interval_narrow(changed: int) -> None:
    """Rows from 0 to 100 whose changes are all but alike may hold a rare large one."""
    found = few_changed(50, changed)
    assert found.interval is not None
    low, high = found.interval
    assert low < found.difference < high
    assert high - low > 7


def test_where_a_few_changes_can_be_of_any_size_a_note_says_what_the_interval_is_worth() -> None:
    assert few_changed(50, 3, "rate").note == "only 3 rows changed, so the interval may be too narrow"
    assert few_changed(50, 3, "rate").note in str(few_changed(50, 3, "rate"))
    assert few_changed(50, 0, "rate").note == few_changed(50, 6, "rate").note == few_changed(50, 3).note == ""


def test_a_difference_that_few_changed_rows_state_takes_eight_of_them() -> None:
    assert few_changed(50, 1).detectable > 0.9 * few_changed(50, 8).detectable > 7


@pytest.mark.parametrize("kind", ["percentage", "bleu"])
def test_an_interval_of_a_difference_holds_only_what_can_be(kind: str) -> None:
    units = mean_units([0.0, 100.0, 0.0, 100.0, 10.0, 0.0, 90.0]), mean_units([100.0, 0.0, 100.0, 0.0, 0.0, 90.0, 1.0])
    if kind == "bleu":
        rows = np.zeros((3, 10))
        rows[:, :2], rows[:, 2:6], rows[:, 6:] = 4, (4, 3, 2, 1), (4, 3, 2, 1)
        worse = rows.copy()
        worse[0, 2:6], worse[1, 2:6] = 0, (2, 1, 0, 0)
        units = worse, rows
    interval = compare("x", *units, Statistic(kind), higher_is_better=True).interval
    assert interval is not None
    assert -100 <= interval[0] < interval[1] <= 100
