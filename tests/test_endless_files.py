"""Files that a user names are read with a limit: a device without an end, a link to one, a file of a terabyte of nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

from llmkit import files
from llmkit.records import read_record

pytestmark = [
    pytest.mark.usefixtures("limited_time"),
    pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs a device that has no end"),
]


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "schema.json": lambda path: ["generate", "x", "--json-schema", path],
    "terms.csv": lambda path: ["translate", "Good morning.", "--to", "fr", "--glossary", path],
    "talk.srt": lambda path: ["translate", "-i", path, "-o", path.with_suffix(".out.srt"), "--to", "fr"],
    "template.jinja": lambda path: ["generate", "x", "--chat-template", path],
    "options.yaml": lambda path: ["generate", "x", "--config", path],
    "record.json": lambda path: ["rerun", path],
}


@pytest.mark.parametrize("make", [device, terabyte], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_without_end_is_refused_by_name(run: Run, tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    ran = run(*COMMANDS[name](tmp_path / name))
    assert ran.code == 2
    assert name in ran.err
    assert "more than" in ran.err


@pytest.mark.parametrize("make", [device, terabyte, os.mkfifo], ids=lambda make: make.__name__)
def test_a_record_without_end_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out.jsonl.run.json")
    assert read_record(tmp_path / "out.jsonl.run.json") is None


@pytest.mark.parametrize("make", [device, terabyte], ids=lambda make: make.__name__)
def test_a_baseline_without_end_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]) -> None:
    monkeypatch.setattr(files.read_at_most, "__defaults__", (1 << 20,))
    make(tmp_path / "before.json")
    for name in ("p.txt", "r.txt"):
        (tmp_path / name).write_text("a\n")
    scored = ["evaluate", "score", "-p", tmp_path / "p.txt", "-r", tmp_path / "r.txt", "--metrics", "exact_match"]
    ran = run(*scored, "--baseline", tmp_path / "before.json")
    assert ran.code == 2
    assert "before.json: has more than" in ran.err or "before.json: cannot be read: has more than" in ran.err


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, json.dumps({"a": 1}).encode())
    os.close(writing)
    assert files.read_at_most(Path(f"/dev/fd/{reading}"), 100) == b'{"a": 1}'
    os.close(reading)
