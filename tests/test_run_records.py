"""A run's record tells what was run, and `llmkit rerun` runs it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run, write_rows


@pytest.fixture
def job(tmp_path: Path, llama: Path, words: list[str]) -> list[str]:
    """A job of nine rows, all but its -o."""
    rows = [{"id": i, "prompt": " ".join(words[(i * 7 + j) % len(words)] for j in range(1 + i))} for i in range(9)]
    path = write_rows(tmp_path / "in.jsonl", rows)
    return ["generate", "-m", str(llama), "-i", str(path), "--max-new-tokens", "4", "--chat-template", "none"]


def test_the_run_record_tells_what_is_needed_to_run_it_again(run: Run, job: list[str], tmp_path: Path) -> None:
    import hashlib

    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "9", "--seed", "5").code == 0
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert record["command"] == "generate"
    assert record["options"]["limit"] == 9
    assert record["identity"]["seed"] == 5
    assert {"model.weights_sha256", "model.tokenizer_sha256", "model.device", "model.dtype", "model.engine"} <= record["identity"].keys()
    assert {"torch", "transformers", "python"} <= record["versions"].keys()
    result = record["result"]
    assert result["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (result["rows"], result["failed"], result["completion_tokens"]) == (9, 0, 36)
    assert result["seconds"] > 0
    assert result["peak_memory_bytes"] > 0


def test_rerun_says_whether_the_result_is_the_same(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "9", "--temperature", "1", "--stop", "--x", "--stop", "e").code == 0
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 0
    assert "same result: 9 rows" in ran.err
    record = json.loads(Path(f"{out}.run.json").read_text())
    record["result"]["output_sha256"] = "0" * 64
    Path(f"{out}.run.json").write_text(json.dumps(record))
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 4
    assert "different result" in ran.err


def test_a_record_beside_a_long_name_can_be_run_again(run: Run, job: list[str], tmp_path: Path) -> None:
    assert run(*job, "-o", tmp_path / ("a" * 243 + ".jsonl")).code == 0
    assert run("rerun", next(tmp_path.glob("a*.run.json"))).code == 0


def test_the_record_of_a_run_that_did_failed_rows_again_can_be_run_again(run: Run, job: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(*job, "-o", out, "--limit", "2").code == 0
    assert run(*job, "-o", out, "--limit", "2", "--retry-failed").code == 0
    assert run("rerun", f"{out}.run.json").code == 0


@pytest.mark.parametrize(
    "command", [["perplexity"], ["score", "--metrics", "exact_match", "--max-new-tokens", "2", "--chat-template", "none"]]
)
def test_an_evaluation_that_wrote_rows_can_be_run_again(run: Run, llama: Path, tmp_path: Path, command: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "the king", "prompt": "the king", "reference": "and"}] * 3)
    out = tmp_path / "out.jsonl"
    arguments = ["evaluate", *command, "-m", llama, "-i", rows, "-o", out, "--json"]
    assert run(*arguments).code == 0
    ran = run("rerun", f"{out}.run.json")
    assert ran.code == 0, ran.err
    assert "same result: 3 rows" in ran.err


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"command": "rm", "result": {}, "options": {}}'])
def test_rerun_refuses_what_is_no_record(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.run.json"
    path.write_text(content)
    ran = run("rerun", path)
    assert ran.code == 2
    assert "run record" in ran.err
