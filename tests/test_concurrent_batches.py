"""Several batches at once: the same bytes as one after the other, no idle moment between windows, one writer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import read_rows, write_rows

from llmkit.engines.base import Check, never_stop
from llmkit.engines.openai.pacing import Pool
from llmkit.engines.turns import Turns
from llmkit.errors import LlmkitError, OutOfMemoryError, RowsFailedError, TimeUpError, UnavailableError
from llmkit.jobs.batching import WINDOW_ROWS, Work
from llmkit.jobs.executor import Answered, Concurrent
from llmkit.jobs.outcome import Answer, Tally
from llmkit.jobs.output import Output
from llmkit.jobs.reporter import Silent
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.stopping import PATIENCE, Stopping
from llmkit.rows import Row, open_rows


class Shouting:
    """A task whose answers come in an order that the test decides. hold: whether a row's answer waits for `release`."""

    width = 1

    def __init__(self) -> None:
        self.answered: list[int] = []
        self.held: set[int] = set()
        self.release = threading.Event()
        self.fails: dict[int, LlmkitError] = {}
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def prepare(self, row: Row) -> Work:
        return Work(row, row.fields["prompt"], 1, 1)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if any(work.row.index in self.held for work in batch):
            self.release.wait(60)
        for work in batch:
            if (problem := self.fails.get(work.row.index)) is not None:
                raise problem
        with self.lock:
            self.at_once -= 1
            self.answered += [work.row.index for work in batch]
        return [Answer({"text": str(work.payload).upper()}, None, 1, 1) for work in batch]


