"""`evaluate run`: a suite's sets are measured as their commands measure them, in one run with one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows

SUITE = """
model = "builtin:stories"

[sets.books]
measure = "perplexity"
input = "books.jsonl"
context = 64
fail_if = "bits_per_byte > 9"

[sets.quiz]
measure = "choice"
input = "quiz.jsonl"
fail_if = ["accuracy < 0", "accuracy_normalized < 0"]

[sets.saved]
measure = "score"
metrics = "exact_match,chrf"
predictions = "hyp.txt"
references = ["ref.txt"]

[sets.answers]
measure = "score"
input = "prompts.jsonl"
metrics = "chrf"
max_new_tokens = 3
output = "answers.jsonl"
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "books.jsonl", [{"text": t} for t in ("The boy ran home.", "She sat by the sea.", "It rained.")])
    write_rows(tmp_path / "quiz.jsonl", [{"question": "What do bees make?", "choices": ["honey", "stone"], "answer": 0}] * 3)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"the king {i}", "reference": "and"} for i in range(3)])
    (tmp_path / "hyp.txt").write_text("the cat\na dog\n")
    (tmp_path / "ref.txt").write_text("the cat\nthe dog\n")
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_each_set_gives_what_its_command_gives(run: Run, suite: Path) -> None:
    ran = run("evaluate", "run", suite, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    alone: dict[str, Any] = {
        "books": run("evaluate", "perplexity", "-i", "books.jsonl", "--context", "64", "--json"),
        "quiz": run("evaluate", "choice", "-i", "quiz.jsonl", "--json"),
        "saved": run("evaluate", "score", "-p", "hyp.txt", "-r", "ref.txt", "--metrics", "exact_match,chrf", "--json"),
        "answers": run(
            "evaluate", "score", "-m", "builtin:stories", "-i", "prompts.jsonl", "--metrics", "chrf", "--max-new-tokens", "3", "--json"
        ),
    }
    assert list(found["parts"]) == list(alone)
    for name, own in alone.items():
        part = json.loads(own.out)
        for key in ("scores", "signatures", "intervals", "rows", "counts", "about"):
            assert found["parts"][name][key] == part[key]
        assert {f"{name}.{score}": value for score, value in part["scores"].items()}.items() <= found["scores"].items()
    assert len(found["gates"]) == 3
    assert found["rows"] == 11


def test_a_suites_report_says_which_command_models_and_files_it_speaks_of(run: Run, suite: Path, tmp_path: Path) -> None:
    assert run("evaluate", "run", "suite.toml", "--report", "r.md").code == 0
    report = (tmp_path / "r.md").read_text()
    assert "- Command: llmkit evaluate run suite.toml --report r.md\n" in report
    assert "- Model: builtin:stories\n" in report
    assert "- Inputs: books.jsonl, quiz.jsonl, prompts.jsonl\n" in report


def test_the_model_is_loaded_once(run: Run, suite: Path) -> None:
    # each opening of it is said
    assert run("evaluate", "run", suite).err.count("a small demonstration model") == 1


def test_a_sets_output_is_a_job_of_its_own(run: Run, suite: Path) -> None:
    assert run("evaluate", "run", suite).code == 0
    rows = read_rows(Path("answers.jsonl"))
    assert [len(row["prediction"]) > 0 for row in rows] == [True] * 3
    assert run("evaluate", "run", suite).code == 0
    same = run(
        "evaluate", "score", "-m", "builtin:stories", "-i", "prompts.jsonl", "--metrics", "chrf", "--max-new-tokens", "3",
        "-o", "answers.jsonl",
    )  # fmt: skip
    assert same.code == 0
    assert "already complete" in same.err
    suite.write_text(SUITE.replace("max_new_tokens = 3", "max_new_tokens = 4"))
    changed = run("evaluate", "run", suite)
    assert changed.code == 2
    assert "sets.answers" in changed.err
    assert "max_new_tokens was 3, is 4" in changed.err


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("context = 64", "contxt = 64", "did you mean 'context'"),
        ("metrics = \"exact_match", "metrix = \"exact_match", "did you mean 'metrics'"),
        ("model = ", "modle = ", "did you mean 'model'"),
        ("context = 64", "labels = \"a,b\"", "unknown option 'labels' of perplexity"),
        ("accuracy_normalized < 0", "acuracy < 0", "sets.quiz"),
        ("accuracy_normalized < 0", "accuracy", "not a condition"),
        ("exact_match,chrf", "exact_mach", "did you mean 'exact_match'"),
        ("measure = \"choice\"", "measure = \"choise\"", "did you mean 'choice'"),
        ("measure = \"choice\"", "", "no measure"),
        ("measure = \"choice\"", "mesure = \"choice\"", "did you mean 'measure' by 'mesure'?"),
        ("model = ", "measure = \"score\"\nmodel = ", "each [sets.NAME] has its own measure"),
        ("context = 64", "context = \"many\"", "sets.books"),
        ("quiz.jsonl", "nowhere.jsonl", "nowhere.jsonl"),
        ("\"ref.txt\"", "\"no-refs.txt\"", "no-refs.txt"),
        ("quiz.jsonl", "-", "standard input"),
        ("context = 64", "json = true", "unknown option 'json'"),
        ("context = 64", "baseline = \"none.json\"", "none.json"),
        ("context = 64", "report = \"none.pdf\"", "none.pdf"),
        ("[sets.", "[tests.", "no sets"),
        ("context = 64", "context = ", "not valid toml"),
        ("model = ", "report = \"r.json\"\nmodel = ", "sets.quiz: r.json is also written by"),
        ("context = 64", "output = \"./answers.jsonl\"", "sets.answers: answers.jsonl is also written by"),
        ("context = 64", "by_line = \"yes\"", "sets.books: by_line: 'yes' is neither true nor false"),
        ("context = 64", "completion_only = \"false\"", "sets.books: completion_only: 'false' is neither true nor false"),
        ("context = 64", "stride = 8\nbatch-size = 2\nbatch_size = 4", "sets.books: 'batch-size' and 'batch_size' are the same option"),
        ("model = \"builtin:stories\"", "max_new_tokens = 1\nmax_tokens = 2", "'max_new_tokens' and 'max_tokens' are the same option"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(run: Run, suite: Path, before: str, after: str, said: str) -> None:
    assert before in SUITE
    suite.write_text(SUITE.replace(before, after))
    ran = run("evaluate", "run", suite)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert "tokens/s" not in ran.err
    assert not Path("answers.jsonl").exists()


def test_a_set_can_turn_off_a_switch_of_the_suite(run: Run, suite: Path) -> None:
    one = 'measure = "bleu"\npredictions = "hyp.txt"\nreferences = "ref.txt"\n'
    suite.write_text(f"lowercase = true\n[sets.lower]\n{one}[sets.mixed]\n{one}lowercase = false\n")
    ran = run("evaluate", "run", suite, "--json")
    signatures = json.loads(ran.out)["signatures"]
    assert ["case:lc" in signatures["lower.bleu"], "case:mixed" in signatures["mixed.bleu"]] == [True, True]


def test_any_gate_fails_the_suite_after_all_sets_have_run(run: Run, suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace("bits_per_byte > 9", "bits_per_byte > 0.001"))
    ran = run("evaluate", "run", suite, "--json", "--report", tmp_path / "r.xml", "--report", tmp_path / "r.html", "--report", "r.md")
    assert ran.code == 4
    assert "books: bits_per_byte" in ran.err
    assert list(json.loads(ran.out)["parts"]) == ["books", "quiz", "saved", "answers"]
    assert 'name="books"' in (tmp_path / "r.xml").read_text()
    assert "books.bits_per_byte" in (tmp_path / "r.html").read_text()
    assert "| quiz.accuracy |" in (tmp_path / "r.md").read_text()


def test_a_set_that_can_not_be_scored_leaves_the_others_their_numbers(run: Run, suite: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "quiz.jsonl", [{"question": "Is it?", "choices": ["yes", " "], "answer": 0}])
    ran = run("evaluate", "run", suite, "--json")
    assert ran.code == 3
    assert "sets.quiz" in ran.err
    assert list(json.loads(ran.out)["parts"]) == ["books", "saved", "answers"]


def test_an_error_of_a_set_comes_after_the_numbers_of_the_others(run: Run, suite: Path) -> None:
    """Its code is the error's own, and a report counts it as a gate that failed."""
    one = 'measure = "score"\nmetrics = "exact_match"\nreferences = "ref.txt"\npredictions = '
    suite.write_text(f'[sets.a]\n{one}"hyp.txt"\n[sets.b]\n{one}"none.txt"\n[sets.c]\n{one}"hyp.txt"\nfail_if = "exact_match < 60"\n')
    Path("none.txt").write_text("")
    ran = run("evaluate", "run", suite, "--report", "r.json", "--json")
    assert ran.code == 2
    assert "error: " + str(suite) + ", sets.b: " in ran.err
    assert "warning: c: exact_match 50 fails" in ran.err
    found = json.loads(ran.out)
    assert list(found["parts"]) == ["a", "c"]
    assert [(gate["condition"], gate["passed"]) for gate in found["gates"]] == [("b: measured", False), ("c: exact_match < 60", False)]
    assert json.loads(Path("r.json").read_text())["gates"] == found["gates"]


def test_a_suite_is_held_against_its_earlier_result(run: Run, suite: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    assert run("evaluate", "run", suite, "--report", base).code == 0
    same = run("evaluate", "run", suite, "--baseline", base, "--max-regression", "1%", "--json")
    assert same.code == 0, same.err
    assert len(json.loads(same.out)["gates"]) > 8
    (tmp_path / "hyp.txt").write_text("a cow\na dog\n")
    worse = run("evaluate", "run", suite, "--baseline", base, "--max-regression", "1%")
    assert worse.code == 4
    assert "saved: exact_match" in worse.err
    write_rows(tmp_path / "books.jsonl", [{"text": "Other rows."}] * 3)
    assert "sets.books" not in worse.err
    other = run("evaluate", "run", suite, "--baseline", base)
    assert other.code == 2
    assert "must score the same rows" in other.err
    assert run("evaluate", "run", suite, "--baseline", tmp_path / "answers.jsonl").code == 2


def test_numbers_that_cannot_be_compared_are_still_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured = 'measure = "score"\nmetrics = "exact_match"\npredictions = "hyp.txt"\nreferences = ["ref.txt"]\n'
    Path("s.toml").write_text(f"[sets.a]\n{measured}[sets.b]\n{measured}")
    Path("hyp.txt").write_text("the cat\na dog\n")
    Path("ref.txt").write_text("the cat\nthe dog\n")
    assert run("evaluate", "run", "s.toml", "--report", "base.json", "-q").code == 0
    Path("ref.txt").write_text("the cat\na dog\n")
    ran = run("evaluate", "run", "s.toml", "--baseline", "base.json", "--report", "new.json")
    assert ran.code == 2
    assert "differs from the row" in ran.err
    assert "of set 'a' of this run" in ran.err
    assert all(f"{name}.exact_match" in ran.out for name in "ab")
    assert json.loads(Path("new.json").read_text())["scores"] == {"a.exact_match": 100.0, "b.exact_match": 100.0}


def test_a_model_on_the_command_line_is_every_sets(run: Run, suite: Path, gpt2: Path) -> None:
    suite.write_text(SUITE.replace("[sets.quiz]", '[sets.quiz]\nmodel = "builtin:stories"').replace('output = "answers.jsonl"', ""))
    found = json.loads(run("evaluate", "run", suite, "-m", gpt2, "--json").out)["parts"]
    assert {found[name]["about"]["model"] for name in ("books", "quiz", "answers")} == {str(gpt2)}


def test_programs_and_bleu_are_sets_too(run: Run, suite: Path, tmp_path: Path) -> None:
    write_rows(
        tmp_path / "code.jsonl", [{"prediction": "x = 1", "test": "assert x == 1"}, {"prediction": "x = 2", "test": "assert x == 1"}]
    )
    suite.write_text(
        '[sets.code]\nmeasure = "code"\ninput = "code.jsonl"\nrun_code = true\nk = 1\nfail_if = "pass@1 < 50"\n'
        '[sets.bleu]\nmeasure = "bleu"\npredictions = "hyp.txt"\nreferences = "ref.txt"\nlowercase = true\n'
    )
    ran = run("evaluate", "run", suite, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["scores"]["code.pass@1"] == 50
    assert "case:lc" in found["signatures"]["bleu.bleu"]
    suite.write_text(suite.read_text().replace("run_code = true\n", ""))
    assert "--run-code" in run("evaluate", "run", suite).err


@pytest.mark.parametrize(
    ("line", "said"),
    [("chrf_beta = 1", "--chrf-beta applies to chrf, not to exact_match"), ('test = "bootstrap"', "--test needs --baseline")],
)
def test_an_option_that_does_nothing_is_refused_before_any_set_is_measured(run: Run, tmp_path: Path, line: str, said: str) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a\n")
    suite = tmp_path / "suite.toml"
    table = (
        f'measure = "score"\nmetrics = "exact_match"\npredictions = ["{texts}"]\nreferences = ["{texts}"]\nreport = ["{tmp_path}/r.json"]\n'
    )
    suite.write_text(f"[sets.first]\n{table}\n[sets.second]\n{table}{line}\n")
    ran = run("evaluate", "run", suite)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "r.json").exists()


def test_quiet_holds_for_each_set(run: Run, suite: Path) -> None:
    suite.write_text(SUITE.split("[sets.answers]")[0])
    ran = run("evaluate", "run", suite, "--json", "-q")
    assert ran.code == 0
    assert ran.err == ""
