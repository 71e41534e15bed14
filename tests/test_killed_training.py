"""Fifty kills at random moments of a training run, on a sequence-to-sequence model and on a real one: the same adapter bit for bit.

`test_finetune_runs.py` has the short form. The real model is the folder that the environment variable REAL_MODEL names.

A moment is an amount of the process's own processor time, or a number of changes in its folder. Neither depends on what else the machine
does, and the changes lead into the middle of what is written. The processes are forked from one that has imported the libraries, so that
each moment falls into the work.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import finish, write_rows
from forking import Forked

from llmkit.files import file_sha256

KILLS = 50
#: Seconds for a run, where cores are few and shared.
_PATIENCE = 1200


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, seconds of processor time, changes of its folder, and what it was last seen writing."""

    code: int
    seconds: float
    changes: int
    at: str


def trained(arguments: list[object], place: Path, *, seconds: float = math.inf, changes: float = math.inf) -> End:
    """Trains into `place`, and kills the process after so many seconds of processor time or changes of the folder."""
    place.mkdir(exist_ok=True)
    running = Forked(*arguments, "-o", place / "adapter")
    process = psutil.Process(running.pid)
    spent, seen, files, killed = 0.0, 0, listing(place), False
    deadline = time.monotonic() + _PATIENCE
    at = "loading"
    while not ended(running):
        with suppress(psutil.Error):
            spent = sum(process.cpu_times()[:2])
        now = listing(place)
        if now != files:
            seen, at = seen + 1, work(at, files, now)
            files = now
        if spent >= seconds or seen >= changes:
            running.kill()
            killed = True
        if time.monotonic() > deadline:
            running.kill()
            pytest.fail(f"a training run has not ended after {_PATIENCE} s; stderr: {finish(running).err}")
    ran = finish(running)
    assert ran.code == 0 or (killed and ran.code == -signal.SIGKILL), ran.err  # it may have ended before the signal
    return End(ran.code, spent, seen, at)


def ended(running: Forked) -> bool:
    """Whether it has ended, or does within some milliseconds."""
    try:
        running.wait(0.003)
    except subprocess.TimeoutExpired:
        return False
    return True


def listing(place: Path) -> dict[str, int]:
    """The files under a folder, with their sizes."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):
                path = os.path.join(folder, name)
                found[path] = os.path.getsize(path)
    return found


def work(at: str, before: dict[str, int], now: dict[str, int]) -> str:
    """What a run is at, by the last change of its folder and what it was at before."""
    changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
    if any("checkpoint-" in path for path in changed):
        return "checkpoint"
    if any("metrics" in path for path in changed):
        return "steps"
    return at if at == "loading" else "result"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequence to sequence", "real"])
def test_runs_killed_at_random_moments_end_with_the_adapter_of_an_uninterrupted_one(
    kind: str, t5: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = t5 if kind == "sequence to sequence" else os.environ.get("REAL_MODEL")
    if model is None:
        pytest.skip("REAL_MODEL names no model folder")
    rows = [{"prompt": f"{i} and {i}?", "completion": f"It is {2 * i}."} for i in range(10)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    training: list[object] = ["finetune", data, "-m", model, "--valid-split", "20%", "--learning-rate", "1e-3", "--lora-dropout", "0.1"]
    training += ["--chat-template", "none", "--max-steps", "6", "--batch-size", "1", "--save-steps", "2", "--lora-r", "4"]
    whole = trained(training, tmp_path / "whole")
    draw = random.Random(7)
    kills, number, hit = 0, 0, Counter[str]()
    while kills < KILLS:
        place = tmp_path / f"killed-{number}"
        while True:
            if draw.random() < 0.5:
                end = trained(training, place, seconds=draw.uniform(0, whole.seconds))
            else:
                end = trained(training, place, changes=draw.randint(1, whole.changes))
            if end.code == 0:
                break
            kills += 1
            hit[end.at] += 1
        for name in ("adapter_model.safetensors", "metrics.jsonl"):
            killed, uninterrupted = (file_sha256(folder / "adapter" / name) for folder in (place, tmp_path / "whole"))
            assert killed == uninterrupted, f"{name} after {kills} kills"
        number += 1
    with capfd.disabled():
        places = ", ".join(f"{count} {name}" for name, count in sorted(hit.items()))
        sys.stdout.write(f"\n{kind}: {kills} kills ({places}) in {number} runs; a whole one takes {whole.seconds:.1f} s of a core\n")
