"""Folders of Ray's logs that killed runs left: the next start removes those that nobody uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from conftest import PATIENCE

from llmkit.jobs.cluster import remove_left

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere each run's folder is in the user's own temporary folder")


def left_by(pid: int, place: Path, name: str) -> Path:
    folder = place / f"llmkit-ray-{pid}-{name}"
    folder.mkdir()
    (folder / "log.txt").write_text("x")
    return folder


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(PATIENCE)
    place = tmp_path / "place"
    place.mkdir()
    gone = left_by(ended.pid, place, "abc")
    runs, locked = left_by(os.getpid(), place, "abc"), left_by(ended.pid, place, "locked")
    other = place / "llmkit-ray-notes"
    other.mkdir()
    target = tmp_path / "mine"
    target.mkdir()
    (place / f"llmkit-ray-{ended.pid}-link").symlink_to(target)
    with filelock.FileLock(locked / "lock"):
        remove_left(place)
    assert not gone.exists()
    assert all(kept.exists() for kept in (runs, locked, other, target, place / f"llmkit-ray-{ended.pid}-link"))
    remove_left(place)
    assert not locked.exists()
