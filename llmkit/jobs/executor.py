"""Who answers batches: an executor takes them as they are planned and gives them back answered, in any order.

Here, in this process, one after another; or several at once, for a model that computes elsewhere. Planning and journal stay with
the loop.
"""

from __future__ import annotations

import queue
import threading
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

        An empty batch says that the next one has to wait until one that is out is back. What `batches` raises is raised when
        the batches that are out are back; what a task raises, at once. Raises OutOfMemoryError when one row alone is too much.
        """
        ...


class Here:
    """The executor of one process: a batch at a time, smaller ones after memory ran out."""

    def __init__(self, task: Task, report: Report) -> None:
        self._task, self._report = task, report
        self._most: int | None = None

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        for batch in batches:
            if batch:
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


class Concurrent:
    """Several batches at once, each in a thread of its own: for a task that waits for an answer from elsewhere."""

    def __init__(self, task: Task, batches: int) -> None:
        self._task, self._most = task, batches

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        source, threads = iter(batches), _Threads(self._task)
        more, ended = True, None
        try:
            while more or threads.out:
                while more and threads.out < self._most:
                    try:
                        batch = next(source)
                    except StopIteration:
                        more = False
                        break
                    except Exception as exc:
                        more, ended = False, exc
                        break
                    if not batch:
                        break
                    threads.begin(batch)
                if threads.out:
                    yield threads.next()
        finally:
            threads.end()
        if ended is not None:
            raise ended


class _Threads:
    """Threads that answer batches, started as they are needed. out: batches that are not back.

    They end with the process, whatever they wait for, so that an error or a signal does not wait for an answer.
    """

    def __init__(self, task: Task) -> None:
        self._task, self.out, self._threads = task, 0, 0
        self._waiting: queue.SimpleQueue[Sequence[Work] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Sequence[Work], list[Answer] | BaseException]] = queue.SimpleQueue()

    def begin(self, batch: Sequence[Work]) -> None:
        self.out += 1
        if self._threads < self.out:
            self._threads += 1
            threading.Thread(target=self._work, daemon=True).start()
        self._waiting.put(batch)

    def next(self) -> Answered:
        """The next batch that is back. Raises what its task raised."""
        batch, answers = self._done.get()
        self.out -= 1
        if isinstance(answers, BaseException):
            raise answers
        return batch, answers

    def end(self) -> None:
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (batch := self._waiting.get()) is not None:
            try:
                answers: list[Answer] | BaseException = self._task.answer(batch)
            except BaseException as exc:  # the loop raises it in its own thread
                answers = exc
            self._done.put((batch, answers))
