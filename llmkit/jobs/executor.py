"""Who answers batches: an executor takes them as they are planned and gives them back answered, in any order.

Here, in this process, one after another; workers elsewhere are another executor. Planning and journal stay with the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from llmkit.errors import OutOfMemoryError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.jobs.report import Report
from llmkit.rows import Row

Answered = tuple[Sequence[Work], list[Answer]]


class Task(Protocol):
    """What a command does with rows. width: continuations of a row that are held at once (beams or samples)."""

    width: int

    def prepare(self, row: Row) -> Work:
        """Never raises for a bad row: its error is in the work."""
        ...

    def answer(self, batch: Sequence[Work]) -> list[Answer]:
        """An answer to each row of the batch. Raises OutOfMemoryError when the batch is too large."""
        ...


class Executor(Protocol):
    """Answers batches."""

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        """Each batch, or parts of it, with its answers; in any order. `batches` is walked as there is room for more.

        Raises OutOfMemoryError when one row alone is too much.
        """
        ...


class Here:
    """The executor of one process: a batch at a time, smaller ones after memory ran out."""

    def __init__(self, task: Task, report: Report) -> None:
        self._task, self._report = task, report
        self._most: int | None = None

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        for batch in batches:
            yield batch, self._answers(batch)

    def _answers(self, batch: Sequence[Work]) -> list[Answer]:
        if self._most is not None and len(batch) > self._most:
            size = self._most  # which may become smaller on the way
            parts = [batch[start : start + size] for start in range(0, len(batch), size)]
            return [answer for part in parts for answer in self._answers(part)]
        try:
            return self._task.answer(batch)
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Outside the handler: its traceback would keep the failed batch in memory during the next try.
        self._most = len(batch) // 2
        self._report.warn(f"out of memory with {len(batch)} rows at once; continuing with {self._most}")
        return self._answers(batch)
