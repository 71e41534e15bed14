"""A number and its noun agree: one row is no "1 rows"."""

from __future__ import annotations

from pathlib import Path

from conftest import Run, write_rows

from llmkit.cli.progress import Pace
from llmkit.errors import counted
from llmkit.rows import Total


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 1024)] == ["0 rows", "1 row", "2 rows", "1,024 rows"]
    assert [counted(n, "row has", "rows have") for n in (1, 2)] == ["1 row has", "2 rows have"]


def test_progress_of_one_row_says_so() -> None:
    assert Pace("rows", done=1).count() == "1 row"
    assert Pace("segments", done=1, total=Total(1, exact=True)).count() == "1 of 1 segment (100%)"


def test_a_run_of_one_row_and_one_token_says_so(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "one.jsonl", [{"prompt": "Once upon a time"}])
    ran = run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", "--max-new-tokens", "1")
    assert ran.code == 0, ran.err
    assert "1 row, 1 token in" in ran.err


def test_a_report_of_one_row_says_so(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "one.jsonl", [{"text": "Once"}])
    ran = run("evaluate", "perplexity", "-i", rows, "--report", tmp_path / "r.md")
    assert ran.code == 0, ran.err
    assert "1 row, 1 document, " in (tmp_path / "r.md").read_text()
