"""The cores that this process may use, and how its threads share them. Imports nothing heavy."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: How often a thread looks whether the others are ready before it gives its core away: a tenth of a millisecond, in which the next
#: operation of a model on a quiet machine has begun. With a third of it torch is half as fast where waking a thread takes long.
_SPINS = "3000"


def available_cores() -> int:
    """Cores this process may really use: its affinity mask and its cgroup's CPU quota, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def default_threads() -> int:
    """Threads of a model on a CPU where none are asked for: what OMP_NUM_THREADS says, as in torch; else one for each available core."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list has those of nested regions, too
    return int(said) if said.isdecimal() and 0 < int(said) <= available_cores() else available_cores()


def share_cores() -> None:
    """Lets a thread that waits for other threads give its core away soon, in libraries that are loaded after this; the user's settings win.

    GNU's OpenMP, of torch and CTranslate2 on Linux, else turns on the spot for milliseconds: beside another busy program each operation
    waits for a thread that has no core, while the others hold theirs (docs/speed.md has figures).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def in_passing_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, called in a thread that ends with it.

    A thread that loads a model of CTranslate2 or computes with torch keeps helpers of its own for as long as it lives, and GNU's OpenMP
    lets no thread wait for another on the spot while there are more than cores. On 2 cores CTranslate2 then has half the speed in
    float32, and a fifth in int8 (docs/speed.md).
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as exc:  # raised in the thread that waits
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return returned[0]


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs' worth of time a period, from cgroup v2 (cpu.max) or v1 (cpu.cfs_*_us)."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None
