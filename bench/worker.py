"""One peer in a process of its own: gets ready for jobs that differ in their texts, then does one for each number that it is told.

First it imports and says so. Told to go on, it loads and does the first job as a warm-up; each other one is done once more before its first
time.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from bench.peers import Job, imports, settings


def peak_bytes() -> int:
    """The most memory this process has held. Linux's VmHWM begins with the program; getrusage's number with what its parent held."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _next(told: Connection) -> int:
    """What is told next. Ends this process when nothing more is: in the usual way, for what its libraries hold to be given back."""
    try:
        return int(told.recv())
    except EOFError:
        raise SystemExit from None


def main(told: Connection, log: Path, peer: str, task: str, jobs: Sequence[Job]) -> None:
    """Answers each line of `told`, until it ends. What libraries print, and why this process fails, goes to the log."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    settings()
    for name in imports(peer, task, jobs[0].options):
        importlib.import_module(name)
    told.send(None)
    _next(told)
    work = importlib.import_module(f"bench.peers.{peer}").TASKS[task](jobs[0])
    warm = set(range(len(jobs))) if task == "train" else set()  # whose first step does not count
    if not warm:
        work(jobs[0])
        warm.add(0)
    told.send(None)
    while True:
        number = _next(told)
        if number not in warm:
            work(jobs[number])
            warm.add(number)
        begun = time.perf_counter()
        done = asdict(work(jobs[number]))
        done["seconds"] = done["seconds"] or time.perf_counter() - begun
        done["peak"] = peak_bytes()
        told.send(done)
