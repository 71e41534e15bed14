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


TABLES = {
    "semicolons": (b"id;prompt\n1;Hi, you\n", b"1;Hi, you;"),
    "of a spreadsheet": (b'\xef\xbb\xbfid;prompt\r\n1;"Hi; you"\r\n', b'1;"Hi; you";'),
    "all in quotes": (b'"id","prompt"\n"1","Hi"\n', b'"1","Hi","'),
    "tabs": (b"id\tprompt\n1\tHi; you\n", b"1\tHi; you\t"),
    "bars": (b"id|prompt\n1|Hi, you\n", b"1|Hi, you|"),
    "commas": (b'id,prompt\n1,"Hi, you"\n', b'1,"Hi, you",'),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_written_as_the_input_was(run: Run, tmp_path: Path, name: str) -> None:
    content, row = TABLES[name]
    source, out, joined = (tmp_path / name for name in ("in.csv", "out.csv", "joined.csv"))
    source.write_bytes(content)
    command = ("generate", "-i", source, "--max-new-tokens", "1")
    assert run(*command, "-o", out).code == 0
    header, first, *rest = out.read_bytes().split(b"\r\n" if b"\r" in content else b"\n")
    assert header.startswith(content.splitlines()[0])
    assert first.startswith(row)
    assert rest == [b""]
    assert run(*command, "-o", joined, "--shard", "1/1").code == 0
    assert run("gather", joined).code == 0
    assert joined.read_bytes() == out.read_bytes()


def test_a_table_of_another_format_is_written_as_its_own_is(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.tsv"
    source.write_bytes(b'\xef\xbb\xbf"id";"prompt"\r\n"1";"Hi"\r\n')
    assert run("generate", "-i", source, "-o", out, "--max-new-tokens", "1").code == 0
    assert out.read_bytes().startswith(b"id\tprompt\ttext\t")


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
