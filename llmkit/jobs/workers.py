"""The executor of workers in other processes: two batches in flight per worker, and what happens when a worker dies.

Knows batches and a crew that carries them; not how the crew does it (ray.py), nor what a worker is (worker.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from llmkit.errors import OutOfMemoryError, StoppedError, UsageError
from llmkit.jobs.batching import Work
from llmkit.jobs.cache import CachedTask
from llmkit.jobs.executor import Answered, Task, Traveling
from llmkit.jobs.outcome import Answer
from llmkit.jobs.reporter import Reporter
from llmkit.jobs.stopping import Stopping
from llmkit.jobs.worker import Back

#: Workers that may die in a row while they answer a batch; then its rows are error rows.
DEATHS = 3
#: The smallest part of a CPU or GPU that Ray gives.
_LEAST = 0.0001
#: Seconds between two looks at what should end the run.
_TICK = 0.5


@dataclass(frozen=True)
class WorkerSettings:
    """How many workers there are, and where. address: of a running Ray cluster, None for one in this process's own session.

    cpus and gpus: of each worker, also in parts; None for what fits (see `llmkit.jobs.ray`). Raises UsageError.
    """

    count: int
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("`workers` must be 1 or more")
        for name, value in (("cpus_per_worker", self.cpus), ("gpus_per_worker", self.gpus)):
            if value is not None and value < 0:
                raise UsageError(f"`{name}` {value:g}: it can't be negative")
            if value is not None and (value % 1 if value > 1 else 0 < value < _LEAST):
                raise UsageError(f"`{name}` {value:g}: Ray gives parts of one, of {_LEAST:g} or more, and whole ones above that")
        if self.address is not None and self.address.startswith("ray://"):
            hint = "on a node of the cluster `ray` auto; from elsewhere: ray job submit -- llmkit ..."
            raise UsageError(f"`ray` {self.address}: that is a client's address, and batches need a node's", hint=hint)


@dataclass
class Parcel:
    """A batch on its way. deaths: of workers in a row that were answering it. lent: see `Traveling`."""

    batch: Sequence[Work]
    lent: Any = None
    deaths: int = 0


class Arrived(NamedTuple):
    """A batch that is back."""

    parcel: Parcel
    back: Back


@dataclass(frozen=True)
class Died:
    """A worker that is gone. parcels: that it had, the one it was answering first. memory: for want of memory.

    blamed: whether the batch may have been the cause; a node that is gone took its workers with it.
    """

    parcels: list[Parcel] = field(default_factory=list)
    reason: str = ""
    memory: bool = False
    blamed: bool = True


class Crew(Protocol):
    """Carries batches to workers, and replaces workers that die."""

    @property
    def working(self) -> str:
        """How many there are now, for who watches: '3 of 4 workers'."""
        ...

    @property
    def most(self) -> int:
        """Batches that can be out at once."""
        ...

    def begin(self, task: Task) -> None:
        """The task of the batches that follow."""
        ...

    def free(self) -> bool:
        """Whether a worker takes one more batch now."""
        ...

    def send(self, parcel: Parcel) -> None:
        """Gives a batch to a worker that takes one more."""
        ...

    def events(self, seconds: float) -> list[Arrived | Died]:
        """What has happened, after at most so many seconds. Raises LlmkitError when no worker is left, or one can't load the model."""
        ...

    def drop(self) -> None:
        """Gives up what is out."""
        ...


class Workers:
    """An executor whose batches a crew answers. The answers of a task that remembers (see `cache.py`) are remembered here.

    When the run has to end, batches that are out may come back for a while (see `Stopping.late`); then they are dropped. However short
    the time, the first is waited for, so that each run gets on.
    """

    def __init__(self, crew: Crew, task: Task, report: Reporter, stopping: Stopping) -> None:
        self._crew, self._report, self._stopping = crew, report, stopping
        self._cached = task if isinstance(task, CachedTask) else None
        self._task = task.task if isinstance(task, CachedTask) else task
        self._again: deque[Parcel] = deque()  # batches whose worker died
        self._out = 0
        self._most: int | None = None
        self._begun = False  # whether this run has answered anything
        self._ended: Exception | None = None

    def run(self, batches: Iterable[Sequence[Work]]) -> Iterator[Answered]:
        """As `Executor.run`. Raises StoppedError or TimeUpError after the batches that came back in time."""
        pending: Iterator[Sequence[Work]] | None = iter(batches)
        self._crew.begin(self._task)
        try:
            while True:
                if self._must_end():
                    pending = None
                    self._again.clear()
                pending = self._fill(pending)
                if pending is None and not self._out and not self._again:
                    break
                for event in self._crew.events(_TICK):
                    yield from self._arrived(event) if isinstance(event, Arrived) else self._died(event)
        finally:
            self._crew.drop()
        if self._ended is not None:
            raise self._ended

    def _fill(self, pending: Iterator[Sequence[Work]] | None) -> Iterator[Sequence[Work]] | None:
        """Gives batches to workers that take more; what is left to give, None for nothing."""
        while self._crew.free():
            if not self._again:
                try:
                    batch = next(pending) if pending is not None else ()
                except StopIteration:
                    return None
                except Exception as exc:
                    self._ended = exc
                    return None
                if not batch:
                    return pending
                self._again.extend(self._parcels(batch))
            self._crew.send(self._again.popleft())
            self._out += 1
        return pending

    def _parcels(self, batch: Sequence[Work], lent: Any = None) -> Iterator[Parcel]:
        """A batch in parts that memory has room for. lent: what the first part has been lent already."""
        size = min(self._most or len(batch), len(batch))
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            if lent is None:
                lent = self._task.lend(part) if isinstance(self._task, Traveling) else None
            yield Parcel(part, lent)
            lent = None

    def _must_end(self) -> bool:
        """Whether nothing more is to be sent. Raises what ends the run when it has waited long enough for what is out."""
        reason = self._stopping.due()
        if reason is None or not (self._begun or isinstance(reason, StoppedError)):
            return False
        self._ended = self._ended or reason
        if self._out:
            self._stopping.late()
        return True

    def _arrived(self, event: Arrived) -> Iterator[Answered]:
        self._out -= 1
        batch, back = event.parcel.batch, event.back
        if isinstance(back.error, OutOfMemoryError) and len(batch) > 1:
            self._halve(event.parcel)
            return
        if back.error is not None:
            raise back.error
        if isinstance(self._task, Traveling):
            self._task.collect(back.counts)
        answers = back.answers or []
        if self._cached is not None:
            self._cached.keep(batch, answers)
        self._begun = True
        yield batch, answers

    def _died(self, event: Died) -> Iterator[Answered]:
        self._out -= len(event.parcels)
        first, rest = event.parcels[:1], event.parcels[1:]
        self._again.extendleft(reversed(rest))
        for parcel in first:
            parcel.deaths += event.blamed
            if event.memory and len(parcel.batch) > 1:
                self._halve(parcel)
            elif parcel.deaths < DEATHS:
                self._again.appendleft(parcel)
            else:
                error = f"{DEATHS} workers in a row died while they answered its batch: {event.reason}"
                yield parcel.batch, [Answer(error=error, hint="`retry_failed` runs such rows again") for _ in parcel.batch]

    def _halve(self, parcel: Parcel) -> None:
        size = len(parcel.batch)
        self._most = min(self._most or size, size // 2)
        self._report.warn(f"out of memory with {size} rows at once; continuing with {self._most}")
        self._again.extendleft(reversed(list(self._parcels(parcel.batch, parcel.lent))))
