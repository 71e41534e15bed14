"""Workers on Ray: a crew of actors, in a cluster of this run's own or in the user's, each of which loads the models once.

Knows actors and parcels; not rows, nor how a cluster is reached (cluster.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llmkit.engines.elsewhere import Elsewhere, elsewhere
from llmkit.engines.registry import Model
from llmkit.errors import LlmkitError, UnavailableError, UsageError, counted, one_line
from llmkit.jobs.cluster import Shares, connected, library
from llmkit.jobs.executor import Task
from llmkit.jobs.reporter import Reporter
from llmkit.jobs.worker import Back, Failed, Opened, Worker, light, task_bytes
from llmkit.jobs.workers import Arrived, Died, Parcel, WorkerSettings
from llmkit.records import differences
from llmkit.version import __version__

#: Batches that a worker holds: one that it answers, one that is there when it has done so.
_IN_FLIGHT = 2
#: How often in a row a worker may die while it loads the models; then the run goes on without it.
_STARTS = 3
#: Seconds without a worker after which a notice says what is waited for.
_PATIENCE = 30.0


@dataclass
class _Slot:
    """A place for a worker. opening: set while it loads. out: batches it has, oldest first. failures: deaths in a row while loading."""

    number: int
    actor: Any = None
    opening: Any = None
    out: list[tuple[Any, Parcel]] = field(default_factory=list)
    failures: int = 0
    opened: Opened | None = None

    @property
    def gone(self) -> bool:
        return self.actor is None

    @property
    def ready(self) -> bool:
        return self.actor is not None and self.opening is None


class _LostError(Exception):
    """A call that was not answered. memory: for want of it."""

    def __init__(self, reason: str, *, memory: bool) -> None:
        super().__init__(reason)
        self.memory = memory


@contextmanager
def crew(settings: WorkerSettings, models: Sequence[Model], report: Reporter) -> Iterator[RayCrew]:
    """Workers with these models, until the end of the block; a cluster that was started for them ends with it.

    Raises UnavailableError without Ray or its cluster, and what a worker raises that can't load a model.
    """
    ray = library()
    with connected(ray, settings, gpus=any(model.settings.device in ("auto", "cuda") for model in models)) as shares:
        workers = RayCrew(ray, settings, shares, models, report)
        try:
            workers.start()
            yield workers
        finally:
            workers.close()


class RayCrew:
    """A `Crew` of actors. engines: what stands for each model here (see `llmkit.engines.elsewhere`)."""

    def __init__(self, ray: Any, settings: WorkerSettings, shares: Shares, models: Sequence[Model], report: Reporter) -> None:
        self._ray, self._settings, self._shares, self._report = ray, settings, shares, report
        self._models = [_portable(model, shares) for model in models]
        self._chats = [model.chat for model in models]
        self._slots = [_Slot(number) for number in range(1, settings.count + 1)]
        self._task: bytes | None = None
        self._identities: tuple[dict[str, Any], ...] | None = None
        self._died, self._sent_again, self._reason = 0, 0, ""
        self._nodes: set[str] = set()
        self.engines: list[Elsewhere] = []
        self._kind = ray.remote(Worker).options(
            num_cpus=shares.cpus, num_gpus=shares.gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )

    @property
    def label(self) -> str:
        """For the closing line."""
        count = self._settings.count
        return f"{count} worker{'s' * (count != 1)} on Ray"

    @property
    def ready(self) -> int:
        """Workers that have loaded their models."""
        return sum(slot.ready for slot in self._slots)

    @property
    def most(self) -> int:
        """As `Crew.most`."""
        return self._settings.count * _IN_FLIGHT

    @property
    def working(self) -> str:
        """As `Crew.working`."""
        return f"{self.ready} of {counted(self._settings.count, 'worker')}"

    def measured(self) -> dict[str, Any]:
        """For the run record. nodes: how many the workers ran on; died: workers; sent_again: batches that these had."""
        return {
            "workers": {
                "count": self._settings.count,
                "cluster": self._settings.address or "local",
                "nodes": len(self._nodes),
                "cpus_per_worker": self._shares.cpus,
                "gpus_per_worker": self._shares.gpus,
                "died": self._died,
                "sent_again": self._sent_again,
                "ray": self._ray.__version__,
            }
        }

    def start(self) -> None:
        """Starts the workers, and waits for the first, which says how prompts are made ready.

        Raises UnavailableError when it can't say so, and what its engine raised.
        """
        for slot in self._slots:
            self._place(slot)
        begun, told = time.monotonic(), False
        while (first := next((slot for slot in self._slots if slot.ready), None)) is None:
            self.events(1.0)
            if not told and time.monotonic() > begun + _PATIENCE:
                told = True
                wanted = f"{self._shares.cpus:g} CPUs and {self._shares.gpus:g} GPUs"
                self._report.notice(f"no worker is ready after {_PATIENCE:.0f} s; each takes {wanted} of a node, besides loading its model")
        try:
            descriptions = self._get(first.actor.describe.remote())
        except _LostError as exc:  # or its tokenizer is of a class that is only there
            hint = "`shard` 1/N answers a part in one process"
            raise UnavailableError(f"a worker can't tell how prompts are made ready: {exc}", hint=hint) from exc
        if isinstance(descriptions, LlmkitError):
            raise descriptions
        self.engines = [elsewhere(known, chat, self) for known, chat in zip(descriptions, self._chats, strict=True)]
        for engine in self.engines:
            for remark in engine.chat_remarks():
                self._report.warn(remark)

    def begin(self, task: Task) -> None:
        """As `Crew.begin`: each worker that is ready gets the task, others when they are."""
        self._task = task_bytes(task, self.engines)
        for slot in self._slots:
            if slot.ready:
                slot.actor.take.remote(self._task)

    def free(self) -> bool:
        """As `Crew.free`."""
        return self._freest() is not None

    def send(self, parcel: Parcel) -> None:
        """As `Crew.send`, to the worker that holds the fewest batches."""
        slot = self._freest()
        assert slot is not None  # noqa: S101
        slot.out.append((slot.actor.answer.remote(light(parcel.batch), parcel.lent), parcel))

    def events(self, seconds: float) -> list[Arrived | Died]:
        """As `Crew.events`. Raises UnavailableError when no worker is left, and what a worker raised that cannot load the model."""
        waited = {ref: slot for slot in self._slots for ref in ([slot.opening] if slot.opening else [out for out, _ in slot.out])}
        if all(slot.gone for slot in self._slots):
            raise UnavailableError(f"no worker is left, each died {_STARTS} times while it loaded its model: {self._reason}")
        if not waited or not self._ray.wait(list(waited), num_returns=1, timeout=seconds)[0]:
            return []
        done, _ = self._ray.wait(list(waited), num_returns=len(waited), timeout=0)
        happened: list[Arrived | Died] = []
        for slot in {waited[ref].number: waited[ref] for ref in done}.values():
            happened += self._open(slot) if slot.opening else self._arrivals(slot)
        return happened

    def drop(self) -> None:
        """As `Crew.drop`: workers with a batch are ended and new ones started."""
        for slot in self._slots:
            if slot.out:
                self._end(slot)
                self._place(slot)

    def close(self) -> None:
        """Ends the workers."""
        for slot in self._slots:
            self._end(slot)

    def _freest(self) -> _Slot | None:
        """The worker that has the fewest batches, where it takes one more."""
        ready = [slot for slot in self._slots if slot.ready and len(slot.out) < _IN_FLIGHT]
        return min(ready, key=lambda slot: len(slot.out), default=None)

    def _place(self, slot: _Slot) -> None:
        slot.actor = self._kind.remote(os.getcwd(), hide_gpus=not self._shares.gpus)
        slot.opening = slot.actor.open.remote(self._models)

    def _end(self, slot: _Slot) -> None:
        if slot.actor is not None:
            with contextlib.suppress(Exception):  # of a cluster that is gone
                self._ray.kill(slot.actor)
        slot.actor, slot.opening, slot.out = None, None, []

    def _open(self, slot: _Slot) -> list[Arrived | Died]:
        """A worker has loaded its models, or has not."""
        try:
            opened = self._get(slot.opening)
        except _LostError as exc:
            slot.failures += 1
            self._lost(slot, exc)
            return []
        if isinstance(opened, Failed):
            if self._settings.address is not None:
                opened.error.message = f"a worker on {opened.node}: {opened.error.message}"
            raise opened.error
        self._check(opened)
        slot.opening, slot.opened, slot.failures = None, opened, 0
        self._nodes.add(opened.node_id)
        if self._task is not None:
            slot.actor.take.remote(self._task)
        return []

    def _check(self, opened: Opened) -> None:
        """Raises UnavailableError for a worker whose answers could be others than the first one's."""
        place = f"a worker on {opened.node}"
        if opened.llmkit != __version__:
            raise UnavailableError(f"{place} has llmkit {opened.llmkit}, and this is {__version__}", hint="install the same everywhere")
        if self._identities is None:
            self._identities = opened.identities
            for line, how in ((line, how) for how, line in opened.lines):
                getattr(self._report, how)(line)
        for mine, first in zip(opened.identities, self._identities, strict=True):
            if changes := differences(first, mine):
                hint = "all workers need the same model, named as org/name@COMMIT for example, on the same kind of device"
                raise UnavailableError(f"{place} would answer differently: {'; '.join(changes)}", hint=hint)

    def _arrivals(self, slot: _Slot) -> list[Arrived | Died]:
        """What is back from a worker, oldest first; or its death."""
        arrivals: list[Arrived | Died] = []
        while slot.out and self._ray.wait([slot.out[0][0]], timeout=0)[0]:
            ref, parcel = slot.out[0]
            try:
                back: Back = self._get(ref)
            except _LostError as exc:
                arrivals.append(self._lost(slot, exc))
                break
            slot.out.pop(0)
            arrivals.append(Arrived(parcel, back))
        return arrivals

    def _get(self, ref: Any) -> Any:
        """What a call gave. Raises _LostError when the worker, or the way to it, is gone, and what the call raised."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError:
            raise
        except errors.RayError as exc:
            raise _LostError(one_line(exc), memory=isinstance(exc, errors.OutOfMemoryError)) from exc

    def _lost(self, slot: _Slot, exc: _LostError) -> Died:
        """A worker is gone: another one takes its place, unless it never got as far as an answer."""
        self._died, self._reason = self._died + 1, str(exc)
        blamed = slot.opened is None or slot.opened.node_id in self._alive()
        reason = "its machine ran out of memory" if exc.memory else "its process ended" if blamed else "its machine is gone"
        died = Died([parcel for _, parcel in slot.out], reason, exc.memory, blamed)
        self._sent_again += len(died.parcels)
        self._end(slot)
        if slot.failures < _STARTS:
            self._report.notice(f"worker {slot.number} died: {reason}; another one takes its place")
            self._place(slot)
        else:
            self._report.warn(f"worker {slot.number} died {_STARTS} times while it loaded its model; continuing without it")
        return died

    def _alive(self) -> set[str]:
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}


def _portable(model: Model, shares: Shares) -> Model:
    """A model as a worker loads it: with its share of threads."""
    if ":" in model.settings.device:
        device = model.settings.device
        raise UsageError(f"`device` {device}: Ray gives each worker its own GPU", hint=f"`device` {device.partition(':')[0]}")
    threads = model.settings.threads or max(1, int(shares.cpus))
    return replace(model, settings=replace(model.settings, threads=threads))
