"""pass@k: does generated code pass its tests? Running it is the only way to know, so it runs apart from this process.

Chen et al., Evaluating Large Language Models Trained on Code (2021). Each program gets a process of its own (see
`llmkit.metrics.sandbox`) with limits on time, memory and file size, an empty environment and a temporary folder; no network and no
other process in sight where the system allows it. None of this is a guarantee against hostile code.
"""

from __future__ import annotations

import ast
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from llmkit.errors import InputError, UsageError
from llmkit.metrics import sandbox
from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic, mean_units, sums_of
from llmkit.version import __version__

#: PR_SET_DUMPABLE of Linux.
_DUMPABLE = 4
#: Seconds beyond its limit that a sandbox has to start and to end what it runs; and for a probe, which runs nothing.
_GRACE, _PROBE = 15.0, 30.0


@dataclass(frozen=True)
class Limits:
    """What a program may take: seconds of wall clock, bytes of memory."""

    seconds: float = 10.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class Program:
    """A program, and the test that runs after it in the same names."""

    text: str
    test: str


def complete_test(test: str, entry_point: str | None = None) -> str:
    """The test as it is run: one that defines `check` is called with the entry point, as in HumanEval, unless it calls it itself.

    Raises InputError for a test that is no Python, or that would check nothing: all that it holds is defined and never called.
    A unittest.main() of its own is one, too.
    """
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError) as exc:
        raise InputError(f"the test is not Python: {exc.msg if isinstance(exc, SyntaxError) else exc}") from exc
    defined = any(_defines(node, "check") for statement in tree.body for node in _reached(statement))
    if _ends_by_unittest(tree):
        raise InputError("unittest.main() exits, and finds no test in a program that is not the main one", hint="use assert statements")
    if entry_point is not None and defined and not _calls(tree, "check"):
        if not all(part.isidentifier() for part in entry_point.split(".")):
            raise InputError(f"the entry point '{entry_point[:80]}' is not a name")
        return f"{test}\n\ncheck({entry_point})\n"
    if not any(_runs(node) for node in tree.body):
        hint = 'add "entry_point" for HumanEval\'s check(candidate), or end the test with a call' if defined else "end it with a call"
        raise InputError("the test is defined and never called, so every program would pass", hint=hint)
    return test


def complete_program(prompt: str, text: str) -> str:
    """The program of an answer to a prompt: `text` continues a prompt that is the beginning of a program, as HumanEval's, and stands
    alone after one in plain language, as MBPP's.
    """
    plain = not _is_python(prompt) and not _is_python(f"{prompt}\n    pass\n")
    return text if plain and _is_python(text) else f"{prompt}{text}"


def passes(programs: Sequence[Program], limits: Limits, *, workers: int, told: Callable[[], None] = lambda: None) -> list[bool]:
    """Whether each program's test runs to its end within the limits, `workers` at a time. told: called after each, in their order.

    Whatever is raised here, a signal's exception among it, ends the programs that run.
    """
    out, sandboxes = [], _Sandboxes()
    with _undumpable(), ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(_passes, program, limits, sandboxes) for program in programs]
        try:
            for future in waiting:
                out.append(future.result())
                told()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            sandboxes.end()
            raise
    return out


class _Sandboxes:
    """Those that run. A sandbox ends with its program when its standard input is closed."""

    def __init__(self) -> None:
        self._lock, self._running, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    def add(self, sandbox: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.add(sandbox)
        if self._ended:
            self.end()

    def remove(self, sandbox: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(sandbox)

    def end(self) -> None:
        """Ends those that run, and those that begin from now on."""
        self._ended = True
        with self._lock:
            for sandbox in self._running:
                _close(sandbox.stdin)


def _close(pipe: IO[bytes] | None) -> None:
    with suppress(OSError):  # what is not written yet can't be
        if pipe is not None:
            pipe.close()


def check_samples(k: int, samples: Sequence[int]) -> None:
    """samples: how many each row has. Raises UsageError for a k below 1, and where a row has too few for pass@k."""
    if k < 1:
        raise UsageError(f"pass@{k}: k must be 1 or more")
    if (fewest := min(samples, default=k)) < k:
        raise UsageError(f"pass@{k} needs {k} samples of each problem, but one has {fewest}", hint="a smaller -k, or generate -n more")


def pass_at_k(k: int, results: Sequence[Sequence[bool]], seconds: float = Limits.seconds) -> Score:
    """The chance, in percent, that one of `k` samples passes: the unbiased estimate from all samples of each row.

    1 - C(n - c, k) / C(n, k) of n samples with c that pass (Chen et al. 2021, equation 1). results: a truth value per sample, at least k
    samples per row, one row at least. seconds: the limit they ran under, which decides about slow ones. Raises UsageError for fewer.
    """
    check_samples(k, [len(row) for row in results])
    rows = [100 * (1 - math.comb(len(row) - sum(row), k) / math.comb(len(row), k)) for row in results]
    # with as many samples as k a row is right or wrong
    kind = "proportion" if all(len(row) == k for row in results) else "percentage"
    units, statistic = mean_units(rows), Statistic(kind)
    sign = signature(n=min(map(len, results)), estimator="unbiased", timeout=f"{seconds:g}s", version=f"llmkit-{__version__}")
    return Score(f"pass@{k}", float(statistic(sums_of(units))[0]), sign, interval_of(units, statistic), units=units, statistic=statistic)


def isolation() -> str:
    """What keeps the programs apart on this machine, and what does not."""
    counted = os.path.isdir("/proc/self")
    enforced = ["time", *(["memory and file size"] if os.name == "posix" else [])]
    missing = [] if counted or os.name != "posix" else ["memory is limited for each process, not for all together"]
    with _undumpable():
        answer = _ask({"probe": True}, os.getcwd(), _PROBE, _Sandboxes()).get("enforced")
    limits = answer if isinstance(answer, list) else []
    enforced += ["no network"] if "network" in limits else []
    missing += [] if "network" in limits else ["the network is not blocked"]
    enforced += ["other processes hidden"] if "processes" in limits else []
    if "processes" not in limits and "user" not in limits:
        missing.append("other processes of this user can be ended")
    missing += [] if "environment" in limits else ["the environment of this process can be read"]
    enforced += ["an unprivileged user"] if "user" in limits else []
    missing.append(
        "files and sockets open to all users can be reached" if "user" in limits else "files and sockets of this user can be reached"
    )
    return f"limits: {', '.join(enforced)}; {'; '.join(missing)}"


def _calls(tree: ast.Module, name: str) -> bool:
    """Whether a statement that is run calls `name`."""
    for node in tree.body:
        if _runs(node) and any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name for n in _reached(node)):
            return True
    return False


def _ends_by_unittest(tree: ast.Module) -> bool:
    """Whether a statement that is run calls `unittest.main`."""
    reached = (n for statement in tree.body if _runs(statement) for n in _reached(statement))
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) == "unittest.main" for n in reached)


