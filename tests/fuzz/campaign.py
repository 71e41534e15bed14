"""A campaign: cases by the thousand in a worker that is started again when a case ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
#: Seconds for a worker whose output has ended to end itself.
_PATIENCE = 60


@dataclass
class Figures:
    """What a campaign came to. failures: seed and what was wrong."""

    cases: int = 0
    rows: int = 0
    seconds: float = 0.0
    memory: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, told: dict[str, Any]) -> None:
        self.cases += 1
        self.rows += told["rows"]
        self.memory = max(self.memory, told["memory"])
        self.codes[told["code"]] += 1
        if "problem" in told:
            self.failures.append((told["seed"], told["problem"]))

    def __str__(self) -> str:
        codes = ", ".join(f"{count:,} with {code}" for code, count in sorted(self.codes.items()))
        return f"{self.cases:,} cases ({self.rows:,} rows) in {self.seconds:.0f} s: {codes}; at most {self.memory / 1e6:,.0f} MB in a case"


class Campaign:
    """bases: the folder of what is damaged (`bases.py`)."""

    def __init__(self, bases: Path) -> None:
        self._bases = bases
        self._worker: subprocess.Popen[str] | None = None

    def run(self, subject: str, first: int, count: int) -> Figures:
        """The cases of the seeds from `first` on."""
        figures, began, end = Figures(), time.monotonic(), first + count
        while first < end:
            first = self._until_death(subject, first, end, figures)
        figures.seconds = time.monotonic() - began
        return figures

    def close(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None

    def _until_death(self, subject: str, first: int, end: int, figures: Figures) -> int:
        """Runs until all is done or a case ends the worker; the seed to go on with."""
        worker = self._started()
        stdin, stdout = worker.stdin, worker.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        stdin.write(f"{subject} {first} {end - first}\n")
        stdin.flush()
        seed: int | None = None
        for line in stdout:
            told = json.loads(line)
            if "done" in told:
                return end
            if "begin" in told:
                seed = told["begin"]
            else:
                figures.add(told)
        self._worker = None
        if seed is None:
            raise RuntimeError(f"the worker can't begin (exit {worker.wait(_PATIENCE)})")
        figures.cases += 1
        figures.failures.append((seed, _cause(worker.wait(_PATIENCE))))
        return seed + 1

    def _started(self) -> subprocess.Popen[str]:
        if self._worker is None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
            }
            command = [sys.executable, "-m", "fuzz.worker", str(self._bases)]
            pipe = subprocess.PIPE
            self._worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=TESTS.parent)
        return self._worker


def _cause(code: int) -> str:
    if code == -signal.SIGPROF:
        return "takes too much processor time"
    if code == -signal.SIGALRM:
        return "stands still"
    return f"ends the process ({signal.Signals(-code).name if code < 0 else code})"
