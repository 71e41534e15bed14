"""What becomes of batches when workers die or run out of memory: by a crew in this process whose fate each test decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import read_rows, write_rows

from llmkit.errors import OutOfMemoryError, StoppedError, TimeUpError, UnavailableError
from llmkit.jobs.batching import Work
from llmkit.jobs.executor import Task
from llmkit.jobs.outcome import Answer, Tally
from llmkit.jobs.output import Output
from llmkit.jobs.reporter import Silent
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.stopping import PATIENCE, Stopping
from llmkit.jobs.worker import Back
from llmkit.jobs.workers import DEATHS, Arrived, Died, Parcel, Workers
from llmkit.rows import Row, open_rows

#: What happens to a parcel at its Nth try (from 0); None lets it be answered.
Fate = Callable[[Parcel, int], OutOfMemoryError | Died | None]


class Shouting:
    width = 1

    def prepare(self, row: Row) -> Work:
        return Work(row, row.fields["prompt"], 1, 1)

    def answer(self, batch: Any, *_: Any) -> list[Answer]:
        return [Answer({"text": work.payload.upper()}, None, 1, 1) for work in batch]


class Scripted:
    """Places for parcels, answered newest first. sent: the rows of each parcel, as it was sent."""

    working = "3 of 3 workers"

    def __init__(self, fate: Fate = lambda parcel, tries: None, most: int = 3) -> None:
        self.fate, self.task, self.most = fate, Shouting(), most
        self.out: list[Parcel] = []
        self.sent: list[list[int]] = []

    def begin(self, task: Task) -> None:
        pass

    def free(self) -> bool:
        return len(self.out) < self.most

    def send(self, parcel: Parcel) -> None:
        self.out.append(parcel)
        self.sent.append([work.row.index for work in parcel.batch])

    def events(self, seconds: float) -> list[Arrived | Died]:
        if not self.out:
            return []
        parcel = self.out.pop()
        rows = [work.row.index for work in parcel.batch]
        fate = self.fate(parcel, self.sent.count(rows) - 1)
        if isinstance(fate, Died):
            return [Died([parcel], fate.reason, fate.memory, fate.blamed)]
        if isinstance(fate, OutOfMemoryError):
            return [Arrived(parcel, Back(None, error=fate))]
        return [Arrived(parcel, Back(self.task.answer(parcel.batch)))]

    def drop(self) -> None:
        self.out.clear()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(3000)])


def answer_with(crew: Scripted | None, rows: Path, out: Path, batch_size: int = 8) -> Tally:
    with Output(str(out)) as output:
        job = JobSettings(batch_size=batch_size, crew=crew)
        return file_job(open_rows(str(rows)), Shouting(), job, output, Silent(), RunName("generate"))


def test_the_bytes_are_those_of_one_process_whatever_dies(tmp_path: Path, rows: Path) -> None:
    answer_with(None, rows, tmp_path / "one.jsonl")
    dying = Scripted(lambda parcel, tries: Died() if tries < 2 and parcel.batch[0].row.index % 5 == 0 else None)
    tally = answer_with(dying, rows, tmp_path / "many.jsonl")
    assert (tally.rows, tally.failed) == (3000, 0)
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_many_workers_are_not_idle_while_one_batch_is_late_and_what_they_did_is_continued(tmp_path: Path) -> None:
    class Late(Scripted):
        """All but the first parcel come back in their order. least: how many were out when one was waited for, at least."""

        least = 40

        def events(self, seconds: float) -> list[Arrived | Died]:
            self.least = min(self.least, len(self.out))
            if len(self.sent) == 60:
                raise UnavailableError("no worker is left")
            self.out.append(self.out.pop(1))
            return super().events(seconds)

    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": f"row {i}"} for i in range(5000)])
    crew = Late(most=40)
    with pytest.raises(UnavailableError):
        answer_with(crew, rows, tmp_path / "many.jsonl", batch_size=64)
    assert crew.least == 40
    assert answer_with(Scripted(), rows, tmp_path / "many.jsonl", batch_size=64).resumed == 20 * 64
    answer_with(None, rows, tmp_path / "one.jsonl", batch_size=64)
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_batch_that_workers_die_of_again_and_again_becomes_error_rows_and_the_rest_goes_on(tmp_path: Path, rows: Path) -> None:
    crew = Scripted(lambda parcel, _: Died(reason="its process ended") if any(w.row.index == 16 for w in parcel.batch) else None)
    tally = answer_with(crew, rows, tmp_path / "out.jsonl")
    assert (tally.rows, tally.failed_rows, tally.exit_code) == (3000, [[16, 23]], 3)
    assert crew.sent.count(list(range(16, 24))) == DEATHS
    assert read_rows(tmp_path / "out.jsonl")[16]["error"] == "3 workers in a row died while they answered its batch: its process ended"


def test_a_machine_that_is_gone_is_not_the_batchs_fault(tmp_path: Path, rows: Path) -> None:
    crew = Scripted(lambda parcel, tries: Died(blamed=False) if tries < 2 * DEATHS and parcel.batch[0].row.index == 16 else None)
    assert answer_with(crew, rows, tmp_path / "out.jsonl").failed == 0


@pytest.mark.parametrize("problem", [OutOfMemoryError("full"), Died(memory=True)], ids=["of a batch", "of a machine"])
def test_a_batch_that_memory_cannot_hold_goes_on_in_halves(tmp_path: Path, rows: Path, problem: OutOfMemoryError | Died) -> None:
    crew = Scripted(lambda parcel, _: problem if len(parcel.batch) > 2 else None)
    assert answer_with(crew, rows, tmp_path / "out.jsonl").failed == 0
    assert max(map(len, crew.sent[20:])) == 2
    answer_with(None, rows, tmp_path / "one.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_row_that_is_too_much_for_memory_ends_the_run_and_keeps_the_rest(tmp_path: Path, rows: Path) -> None:
    crew = Scripted(lambda parcel, _: OutOfMemoryError("full") if parcel.batch[0].row.index == 999 else None)
    with pytest.raises(OutOfMemoryError):
        answer_with(crew, rows, tmp_path / "out.jsonl", batch_size=1)
    assert answer_with(Scripted(), rows, tmp_path / "out.jsonl", batch_size=1).resumed > 900


def test_an_error_of_the_crew_ends_the_run_and_the_same_command_goes_on(tmp_path: Path, rows: Path) -> None:
    class Lost(Scripted):
        def events(self, seconds: float) -> list[Arrived | Died]:
            if len(self.sent) > 100:
                raise UnavailableError("no worker is left")
            return super().events(seconds)

    with pytest.raises(UnavailableError, match="no worker is left"):
        answer_with(Lost(), rows, tmp_path / "out.jsonl")
    crew = Scripted()
    tally = answer_with(crew, rows, tmp_path / "out.jsonl")
    assert tally.resumed >= 8 * 97
    assert 8 * len(crew.sent) == 3000 - tally.resumed


def batches(count: int) -> list[list[Work]]:
    return [[Shouting().prepare(Row(i, None, {"prompt": "a"}))] for i in range(count)]


def answered_until(error: type[Exception], crew: Scripted, stopping: Stopping, planned: Iterable[list[Work]]) -> int:
    """How many of the planned batches came back before the run ended with `error`."""
    walk, back = Workers(crew, Shouting(), Silent(), stopping).run(planned), 0
    while True:
        try:
            next(walk)
        except error:
            return back
        back += 1


def test_the_first_batch_is_answered_however_short_the_time() -> None:
    stopping = Stopping(-PATIENCE, Silent().notice)
    assert answered_until(TimeUpError, Scripted(), stopping, stopping.between(batches(9))) == 1


def test_what_is_out_comes_back_after_the_time_is_up_and_nothing_more_is_sent() -> None:
    crew = Scripted()
    assert answered_until(TimeUpError, crew, Stopping(0.0, Silent().notice), batches(9)) == 3
    assert len(crew.sent) == 3


def test_a_signal_ends_a_run_whose_workers_are_all_starting() -> None:
    class Starting(Scripted):
        def free(self) -> bool:
            return False

        def events(self, seconds: float) -> list[Arrived | Died]:
            stopping._on_signal(15, None)
            return []

    stopping = Stopping(None, Silent().notice)
    with pytest.raises(StoppedError):
        list(Workers(Starting(), Shouting(), Silent(), stopping).run(batches(9)))
