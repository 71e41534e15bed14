"""Who answers batches: an executor takes them as they are planned and gives them back answered, in any order.

Here, in this process, one after another; or several at once, for a model that computes elsewhere or leaves time for the next. Planning
and journal stay with the loop.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from llmkit.engines.base import Check, never_stop
from llmkit.engines.turns import Turns
from llmkit.errors import OutOfMemoryError, StoppedError, TimeUpError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.jobs.reporter import Reporter
from llmkit.jobs.stopping import Stopping, TooLongError
from llmkit.rows import Row

Answered = tuple[Sequence[Work], list[Answer]]


class Task(Protocol):
    """What a command does with rows. width: continuations of a row that are held at once (beams or samples)."""

    width: int

    def prepare(self, row: Row) -> Work:
        """Never raises for a bad row: its error is in the work."""
        ...

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """An answer to each row of the batch, made of the works' payloads: the rows' fields may not be there.

        check: called now and then; what it raises ends the batch. Raises OutOfMemoryError when the batch is too large.
        """
        ...


@runtime_checkable
class Traveling(Protocol):
    """A task that counts while it answers, so that copies of it elsewhere have to be counted, too."""

    def lend(self, batch: Sequence[Work]) -> Any:
        """What a copy has to know to answer this batch as the task itself would."""
        ...

    def borrow(self, lent: Any) -> None:
        """Makes this copy the one that answers a batch with what `lend` gave, its counts at their beginning."""
        ...

    def counts(self) -> Any:
        """What this copy has counted since `borrow`."""
        ...

    def collect(self, counts: Any) -> None:
        """Counts what a copy has counted."""
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
    """The executor of one process: a batch at a time, smaller ones after memory ran out.

    Where time is limited, a batch that the limit breaks off is dropped, and is the first of the next run. A first batch that takes
    more than half of the time is answered in parts, from one row upwards, and the first row as long as it takes: so each run gets on.
    """

    def __init__(self, task: Task, report: Reporter, stopping: Stopping | None = None) -> None:
        self._task, self._report, self._stopping = task, report, stopping
        self._most: int | None = None
        self._begun = False  # whether this run has answered anything

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        """As `Executor.run`, in order. Raises TimeUpError inside a batch, too, where time is limited."""
        for batch in batches:
            if batch:
                yield from self._in_time(batch)

    def _in_time(self, batch: Sequence[Work]) -> Iterator[Answered]:
        stopping = self._stopping
        check = never_stop
        if stopping is not None and stopping.limited:
            check = stopping.time if self._begun else never_stop if len(batch) == 1 else stopping.half_time
        try:
            answers = self._answers(batch, check)
        except TooLongError:
            for part in growing(batch):
                yield from self._in_time(part)
            return
        self._begun = True
        yield batch, answers

    def _answers(self, batch: Sequence[Work], check: Check) -> list[Answer]:
        if self._most is not None and len(batch) > self._most:
            size = self._most  # which may become smaller on the way
            parts = [batch[start : start + size] for start in range(0, len(batch), size)]
            return [answer for part in parts for answer in self._answers(part, check)]
        try:
            return self._task.answer(batch, check)
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Outside the handler: its traceback would keep the failed batch in memory during the next try.
        self._most = len(batch) // 2
        self._report.warn(f"out of memory with {len(batch)} rows at once; continuing with {self._most}")
        return self._answers(batch, check)


def growing(batch: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """A batch in parts of 1, 1, 2, 4, ... rows."""
    start, size = 0, 1
    while start < len(batch):
        yield batch[start : start + size]
        start += size
        size = start


class Concurrent:
    """Several batches at once, each in a thread of its own; smaller ones after memory ran out.

    For a task that waits for an answer from elsewhere, or for a model in this process: then with turns. check: given to the task. When
    the run has to end, the batches that are out may still come back, as long as `check` lets them; then they are dropped.
    """

    def __init__(self, task: Task, batches: int, report: Reporter, *, check: Check = never_stop, turns: Turns | None = None) -> None:
        self._task, self._out, self._report, self._check, self._turns = task, batches, report, check, turns
        self._parts: deque[Sequence[Work]] = deque()  # that come before the next batch
        self._most: int | None = None

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        """As `Executor.run`, in the order in which answers come. Raises StoppedError or TimeUpError once all that is out is back."""
        threads = _Threads(self._task, self._check, self._turns)
        pending: Iterator[Sequence[Work]] | None = iter(batches)
        ended: Exception | None = None
        try:
            while True:
                try:
                    pending = self._fill(threads, pending)
                except Exception as exc:
                    pending, ended = None, exc
                if not threads.out:
                    break
                batch, answers = threads.next()
                if isinstance(answers, OutOfMemoryError) and len(batch) > 1:
                    self._halve(batch)
                elif isinstance(answers, StoppedError | TimeUpError):  # of one that came too late; others may have been in time
                    pending, ended = None, ended or answers
                    self._parts.clear()
                elif isinstance(answers, BaseException):
                    raise answers
                else:
                    yield batch, answers
        finally:
            threads.end()
        if ended is not None:
            raise ended

    def _fill(self, threads: _Threads, pending: Iterator[Sequence[Work]] | None) -> Iterator[Sequence[Work]] | None:
        """Begins batches as long as there is room; what is left to begin, None for nothing. Raises what `pending` raises."""
        while threads.out < self._out:
            if not self._parts and pending is not None:
                with _turn(self._turns):
                    batch = next(pending, None)
                if batch is None:
                    pending = None
                elif not batch:
                    return pending
                else:
                    self._parts.extend(self._cut(batch))
            if not self._parts:
                return pending
            threads.begin(self._parts.popleft())
        return pending

    def _cut(self, batch: Sequence[Work]) -> Iterator[Sequence[Work]]:
        """A batch in parts that memory has room for."""
        size = min(self._most or len(batch), len(batch))
        return (batch[start : start + size] for start in range(0, len(batch), size))

    def _halve(self, batch: Sequence[Work]) -> None:
        self._most = min(self._most or len(batch), len(batch) // 2)
        self._report.warn(f"out of memory with {len(batch)} rows at once; continuing with {self._most}")
        self._parts.extendleft(reversed(list(self._cut(batch))))


def _turn(turns: Turns | None) -> AbstractContextManager[None]:
    return nullcontext() if turns is None else turns.taken()


class _Threads:
    """Threads that answer batches, started as they are needed. out: batches that are not back.

    They end with the process, whatever they wait for, so that an error or a signal does not wait for an answer from elsewhere. With
    turns, the model is in this process, which must not end while it works.
    """

    def __init__(self, task: Task, check: Check, turns: Turns | None) -> None:
        self._task, self._check, self._turns, self.out = task, check, turns, 0
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[Sequence[Work] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Sequence[Work], list[Answer] | BaseException]] = queue.SimpleQueue()

    def begin(self, batch: Sequence[Work]) -> None:
        self.out += 1
        if len(self._threads) < self.out:
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()
        self._waiting.put(batch)

    def next(self) -> tuple[Sequence[Work], list[Answer] | BaseException]:
        """The next batch that is back, with what its task raised in place of answers."""
        done = self._done.get()
        self.out -= 1
        return done

    def end(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        if self._turns is not None:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while (batch := self._waiting.get()) is not None:
            try:
                with _turn(self._turns):
                    answers: list[Answer] | BaseException = self._task.answer(batch, self._check)
            except BaseException as exc:  # the loop raises it in its own thread
                answers = exc
            self._done.put((batch, answers))
