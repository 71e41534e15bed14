"""Closed and full standard streams end a run with a code of the contract; --debug changes no code and shows no secret."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Process

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")


def shell(line: str) -> tuple[int, str]:
    """The exit code of a command line with its redirections, and what it says on stderr."""
    command = f"{shlex.quote(sys.executable)} -m llmkit {line}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("line", ["--help", "--version", "models", "doctor --quick"])
def test_a_closed_stdout_is_a_quiet_end(line: str) -> None:
    assert shell(f"{line} >&-") == (141, "")


@full
@pytest.mark.parametrize("line", ["--help", "--version", "models"])
def test_a_full_device_is_said_in_a_line(line: str) -> None:
    code, err = shell(f"{line} >/dev/full")
    assert code == 5
    assert err.startswith("error: cannot write")
    assert len(err.splitlines()) <= 3


def test_a_usage_error_is_one_whatever_stderr_is() -> None:
    assert shell("nonsense 2>&-")[0] == 2
    if Path("/dev/full").exists():
        assert shell("nonsense 2>/dev/full")[0] == 2


def test_all_three_streams_may_be_closed() -> None:
    assert shell("models <&- >&- 2>&-")[0] == 141


def test_debug_keeps_the_exit_code_and_shows_where(process: Process) -> None:
    for more in (["--debug"], []):
        ran = process("generate", "-i", "missing.jsonl", *more, env={"LLMKIT_DEBUG": "0" if more else "1"})
        assert ran.code == 2
        assert "Traceback" in ran.err
        assert ran.err.splitlines()[-1].startswith("error: missing.jsonl")


def test_debug_shows_no_password_of_a_url(capfd: pytest.CaptureFixture[str]) -> None:
    from llmkit.cli import console

    try:
        raise ValueError("http://user:SECRET@127.0.0.1:8765/api and https://TOKEN@host/x, mail a@b.c")
    except ValueError as exc:
        console.traceback(exc)
    shown = capfd.readouterr().err
    assert "SECRET" not in shown
    assert "TOKEN" not in shown
    assert "http://***@127.0.0.1:8765/api" in shown
    assert "a@b.c" in shown


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
def test_a_traceback_on_a_terminal_shows_control_characters_as_escapes() -> None:
    import pty

    parent, child = pty.openpty()
    name = "x\x1b]0;title\x07.jsonl"
    command = [sys.executable, "-m", "llmkit", "generate", "-i", name, "--debug"]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    seen = b""
    try:
        while piece := os.read(parent, 65536):
            seen += piece
    except OSError:
        pass  # the terminal is at its end
    assert running.wait(timeout=120) == 2
    os.close(parent)
    assert b"Traceback" in seen
    assert b"\x1b]0;" not in seen


@pytest.mark.parametrize(("name", "value"), [("HF_TOKEN", "hf_x\u200b"), ("ALL_PROXY", "ftp://user:hf_x@127.0.0.1:1")])
def test_a_variable_that_the_hub_can_not_be_reached_with_is_named_and_not_shown(process: Process, name: str, value: str) -> None:
    ran = process("generate", "x", "-m", "org/name", env={name: value, "HF_HUB_OFFLINE": "0"})
    assert ran.code == 5, ran.err
    assert name in ran.err
    assert "hf_x" not in ran.err