def run_job(task: Any, rows: Path, out: Path, executor: Any = None, **settings: Any) -> Tally:
    with Output(str(out)) as output:
        return file_job(open_rows(str(rows)), task, JobSettings(batch_size=1, **settings), output, Silent(), RunName("generate"), executor)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A little more than four windows."""
    return write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(4 * WINDOW_ROWS + 5)])


def test_the_bytes_are_those_of_one_batch_after_the_other(tmp_path: Path, rows: Path) -> None:
    one, many = Shouting(), Shouting()
    run_job(one, rows, tmp_path / "one.jsonl")
    tally = run_job(many, rows, tmp_path / "many.jsonl", concurrency=16)
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert tally.rows == len(one.answered) == len(many.answered) == 4 * WINDOW_ROWS + 5
    assert many.most_at_once <= 16


def test_the_next_window_begins_while_an_answer_of_the_first_is_out(tmp_path: Path, rows: Path) -> None:
    task = Shouting()
    task.held = {3}

    def release() -> None:
        while len(task.answered) < 2 * WINDOW_ROWS - 1:  # all of the first two windows but the row that is held
            task.release.wait(0.01)
        task.release.set()

    threading.Thread(target=release, daemon=True).start()
    run_job(task, rows, tmp_path / "out.jsonl", concurrency=4)
    assert sorted(task.answered[: 2 * WINDOW_ROWS - 1]) == [i for i in range(2 * WINDOW_ROWS) if i != 3]
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")[:5]] == [f"ROW {i}" for i in range(5)]


def test_a_run_that_ended_between_two_windows_resumes_to_the_same_bytes(tmp_path: Path, rows: Path) -> None:
    whole, first, second = Shouting(), Shouting(), Shouting()
    run_job(whole, rows, tmp_path / "whole.jsonl")
    first.held = {3}  # so that the journal has rows of the second window before all of the first
    stop = WINDOW_ROWS + 200
    first.fails = {stop: UnavailableError("gone")}
    with pytest.raises(UnavailableError):
        run_job(first, rows, tmp_path / "out.jsonl", concurrency=2)
    first.release.set()
    tally = run_job(second, rows, tmp_path / "out.jsonl", concurrency=3)
    assert tally.resumed >= stop - 2
    assert len(second.answered) == 4 * WINDOW_ROWS + 5 - tally.resumed
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


class Unfair:
    """An executor that keeps as many batches as it is given, and gives the newest back first."""

    def __init__(self, task: Shouting) -> None:
        self.task = task

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        kept: list[Sequence[Work]] = []
        for batch in batches:
            if batch:
                kept.append(batch)
            while kept and (not batch or len(kept) > 300):
                last = kept.pop()
                yield last, self.task.answer(last)
        for batch in kept:
            yield batch, self.task.answer(batch)


def test_an_executor_of_any_order_gives_the_same_bytes(tmp_path: Path, rows: Path) -> None:
    run_job(Shouting(), rows, tmp_path / "one.jsonl")
    task = Shouting()
    run_job(task, rows, tmp_path / "unfair.jsonl", Unfair(task))
    assert (tmp_path / "unfair.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_an_error_of_a_task_ends_the_run_without_waiting_for_the_others(tmp_path: Path, rows: Path) -> None:
    task = Shouting()
    task.held, task.fails = {0, 1, 2}, {4: UnavailableError("no key")}
    with pytest.raises(UnavailableError, match="no key"):
        run_job(task, rows, tmp_path / "out.jsonl", concurrency=8)
    task.release.set()


def test_what_ends_the_plan_is_raised_when_the_batches_that_are_out_are_back() -> None:
    task = Shouting()

    def batches() -> Iterator[Sequence[Work]]:
        for i in range(3):
            yield [task.prepare(Row(i, None, {"prompt": "a"}))]
        raise RowsFailedError("too many")

    back: list[int] = []

    def walk() -> None:
        back.extend(batch[0].row.index for batch, _ in Concurrent(task, 2, Silent()).run(batches()))

    with pytest.raises(RowsFailedError):
        walk()
    assert sorted(back) == [0, 1, 2]


def test_when_the_time_is_long_up_what_is_still_out_is_dropped_and_the_rest_kept() -> None:
    task = Shouting()
    task.held = {1}
    stopping = Stopping(-PATIENCE, Silent().notice)

    class Waiting(Shouting):
        def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
            while batch[0].row.index in task.held:
                check()
            return super().answer(batch)

    back: list[int] = []

    def walk() -> None:
        works = [[task.prepare(Row(i, None, {"prompt": "a"}))] for i in range(3)]
        back.extend(batch[0].row.index for batch, _ in Concurrent(Waiting(), 3, Silent(), check=stopping.late).run(works))

    with pytest.raises(TimeUpError, match="max_time"):
        walk()
    assert sorted(back) == [0, 2]


def test_answers_have_a_while_to_come_back_after_the_time_is_up() -> None:
    Stopping(0.0, Silent().notice).late()
    with pytest.raises(TimeUpError):
        Stopping(-PATIENCE, Silent().notice).late()


def test_a_budget_of_tokens_that_is_used_up_lets_nothing_begin() -> None:
    stopping = Stopping(None, Silent().notice, max_tokens=5)
    stopping.spend([Answer({}, None, 3, 2)])
    with pytest.raises(TimeUpError, match="max_tokens_total"):
        list(stopping.between([1]))


def test_a_server_that_rests_gets_no_work() -> None:
    pool = Pool(("a", "b"))
    pool.servers[0].unreachable(0.0)
    assert [pool.take(0.1).base for _ in range(5)] == ["b"] * 5
    assert pool.take(60.0).base == "a"


class Modeled(Shouting):
    """A task whose model works on a batch until it has the next one, too; what it does itself, it does alone."""

    def __init__(self, turns: Turns, batches: int) -> None:
        super().__init__()
        self.turns = turns
        self.asked = [threading.Event() for _ in range(batches)]

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        answers = super().answer(batch)
        number = batch[0].row.index
        self.asked[number].set()
        with self.turns.given():
            assert number + 1 == len(self.asked) or self.asked[number + 1].wait(60)
        return answers

    def works(self) -> list[Sequence[Work]]:
        return [[self.prepare(Row(i, None, {"prompt": "a"}))] for i in range(len(self.asked))]


def test_the_next_batch_is_made_ready_while_the_model_answers_one() -> None:
    turns = Turns()
    task = Modeled(turns, 20)
    back = [batch[0].row.index for batch, _ in Concurrent(task, 2, Silent(), turns=turns).run(task.works())]
    assert sorted(back) == list(range(20))
    assert task.most_at_once == 1


def test_a_model_in_this_process_has_ended_its_work_when_an_error_is_raised() -> None:
    turns = Turns()
    task = Modeled(turns, 6)
    task.fails = {3: UnavailableError("broken")}
    for asked in task.asked[3:]:  # nobody asks for a batch behind the one that fails
        asked.set()

    def walk() -> None:
        for _ in Concurrent(task, 2, Silent(), turns=turns).run(task.works()):
            pass

    before = threading.active_count()
    with pytest.raises(UnavailableError, match="broken"):
        walk()
    assert threading.active_count() == before


@pytest.mark.parametrize("room", [1, 3, 5])
def test_batches_that_memory_has_no_room_for_are_answered_in_smaller_ones(room: int) -> None:
    class Large(Shouting):
        def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
            if len(batch) > room:
                raise OutOfMemoryError("no room")
            return super().answer(batch)

    task = Large()
    works = [[task.prepare(Row(8 * i + k, None, {"prompt": "a"})) for k in range(8)] for i in range(4)]
    back = [work.row.index for batch, _ in Concurrent(task, 2, Silent()).run(works) for work in batch]
    assert sorted(back) == list(range(32))


def test_one_row_that_memory_has_no_room_for_ends_the_run() -> None:
    task = Shouting()
    task.fails = {5: OutOfMemoryError("no room")}
    works = [[task.prepare(Row(i, None, {"prompt": "a"}))] for i in range(8)]
    with pytest.raises(OutOfMemoryError):
        list(Concurrent(task, 2, Silent()).run(works))
