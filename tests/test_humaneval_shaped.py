"""Problems of HumanEval's shape: each right solution passes, each wrong one fails, however it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run, write_rows
from humaneval_shaped import EARLY_ENDS, PROBLEMS


def passed(run: Run, path: Path, rows: list[dict[str, object]]) -> float:
    ran = run("evaluate", "code", "-i", write_rows(path, rows), "--run-code", "--json", "--code-timeout", "20")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["rows"] == len({row["task_id"] for row in rows})  # a row counts a problem with all its samples
    return float(json.loads(ran.out)["scores"]["pass@1"])


def test_every_right_solution_passes(run: Run, tmp_path: Path) -> None:
    assert passed(run, tmp_path / "right.jsonl", [problem.row(problem.right) for problem in PROBLEMS]) == 100


def test_every_wrong_solution_fails(run: Run, tmp_path: Path) -> None:
    assert passed(run, tmp_path / "wrong.jsonl", [problem.row(body) for problem in PROBLEMS for body in problem.wrong]) == 0


def test_a_wrong_solution_that_ends_early_fails(run: Run, tmp_path: Path) -> None:
    rows = [problem.row(problem.wrong[0]) for problem in PROBLEMS[: len(EARLY_ENDS)]]
    ended = [row | {"text": f"{row['text']}\n{end}"} for row, end in zip(rows, EARLY_ENDS, strict=True)]
    assert passed(run, tmp_path / "early.jsonl", ended) == 0


def test_a_right_solution_with_a_main_block_passes(run: Run, tmp_path: Path) -> None:
    rows = [problem.row(problem.right) for problem in PROBLEMS[:3]]
    main = "\nif __name__ == '__main__':\n    print(input())\n    raise SystemExit(1)\n"
    assert passed(run, tmp_path / "main.jsonl", [row | {"text": f"{row['text']}{main}"} for row in rows]) == 100


@pytest.mark.parametrize("entry_point", ["no_such_function", "print"])
def test_an_entry_point_that_the_program_does_not_define_fails(run: Run, tmp_path: Path, entry_point: str) -> None:
    row = PROBLEMS[0].row(PROBLEMS[0].right) | {"entry_point": entry_point}
    assert passed(run, tmp_path / "entry.jsonl", [row]) == 0


def test_whole_programs_are_taken_without_the_prompt(run: Run, tmp_path: Path) -> None:
    rows = []
    for problem in PROBLEMS[:3]:
        row = problem.row(problem.right)
        rows.append({**row, "prediction": f"{row['prompt']}{row['text']}", "prompt": "This is no Python at all ("})
        del rows[-1]["text"]
    assert passed(run, tmp_path / "whole.jsonl", rows) == 100