def _defines(node: ast.AST, name: str) -> bool:
    """Whether a statement makes `name` something to call; a coroutine would not run when it is called."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name


def _reached(statement: ast.AST) -> Iterator[ast.AST]:
    """The statement and what is in it, but not the bodies of functions that it only defines."""
    yield statement
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for node in ast.iter_child_nodes(statement):
            yield from _reached(node)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _runs(node: ast.stmt) -> bool:
    """Whether a statement of the test checks something when it is reached: no definition, import, constant or main block."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Pass):
        return False
    if isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)):
        return any(map(_runs, node.orelse))
    return any(isinstance(n, ast.Call | ast.Assert | ast.Raise) for n in _reached(node))


def _passes(program: Program, limits: Limits, sandboxes: _Sandboxes) -> bool:
    folder = tempfile.mkdtemp(prefix="llmkit-code-")
    try:
        job = {"program": program.text, "test": program.test, "seconds": limits.seconds, "memory": limits.memory}
        return _ask(job, folder, limits.seconds + _GRACE, sandboxes).get("passed") is True
    finally:
        remove(folder)


def remove(folder: str) -> None:
    """Removes a folder, whatever a program left in its place: folders nested deeper than any path, closed ones, a file. Never raises.

    Each folder inside is moved to the top before it is emptied, so no path and no stack grows with the depth.
    """
    with suppress(OSError):
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            os.unlink(folder)
            return
        os.chmod(folder, 0o700)
        moved, before = 0, -1
        while moved > before:  # until a turn finds no more folders inside
            before = moved
            for entry in os.scandir(folder):
                moved = _emptied(entry, folder, moved)
        os.rmdir(folder)


def _emptied(entry: os.DirEntry[str], top: str, moved: int) -> int:
    """Removes a file, or a folder whose own folders go to `top` under numbers from `moved` on. Returns the next number."""
    with suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
            return moved
        os.chmod(entry.path, 0o700)
        for inner in os.scandir(entry.path):
            with suppress(OSError):
                if inner.is_dir(follow_symlinks=False):
                    moved += 1
                    os.rename(inner.path, os.path.join(top, f"llmkit-{moved}"))
                else:
                    os.unlink(inner.path)
        os.rmdir(entry.path)
    return moved


def _ask(job: dict[str, object], folder: str, seconds: float, sandboxes: _Sandboxes) -> dict[str, object]:
    """The answer of a sandbox, {} when it gave none. Its standard input stays open while we live: when it closes, it ends."""
    process = subprocess.Popen(  # noqa: S603 - running it is what was asked for
        [sys.executable, "-I", sandbox.__file__], cwd=folder, env={"PATH": os.defpath}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        sandboxes.add(process)
        return _answer(process, seconds)
    except BrokenPipeError:
        return {}
    finally:
        sandboxes.remove(process)
        process.kill()
        process.wait()
        _close(process.stdin)
        _close(process.stdout)


def _answer(process: subprocess.Popen[bytes], seconds: float) -> dict[str, object]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        line = process.stdout.readline()
    finally:
        timer.cancel()
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _undumpable() -> Iterator[None]:
    """While programs run, other processes of this user can't read this one's memory and environment (Linux)."""
    if sys.platform != "linux":
        yield
        return
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_DUMPABLE, 1, 0, 0, 0)
