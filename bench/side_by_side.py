"""Runs commands in turn, so that what else the machine does hits all of them alike, and gives their ratio.

Knows commands and clocks; not what is measured.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Contender:
    """A command. after: called when it has ended, outside the clock (to check the result, or to clear it away)."""

    name: str
    command: Sequence[str]
    after: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Measured:
    """Median of the runs: seconds of wall clock; and the largest peak of resident memory in bytes."""

    name: str
    seconds: float
    peak: int


def measure(contenders: Sequence[Contender], *, rounds: int, warm_up: bool = True, env: Mapping[str, str] | None = None) -> list[Measured]:
    """Each contender `rounds` times, in turn. warm_up: after one round that does not count."""
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    peaks: dict[str, int] = {c.name: 0 for c in contenders}
    for number in range(rounds + warm_up):
        for contender in contenders:
            elapsed, peak = _run(contender, {**os.environ, **(env or {})})
            contender.after()
            if number >= warm_up:
                seconds[contender.name].append(elapsed)
                peaks[contender.name] = max(peaks[contender.name], peak)
    return [Measured(name, statistics.median(values), peaks[name]) for name, values in seconds.items()]


def report(measured: Sequence[Measured], *, against: str) -> None:
    """A line each, with its ratio to the contender `against`."""
    base = next(m for m in measured if m.name == against)
    for m in measured:
        ratio = "" if m is base else f"   {m.seconds / base.seconds:.2f} times {against}"
        print(f"{m.name:<40}{m.seconds:8.2f} s {m.peak / 2**20:8.0f} MiB{ratio}")


def _run(contender: Contender, env: dict[str, str]) -> tuple[float, int]:
    started = time.perf_counter()
    process = subprocess.Popen(contender.command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender.name} ended with {process.returncode}: {said.decode()[-2000:]}")
    return elapsed, usage.ru_maxrss * 1024


def model_of_gpt2s_size(folder: Path) -> Path:
    """GPT-2 small's architecture (124 M parameters) with random weights, and the built-in model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from llmkit.models.builtin import folder as builtin

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(builtin("stories"))
    config = GPT2Config(vocab_size=50257, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
