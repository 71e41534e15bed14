"""A piece of work in a thread of its own, which takes its helpers with it when it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import PATIENCE

from llmkit.models.cores import in_passing_thread


def test_what_the_work_returns_and_raises_comes_back() -> None:
    assert in_passing_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        in_passing_thread(lambda: 1 // 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's threads are files on Linux alone")
def test_torch_leaves_no_helpers_behind() -> None:
    # beside which CTranslate2 would answer at half its speed
    code = """
import os, torch
from llmkit.models.cores import in_passing_thread
torch.set_num_threads(2)
def threads():
    return len(os.listdir("/proc/self/task"))
before, there = threads(), []
def work():
    torch.ones(1024, 1024).sigmoid()
    there.append(threads() - before)
in_passing_thread(work)
for _ in range(100_000):  # one that has been told to end may still be there for a moment
    if threads() == before:
        break
print(there, threads() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "[2] 0\n"
