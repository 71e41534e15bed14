"""`--max-time` ends a run inside a batch, each start gets on, and the end is the same; smaller batches continue a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import STORIES, Run, write_rows

from llmkit.engines.base import Check, never_stop
from llmkit.errors import TimeUpError
from llmkit.jobs.batching import Work
from llmkit.jobs.earlier import smaller_batches
from llmkit.jobs.executor import Here, growing
from llmkit.jobs.outcome import Answer
from llmkit.jobs.reporter import Silent
from llmkit.jobs.stopping import Stopping, TooLongError
from llmkit.rows import Row

MOST_STARTS = 60


def journaled(out: Path) -> int:
    """Rows that the journal holds."""
    journal = Path(f"{out}.journal")
    lines = journal.read_text().splitlines()[1:] if journal.exists() else []
    return sum(len(json.loads(line[9:])["rows"]) for line in lines)


@pytest.mark.parametrize("engine", ["ctranslate2", "torch"])
def test_a_run_with_a_limit_gets_on_with_each_start_to_the_same_bytes(run: Run, tmp_path: Path, engine: str) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"Once upon a time there were {i} kings"} for i in range(12)])
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    arguments = ["generate", "-m", STORIES, "--engine", engine, "-i", rows, "--max-new-tokens", 24, "-q"]
    assert run(*arguments, "-o", whole).code == 0
    done = 0
    codes: list[int] = []
    while not out.exists() and len(codes) < MOST_STARTS:
        # a batch of 12 rows takes longer than this on any machine
        codes.append(run(*arguments, "-o", out, "--max-time", "0.001s").code)
        if not out.exists():
            assert codes[-1] == 124
            assert journaled(out) > done
            done = journaled(out)
    assert codes[0] == 124
    assert codes[-1] == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_limit_that_is_not_reached_changes_nothing(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"the king {i}"} for i in range(5)])
    outs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for out, more in zip(outs, ([], ["--max-time", "1h"]), strict=True):
        assert run("generate", "-i", rows, "--max-new-tokens", 3, "-o", out, *more).code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_a_translation_is_broken_off_too(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": f"Good morning, Tom. We have {i} dogs."} for i in range(6)])
    ran = run("translate", "-i", rows, "-o", tmp_path / "out.jsonl", "--to", "fr", "--max-time", "0.001s")
    assert ran.code == 124
    assert journaled(tmp_path / "out.jsonl") >= 1


class Clocked:
    """A task whose rows each take one tick of a clock that the test holds; notes the sizes of the batches that it finished."""

    width = 1

    def __init__(self) -> None:
        self.now = 0
        self.sizes: list[int] = []

    def prepare(self, row: Row) -> Work:
        return Work(row)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        for _ in batch:
            self.now += 1
            check()
        self.sizes.append(len(batch))
        return [Answer({"text": ""}) for _ in batch]


class Limit(Stopping):
    """A limit in the ticks of a task."""

    def __init__(self, task: Clocked, ticks: int) -> None:
        super().__init__(3600, print)
        self.task, self.ticks = task, ticks

    def time(self) -> None:
        if self.task.now >= self.ticks:
            raise TimeUpError("stopped")

    def half_time(self) -> None:
        if self.task.now * 2 >= self.ticks:
            raise TooLongError


def finished(rows: int | tuple[int, int], ticks: int) -> list[int]:
    """The sizes of batches that a run finishes in `ticks`, of two of `rows` rows, and -1 where the time ended it."""
    task = Clocked()
    batches = [[Work(Row(i, None, {})) for i in range(size)] for size in (rows if isinstance(rows, tuple) else (rows, rows))]
    try:
        for _ in Here(task, Silent(), Limit(task, ticks)).run(batches):
            pass
    except TimeUpError:
        task.sizes.append(-1)
    return task.sizes


def test_batches_are_whole_where_the_first_takes_less_than_half_of_the_time() -> None:
    assert finished(rows=8, ticks=100) == [8, 8]
    assert finished(rows=8, ticks=17) == [8, 8]


def test_a_first_batch_that_takes_half_of_the_time_is_answered_in_parts_as_far_as_the_time_goes() -> None:
    assert finished(rows=8, ticks=16) == [1, 1, 2, -1]


def test_a_later_batch_that_the_limit_breaks_off_is_left_to_the_next_run() -> None:
    assert finished(rows=8, ticks=20) == [8, 8]
    assert finished(rows=9, ticks=18 + 1) == [9, 9]
    assert finished(rows=20, ticks=41) == [20, 20]
    assert finished(rows=(8, 30), ticks=20) == [8, -1]


def test_a_first_row_takes_as_long_as_it_takes() -> None:
    assert finished(rows=8, ticks=1) == [1, -1]
    assert finished(rows=1, ticks=1) == [1, -1]


def test_a_batch_in_parts_grows_from_one_row() -> None:
    parts = list(growing([Work(Row(i, None, {})) for i in range(11)]))
    assert [len(part) for part in parts] == [1, 1, 2, 4, 3]
    assert [work.row.index for part in parts for work in part] == list(range(11))


@pytest.mark.parametrize("change", [["--batch-size", "2"], ["--batch-tokens", "100"], ["--batch-size", "1", "--batch-tokens", "99"]])
def test_smaller_batches_continue_an_unfinished_run_with_a_warning(run: Run, tmp_path: Path, change: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"the king {i}"} for i in range(9)])
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    arguments = ["generate", "-i", rows, "--max-new-tokens", 8]
    assert run(*arguments, "-o", whole).code == 0
    assert run(*arguments, "-o", out, "--batch-size", 4, "--max-time", "0.001s").code == 124
    before = journaled(out)
    assert before > 0
    larger = run(*arguments, "-o", out, "--batch-size", 5)
    assert larger.code == 2
    assert "batch_size was 4, is 5" in larger.err
    ran = run(*arguments, "-o", out, *(["--batch-size", "4"] if "--batch-size" not in change else []), *change)
    assert ran.code == 0, ran.err
    assert "smaller batches" in ran.err
    assert f"({before} from before)" in ran.err
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("before", "now", "smaller"),
    [
        ({"batch_size": "4"}, {"batch_size": "2"}, ["batch_size was 4, is 2"]),
        ({"batch_size": "auto"}, {"batch_size": "8"}, ["batch_size was auto, is 8"]),
        ({"batch_size": "auto"}, {"batch_size": "65"}, []),
        ({"batch_size": "8"}, {"batch_size": "auto"}, []),
        ({"batch_tokens": 100}, {"batch_tokens": 99}, ["batch_tokens was 100, is 99"]),
        ({"batch_tokens": 100}, {"batch_tokens": 101}, []),
        ({"batch_tokens": 100}, {}, []),
        ({"batch_size": "4"}, {"batch_size": "x"}, []),
        ({"batch_size": "4"}, {"batch_size": "4"}, []),
    ],
)
def test_what_counts_as_smaller_batches(before: dict[str, object], now: dict[str, object], smaller: list[str]) -> None:
    assert smaller_batches(before, now) == smaller
