"""Runs contenders in turn, so that what else the machine does hits all of them alike.

A contender is a peer's worker, which loads once and then does its job again and again, or a command, whose whole process counts.
Knows processes and clocks; not what is measured.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench import worker
from bench.peers import ON_TORCH, SETTINGS, Job, imports

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
#: Seconds between turns: threads of OpenMP turn on the spot for 0.2 s after their work (KMP_BLOCKTIME), on the next one's cores.
SETTLE = 0.22


@dataclass(frozen=True)
class Contender:
    """peer and options: of a worker; folder: its model, where it is not the job's. command: a whole process instead."""

    name: str
    peer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """seconds: of each round. tokens: of one round, 0 where none are counted. peak: most resident memory of the process, in bytes.

    about: what else is known; of a command `processor`, the median of its processor time in seconds.
    """

    name: str
    seconds: list[float]
    tokens: int
    peak: int
    about: Mapping[str, Any]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class FailedError(Exception):
    """A contender ended before its time; what it said."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a command: with the peers' settings, and this repository's packages."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **SETTINGS, "PYTHONPATH": path, **(more or {})}


class Worker:
    """A peer's process, which imports at once. `imported` waits for that; `ready` has it load and do its job once.

    fork: one on torch begins as a copy of a server that has imported it.
    """

    def __init__(self, contender: Contender, task: str, jobs: Sequence[Job], *, fork: bool) -> None:
        self.name, self._log = contender.name, Path(jobs[0].scratch) / f"{contender.name.replace(' ', '-')}-{task}.log"
        fork = fork and ON_TORCH in imports(contender.peer, task, jobs[0].options)
        context = _on_torch() if fork else multiprocessing.get_context("spawn")
        self._told, its = context.Pipe()
        self._process = context.Process(target=worker.main, args=(its, self._log, contender.peer, task, jobs))
        self._process.start()
        its.close()  # so that its end is the last one

    def imported(self) -> None:
        self._answer()

    def ready(self) -> None:
        self._tell(0)
        self._answer()

    def once(self, number: int) -> dict[str, Any]:
        """Does the job of this number."""
        self._tell(number)
        return dict(self._answer())

    def close(self) -> None:
        self._told.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()

    def _tell(self, what: int) -> None:
        with contextlib.suppress(OSError):  # it has ended; its log says why
            self._told.send(what)

    def _answer(self) -> Any:
        try:
            return self._told.recv()
        except (EOFError, OSError):
            self.close()
            raise FailedError(f"{self.name}: {self._log.read_text()[-1500:]}") from None


@functools.cache
def _on_torch() -> Any:
    """How to start what imports ON_TORCH: the first time, a server is started that does it."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload([ON_TORCH])
    return context


def alternate(contenders: Sequence[Contender], task: str, job: Job, rounds: int) -> tuple[list[Measured], dict[str, str]]:
    """Each contender's worker `rounds` times, in turn; and those that failed, with why."""
    (found,) = alternate_each(contenders, task, [job], rounds)
    return found


def alternate_each(
    contenders: Sequence[Contender], task: str, jobs: Sequence[Job], rounds: int, *, fork: bool = False
) -> list[tuple[list[Measured], dict[str, str]]]:
    """As `alternate`, of several jobs on the same model, one after another on the same workers.

    fork: what is on torch imports it once for all. Their memory then lacks the pages of its files that they do not touch themselves.
    """
    workers: dict[str, Worker] = {}
    failed: dict[str, str] = {}
    try:
        for c in contenders:
            own = [replace(job, folder=c.folder or job.folder, options={**job.options, **c.options}) for job in jobs]
            workers[c.name] = Worker(c, task, own, fork=fork)
        # they import side by side, and load one after another: llmkit measures which kernels are faster, which others' work would spoil
        for get_ready in (Worker.imported, Worker.ready):
            for name, each in list(workers.items()):
                try:
                    get_ready(each)
                except FailedError as exc:
                    failed[name] = str(exc)
                    del workers[name]
        return [(_rounds(workers, number, rounds, failed), dict(failed)) for number in range(len(jobs))]
    finally:
        for each in workers.values():
            each.close()


def _rounds(workers: dict[str, Worker], number: int, rounds: int, failed: dict[str, str]) -> list[Measured]:
    """What each worker measured of a job; one that fails is taken out, and why is put into `failed`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for name, each in list(workers.items()):
            time.sleep(SETTLE)
            try:
                found.setdefault(name, []).append(each.once(number))
            except FailedError as exc:
                failed[name] = str(exc)
                del workers[name]
                found.pop(name, None)
    return [_measured(name, each) for name, each in found.items()]


def _measured(name: str, rounds: Sequence[Mapping[str, Any]]) -> Measured:
    last = rounds[-1]
    return Measured(name, [each["seconds"] for each in rounds], last["tokens"], max(each["peak"] for each in rounds), last["about"])


def commands(
    contenders: Sequence[Contender], rounds: int, env: Mapping[str, str] | None = None, *, warm: bool = True
) -> tuple[list[Measured], dict[str, str]]:
    """Each contender's command `rounds` times, in turn, and those that failed, with why. warm: one round more, which does not count."""
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    processor: dict[str, list[float]] = {c.name: [] for c in contenders}
    peaks = dict.fromkeys(seconds, 0)
    failed: dict[str, str] = {}
    for number in range(0 if warm else 1, rounds + 1):
        for contender in (c for c in contenders if c.name not in failed):
            try:
                done = process(contender.command, environment(env))
            except FailedError as exc:
                failed[contender.name] = str(exc)
                continue
            if number:
                seconds[contender.name].append(done.seconds)
                processor[contender.name].append(done.processor)
                peaks[contender.name] = max(peaks[contender.name], done.peak)
    found = [
        Measured(name, each, 0, peaks[name], {"processor": statistics.median(processor[name])})
        for name, each in seconds.items()
        if name not in failed
    ]
    return found, failed


def apart(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """What a function on torch gives in a process of its own.

    This one stays small: a command's peak of memory begins with its parent's.
    """
    with ProcessPoolExecutor(1, mp_context=_on_torch()) as pool:
        return pool.submit(function, *arguments, **named).result()


class Process(NamedTuple):
    """What a command took: seconds of wall clock and of processor time, and the most resident memory in bytes."""

    seconds: float
    processor: float
    peak: int


def process(command: Sequence[str], env: Mapping[str, str]) -> Process:
    """Runs a command. Raises FailedError."""
    begun = time.perf_counter()
    running = subprocess.Popen(
        command, env=dict(env), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    said = running.stderr.read()
    _, status, usage = os.wait4(running.pid, 0)
    elapsed = time.perf_counter() - begun
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise FailedError(f"ended with {running.returncode}: {said.decode()[-1500:]}")
    return Process(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
