"""Every ending of `--output` with every command that writes rows: the rows, or a refusal before a model is loaded."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import Run, write_rows

#: For each command its arguments and the field that holds the answer.
COMMANDS = {
    "generate": (["generate", "--max-new-tokens", "2"], "text"),
    "translate": (["translate", "--to", "fr", "--text-field", "text", "--max-new-tokens", "8"], "translation"),
    "perplexity": (["evaluate", "perplexity"], "log_likelihood"),
    "choice": (["evaluate", "choice"], "choice"),
    "score": (["evaluate", "score", "--metrics", "exact_match", "--max-new-tokens", "2"], "prediction"),
}
ANSWERS = ("generate", "translate")
JSON_LINES = ["jsonl", "ndjson", "jl", "JSONL"]
SCORED = [name for name in COMMANDS if name not in ANSWERS]
MODELS = {"translate": "builtin:en-fr"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    row = {"id": 7, "prompt": "Once", "text": "Good morning.", "question": "Who?", "choices": ["a", "b"], "answer": 0, "reference": "x"}
    return write_rows(tmp_path / "in.jsonl", [row])


@pytest.mark.parametrize(
    ("command", "ending"),
    [*((command, ending) for command in COMMANDS for ending in JSON_LINES), *((c, e) for c in ANSWERS for e in ("csv", "tsv"))],
)
def test_rows_are_written_in_the_format_that_the_ending_names(run: Run, rows: Path, tmp_path: Path, command: str, ending: str) -> None:
    arguments, answer = COMMANDS[command]
    out = tmp_path / f"out.{ending}"
    ran = run(*arguments, "-m", MODELS.get(command, "builtin:stories"), "-i", rows, "-o", out)
    assert ran.code == 0, ran.err
    separator = {"csv": ",", "tsv": "\t"}.get(ending)
    with out.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file, delimiter=separator) if separator else map(json.loads, file)
    assert str(row["id"]) == "7"
    assert row[answer] not in (None, "")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_no_cell_of_a_table_is_a_formula(run: Run, tmp_path: Path, ending: str) -> None:
    kept = ["-5", "-0.5e-3", "a=1", "'=1"]
    formulas = ["=cmd|' /C calc'!A0", "@x", "+1", "-1+1", "- a point", "\t=1", "-"]
    cells = [*kept, *formulas]
    source = write_rows(tmp_path / "in.jsonl", [{"prompt": "Hello", "cell": cell, "=1+1": -7} for cell in cells])
    out = tmp_path / f"out.{ending}"
    assert run("generate", "-i", source, "-o", out, "--max-new-tokens", "1").code == 0
    with out.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter={"csv": ",", "tsv": "\t"}[ending]))
    assert [row["cell"] for row in found] == [*kept, *(f"'{cell}" for cell in formulas)]
    assert {row["'=1+1"] for row in found} == {"-7"}


@pytest.mark.parametrize("command", ANSWERS)
def test_text_and_standard_output_hold_answers(run: Run, rows: Path, tmp_path: Path, command: str) -> None:
    arguments, answer = COMMANDS[command]
    job = [*arguments, "-m", MODELS.get(command, "builtin:stories"), "-i", rows]
    assert run(*job, "-o", tmp_path / "out.txt").code == 0
    to_stdout = run(*job, "-o", "-")
    assert to_stdout.code == 0, to_stdout.err
    (row,) = map(json.loads, to_stdout.out.splitlines())
    assert (tmp_path / "out.txt").read_text() == row[answer].replace("\n", "\\n") + "\n"


@pytest.mark.parametrize("name", ["out.txt", "out.csv", "out.tsv", "-"])
@pytest.mark.parametrize("command", SCORED)
def test_scored_rows_are_json_lines_in_a_file(run: Run, rows: Path, command: str, name: str) -> None:
    ran = run(*COMMANDS[command][0], "-m", "no-such-folder/", "-i", rows, "-o", name)
    assert ran.code == 2
    assert "no-such-folder" not in ran.err


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.jsonl.gz", "out.json", "out."])
@pytest.mark.parametrize("command", COMMANDS)
def test_another_ending_is_refused_before_a_model_is_loaded(
    run: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*COMMANDS[command][0], "-m", "no-such-folder/", "-i", rows, "-o", name)
    assert ran.code == 2
    assert name in ran.err
    assert "no-such-folder" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
