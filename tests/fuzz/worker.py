"""Runs cases in this process, one after another, each within limits; a line of JSON per case on the standard output it began with.

    python -m fuzz.worker BASES < orders        an order is a line: subject, first seed, how many

A case that takes more than its processor time, or stands still, ends the process by a signal: the parent sees which it was.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random
from typing import IO, Any

from fuzz.case import Case, changes, judged, snapshot

#: Seconds of processor time of a case, and of the clock.
CPU_SECONDS, WALL_SECONDS = 20, 240
#: Bytes that a case may take beyond what was there before it, and at which memory ends for the process.
MOST_MEMORY, END_OF_MEMORY = 400_000_000, 1_500_000_000


def main(bases: Path) -> None:
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_made(Path(scratch) / "tmp"))
        _warm_up(bases)
        for line in sys.stdin:
            subject, first, count = line.split()
            for seed in range(int(first), int(first) + int(count)):
                print(json.dumps({"begin": seed}), file=report, flush=True)
                print(json.dumps(_run(subject, seed, bases, Path(scratch))), file=report, flush=True)
            print(json.dumps({"done": subject}), file=report, flush=True)


def _warm_up(bases: Path) -> None:
    """Imports what the cases import, so that no case pays for it."""
    from llmkit.cli import app

    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        model = str(bases / "llama")
        for arguments in (["generate", "x", "-m", model, "--max-new-tokens", "1", "-q"], ["models", "show", model]):
            app.run(arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(subject: str, seed: int, bases: Path, scratch: Path) -> dict[str, Any]:
    folder = _made(scratch / "case")
    os.chdir(folder)
    case: Case = importlib.import_module(f"fuzz.{subject}").case(Random(f"{subject} {seed}"), folder, bases)
    before = snapshot(folder, case.writes)
    memory = _resident_peak_from_here()
    environment = dict(os.environ)
    code, err = _called(case)
    os.environ.clear()
    os.environ.update(environment)
    taken = _resident_peak() - memory
    problem = judged(code, err, case) or changes(before, snapshot(folder, case.writes)) or case.check(code)
    if problem is None and taken > MOST_MEMORY:
        problem = f"{taken / 1e6:,.0f} MB"
    os.chdir(scratch)
    shutil.rmtree(folder)
    told = {"problem": f"{problem}: llmkit {' '.join(case.arguments)}\n{err[-1500:]}"} if problem else {}
    return {"seed": seed, "code": code, "rows": case.rows, "memory": taken, **told}


def _called(case: Case) -> tuple[int, str]:
    """The exit code of a case and what it wrote to standard error."""
    from llmkit.cli import app

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out.fileno(), 1)
        kept = os.dup(2)
        os.dup2(err.fileno(), 2)
        _limit()
        try:
            code = case.call() if case.call is not None else app.run(case.arguments)
        except SystemExit as exc:
            code = int(exc.code or 0)
        except BaseException:
            code = 1
            traceback.print_exc()
        finally:
            _unlimit()
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        return code, _read(err)


def _limit() -> None:
    """The limits of a case: what it may take beyond what is there now. Both signals end the process."""
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + END_OF_MEMORY, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.alarm(WALL_SECONDS)


def _unlimit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _resident_peak_from_here() -> int:
    """The memory that is held now, from which on its peak counts anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident_peak()


def _resident_peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
