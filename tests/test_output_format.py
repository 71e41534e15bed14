"""How answers are written: on standard output as text where text lines came in, else as JSON lines; in a file by its ending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

SHORT = ("--max-new-tokens", "4", "-q")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("Once upon a time\nThe dog\n")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": 7, "prompt": "Once upon a time"}\n{"id": 8, "prompt": "The dog"}\n')
    return path


def test_lines_of_text_are_answered_by_lines_of_text(run: Run, lines: Path) -> None:
    done = run("generate", "-i", lines, *SHORT)
    assert done.code == 0
    assert done.out.splitlines() == [run("generate", prompt, *SHORT).out.rstrip("\n") for prompt in lines.read_text().splitlines()]


def test_rows_are_answered_by_json_lines(run: Run, rows: Path) -> None:
    done = run("generate", "-i", rows, *SHORT)
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == [7, 8]


def test_the_option_names_the_other_form(run: Run, lines: Path, rows: Path) -> None:
    text = run("generate", "-i", lines, *SHORT).out
    assert run("generate", "-i", rows, *SHORT, "--output-format", "text").out == text
    as_json = run("generate", "-i", lines, *SHORT, "--output-format", "jsonl").out
    assert [json.loads(line)["text"] for line in as_json.splitlines()] == text.splitlines()


def test_a_line_end_in_an_answer_keeps_its_line_whole(run: Run, lines: Path) -> None:
    out = run("generate", "-i", lines, "--max-new-tokens", "60", "-q").out
    assert out.count("\n") == 2
    assert "\\n" in out


def test_several_answers_of_a_line_are_json_lines(run: Run, lines: Path) -> None:
    sampled = ("-n", "2", "--temperature", "1", "--seed", "1")
    out = run("generate", "-i", lines, *SHORT, *sampled).out
    assert [len(json.loads(line)["texts"]) for line in out.splitlines()] == [2, 2]
    refused = run("generate", "-i", lines, *SHORT, *sampled, "--output-format", "text")
    assert refused.code == 2
    assert "each row has several" in refused.err


@pytest.mark.parametrize("field", ["text", "ours"])
def test_a_failed_rows_own_field_is_not_taken_for_its_answer(run: Run, tmp_path: Path, field: str) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.txt"
    source.write_text(json.dumps({field: "mine", "prompt": None}) + "\n")
    how = ("-i", source, "--output-field", field, *SHORT)
    assert run("generate", *how, "-o", out).code == 3
    assert out.read_text() == "\n"
    assert run("generate", *how, "--output-format", "text").out == "\n"
    line = json.loads(run("generate", *how, "--output-format", "openai-batch").out)
    assert (line["response"], line["error"]["code"]) == (None, "row_failed")


def test_several_answers_are_the_choices_of_a_batch_beside_a_field_of_the_answers_name(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "mine", "prompt": "Once"}\n')
    line = run("generate", "-i", source, *SHORT, "-n", "2", "--num-beams", "2", "--output-format", "openai-batch").out
    body = json.loads(line)["response"]["body"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length", "length"]
    assert "mine" not in line
    assert body["usage"]["completion_tokens"] == 8


def test_translations_of_lines_are_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("Good morning.\n\nThank you.\n")
    out = run("translate", "-i", path, "--to", "fr", "-q").out
    assert out == "Bonjour.\n\nMerci.\n"
    best = run("translate", "-i", path, "--to", "fr", "-q", "--n-best", "2", "-o", tmp_path / "best.txt")
    assert best.code == 2
    assert "each row has several" in best.err


def test_a_table_needs_a_file(run: Run, lines: Path, tmp_path: Path) -> None:
    refused = run("generate", "-i", lines, *SHORT, "--output-format", "csv")
    assert refused.code == 2
    assert "csv needs all rows" in refused.err
    table = tmp_path / "answers.out"
    assert run("generate", "-i", lines, *SHORT, "--output-format", "csv", "-o", table).code == 0
    assert table.read_text().splitlines()[0] == "prompt,text,finish_reason,prompt_tokens,completion_tokens,error"


def test_one_prompt_is_an_object_where_json_lines_are_asked_for(run: Run, lines: Path) -> None:
    assert run("generate", "Once", *SHORT, "--output-format", "jsonl").out == run("generate", "Once", *SHORT, "--json").out
    assert run("translate", "Thank you.", "--to", "fr", "-q", "--output-format", "text").out == "Merci.\n"
    refused = run("generate", "Once", *SHORT, "--output-format", "csv")
    assert refused.code == 2
    assert "--output-format csv needs --input" in refused.err
    many = run("generate", "-i", lines, "--json")
    assert many.code == 2
    assert "--output-format jsonl" in many.err


def test_a_link_names_the_format_of_the_file_that_it_leads_to(run: Run, lines: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").symlink_to("kept-elsewhere")
    assert run("generate", "-i", lines, *SHORT, "-o", tmp_path / "answers.jsonl").code == 0
    assert len([json.loads(line)["text"] for line in (tmp_path / "kept-elsewhere").read_text().splitlines()]) == 2
