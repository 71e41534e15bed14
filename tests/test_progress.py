"""How far a run is: what is known of its length, and what is said of it."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, Run, write_rows
from test_console import on_a_terminal

from llmkit.cli.progress import Pace
from llmkit.rows import Total, open_rows

ROWS = 20_000


@pytest.mark.parametrize(
    ("pace", "line"),
    [
        (Pace("rows", 30, 30, 600, Total(120, True)), "30 of 120 rows (25%), 60 tokens/s, 0:00:30 left"),
        (Pace("rows", 90, 30, 600, Total(120, True)), "90 of 120 rows (75%), 60 tokens/s, 0:00:10 left"),
        (Pace("segments", 30, 30, 0, Total(9000, False)), "30 of ~9,000 segments (0%), 3.0 segments/s, 0:49:50 left"),
        (Pace("rows", 1200, 1200, 36_000), "1,200 rows, 3,600 tokens/s"),
        (Pace("rows", 50, 0, 0, Total(100, True)), "50 of 100 rows (50%)"),
        (Pace("rows", 120, 20, 20, Total(100, False)), "120 rows, 2 tokens/s"),
    ],
    ids=["from the start", "continued", "an estimate", "no total", "nothing answered yet", "a wrong estimate"],
)
def test_progress_after_ten_seconds_says_how_many_how_fast_and_how_long(pace: Pace, line: str) -> None:
    assert pace.line(10.0) == line


def content(ending: str) -> bytes:
    texts = [f"the king number {number}" for number in range(ROWS)]
    if ending == ".csv":
        return "\n".join(["id,prompt", *(f"{i},{t}" for i, t in enumerate(texts))]).encode()
    if ending == ".jsonl":
        return "".join(json.dumps({"prompt": text}) + "\n" for text in texts).encode()
    return "".join(text + "\n" for text in texts).encode()


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv"])
@pytest.mark.parametrize("packed", [False, True], ids=["", "gz"])
def test_the_length_of_a_file_is_estimated_while_it_is_read(tmp_path: Path, ending: str, packed: bool) -> None:
    path = tmp_path / f"rows{ending}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content(ending)) if packed else content(ending))
    rows = open_rows(str(path))
    list(itertools.islice(rows, 1000))
    early = rows.total
    assert early is not None
    assert early.rows == pytest.approx(ROWS, rel=0.2)
    assert not early.exact
    for _ in rows:
        pass
    assert rows.total == Total(ROWS, True)


def test_a_file_that_was_read_to_its_end_is_counted_exactly_before_its_rows_are_done(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a"}] * 1500)
    rows = open_rows(str(path))
    next(iter(rows))
    assert rows.total == Total(1500, True)


def test_a_limit_is_the_length_where_the_file_has_more(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a"}] * 1500)
    for limit, expected in ((10, 10), (5000, 1500)):
        rows = open_rows(str(path), max_rows=limit)
        next(iter(rows))
        assert rows.total == Total(expected, True)


def test_parquet_tells_its_length(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"] * 3000}), tmp_path / "rows.parquet")
    rows = open_rows(str(tmp_path / "rows.parquet"))
    next(iter(rows))
    assert rows.total == Total(3000, True)


def test_a_document_is_counted_in_segments() -> None:
    from llmkit.translation.documents import markdown
    from llmkit.translation.documents.rows import document_rows

    data = b"# One\n\nTwo.\n\nThree.\n"
    rows = document_rows(markdown.parse(data, "a.md"), data, "a.md")
    assert (rows.unit, rows.total) == ("segments", Total(3, True))


def test_a_terminal_shows_how_many_of_how_many(prompts: Path, tmp_path: Path) -> None:
    code, shown = on_a_terminal("generate", "-i", prompts, "-o", tmp_path / "a.jsonl", "--max-new-tokens", "2")
    assert code == 0
    assert "24 of 24 rows (100%)" in shown


def test_a_terminal_shows_what_a_training_run_waits_for(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "The old king lived by the sea."}] * 4)
    code, shown = on_a_terminal("finetune", rows, "-m", "builtin:stories", "--dry-run")
    assert code == 0
    assert "loading libraries" in shown


def test_answers_that_are_redirected_go_to_their_file_while_a_terminal_shows_the_progress(prompts: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "llmkit", "generate", "-i", str(prompts), "--max-new-tokens", "1"]
    with (tmp_path / "answers.jsonl").open("wb") as file:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=follower,
            env={**os.environ, "TERM": "xterm"},
            timeout=PATIENCE,
            check=True,
        )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 0
    assert [json.loads(line)["id"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()] == list(range(24))


def test_no_bar_is_drawn_over_what_the_reader_of_a_pipe_shows(prompts: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "llmkit", "generate", "-i", str(prompts), "--max-new-tokens", "1"]
    terminal = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follower, env=terminal, timeout=PATIENCE, check=True
    )
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    assert len(done.stdout.splitlines()) == 24
    assert "24 rows, " in shown
    assert "rows (" not in shown


def test_the_summary_names_what_was_written(run: Run, prompts: Path, tmp_path: Path) -> None:
    ran = run("generate", "-i", prompts, "-o", tmp_path / "a.jsonl", "--max-new-tokens", "1")
    assert f"wrote {tmp_path / 'a.jsonl'} and a.jsonl.run.json" in ran.err
    assert "wrote" not in run("generate", "-i", prompts, "-o", tmp_path / "a.jsonl", "--max-new-tokens", "1").err
    report = tmp_path / "r.md"
    assert f"wrote {report}" in run("evaluate", "perplexity", "-i", prompts, "--text-field", "prompt", "--report", report).err


def test_the_first_command_says_what_makes_the_small_model_write_better(run: Run) -> None:
    flags = "--temperature 0.6 --repetition-penalty 1.1"
    assert flags in run("generate", "Once upon a time", "--max-new-tokens", "1").err
    assert flags not in run("generate", "Once upon a time", "--max-new-tokens", "1", *flags.split()).err
