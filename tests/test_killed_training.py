"""Fifty kills at random moments of a training run, on a sequence-to-sequence model and on a real one: the same adapter bit for bit.

`test_finetune_runs.py` has the short form. The real model is the folder that the environment variable REAL_MODEL names.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import finish, start, write_rows

from llmkit.files import file_sha256

KILLS = 50


def dies(arguments: list[object], seconds: float) -> bool:
    """Kills a run `seconds` after its start; False when it has ended before."""
    running = start(*arguments)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(timeout=seconds)
    killed = running.poll() is None
    running.kill()
    ended = finish(running)
    assert killed or ended.code == 0, ended.err
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequence to sequence", "real"])
def test_runs_killed_at_random_moments_end_with_the_adapter_of_an_uninterrupted_one(
    kind: str, t5: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = t5 if kind == "sequence to sequence" else os.environ.get("REAL_MODEL")
    if model is None:
        pytest.skip("REAL_MODEL names no model folder")
    rows = [{"prompt": f"What is {i} and {i}?", "completion": f"It is {2 * i}, of course, and not {3 * i}."} for i in range(30)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    training: list[object] = ["finetune", data, "-m", model, "--valid-split", "20%", "--learning-rate", "1e-3", "--lora-dropout", "0.1"]
    training += ["--max-steps", "24", "--batch-size", "2", "--save-steps", "2", "--lora-r", "4"]
    begun = time.monotonic()
    assert not dies([*training, "-o", tmp_path / "whole"], 3600)
    seconds = time.monotonic() - begun
    moments = random.Random(7)
    kills = number = 0
    while kills < KILLS:
        out = tmp_path / f"killed-{number}"
        while dies([*training, "-o", out], moments.uniform(0, seconds)):
            kills += 1
        for name in ("adapter_model.safetensors", "metrics.jsonl"):
            assert file_sha256(out / name) == file_sha256(tmp_path / "whole" / name), f"{name} after {kills} kills"
        number += 1
    with capfd.disabled():
        sys.stdout.write(f"\n{kind}: {kills} kills in {number} runs; an uninterrupted one takes {seconds:.1f} s\n")
