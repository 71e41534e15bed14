"""pass@k: does generated code pass its tests? Running it is the only way to know, so it runs apart from this process.

Chen et al., Evaluating Large Language Models Trained on Code (2021). Each program gets a process of its own with limits on time,
memory and file size, an empty environment and a temporary folder, and no network where the system lets a process give it up.
None of this is a guarantee against hostile code.
"""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from llmkit import __version__
from llmkit.errors import UsageError
from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, mean_units, sums_of

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


@dataclass(frozen=True)
class Limits:
    """What a program may take: seconds of wall clock, bytes of memory."""

    seconds: float = 10.0
    memory: int = 1 << 30


def passes(programs: Sequence[str], limits: Limits, *, workers: int) -> list[bool]:
    """Whether each program ends with exit code 0 within the limits, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda program: _passes(program, limits), programs))


def pass_at_k(k: int, results: Sequence[Sequence[bool]]) -> Score:
    """The chance, in percent, that one of `k` samples passes: the unbiased estimate from all samples of each row.

    results: a truth value a sample, k samples a row at least. Raises UsageError for fewer.
    """
    if k < 1 or any(len(row) < k for row in results):
        raise UsageError(
            f"pass@{k} needs {k} samples a row, and one has {min(map(len, results))}", hint="a smaller -k, or generate -n more"
        )
    rows = [100 * (1 - math.comb(len(row) - sum(row), k) / math.comb(len(row), k)) for row in results]
    units, statistic = mean_units(rows), Statistic("mean")
    sign = signature(n=min(map(len, results)), estimator="unbiased", version=f"llmkit-{__version__}")
    return Score(f"pass@{k}", float(statistic(sums_of(units))[0]), sign, interval_of(units, statistic), units=units, statistic=statistic)


def isolation() -> str:
    """What keeps the programs apart on this machine, and what does not."""
    held = ["time", "memory and file size", "no network"] if _can_leave_network() else ["time", "memory and file size"]
    if os.name != "posix":
        held = ["time"]
    rest = "" if "no network" in held else "; the network is not cut off"
    return f"limits: {', '.join(held)}{rest}; files that this user may read can be read"


def _passes(program: str, limits: Limits) -> bool:
    with tempfile.TemporaryDirectory(prefix="llmkit-code-") as folder:
        path = os.path.join(folder, "program.py")
        with open(path, "w", encoding="utf-8", errors="replace") as file:
            file.write(program)
        process = subprocess.Popen(  # noqa: S603 - running it is what was asked for
            [sys.executable, "-I", path], cwd=folder, env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=(lambda: _enter(limits)) if os.name == "posix" else None,
        )  # fmt: skip
        try:
            return process.wait(limits.seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the program and what it started."""
    import signal

    try:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def _enter(limits: Limits) -> None:
    """In the new process, before the program: gives up what it may not have."""
    import resource

    seconds = math.ceil(limits.seconds)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _leave_network()


def _leave_network() -> bool:
    """Moves this process into a network of its own with no way out; False where that is not allowed."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None) if sys.platform == "linux" else None
    if unshare is None:
        return False
    return bool(unshare(_CLONE_NEWNET) == 0 or unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _can_leave_network() -> bool:
    code = "from llmkit.metrics.code import _leave_network; raise SystemExit(not _leave_network())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
