"""What reaches a terminal, a pipe and a full device."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, Process, Run, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.cli.console import visible

HOSTILE = [
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x1b]52;c;YQ==\x07",
    "\x1bP+q\x1b\\",
    "\x1bc",
    "\x9b31m",
    "\x1b]",
    "a\b\bb",
    "\u202eabc",
    "\r",
    "\x7f",
]


def on_a_terminal(*arguments: object, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL) -> tuple[int, str]:
    """Runs llmkit with stdout and stderr on a pseudo-terminal."""
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "llmkit", *map(str, arguments)], stdin=stdin, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm", **(env or {})},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], PATIENCE)[0]:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    else:
        running.kill()
        pytest.fail(f"nothing was shown for {PATIENCE} s")
    os.close(leader)
    return running.wait(timeout=PATIENCE), shown.decode("utf-8", "replace")


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_become_visible(text: str) -> None:
    shown = visible(text)
    assert not any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in shown)
    assert len(shown) > len(text)


@given(st.text(), st.integers(0, 20))
def test_making_visible_piece_by_piece_is_the_same(text: str, at: int) -> None:
    assert visible(text[:at]) + visible(text[at:]) == visible(text)


def test_hostile_text_is_made_visible_on_a_terminal_and_kept_in_a_pipe(run: Run) -> None:
    prompt = "".join(HOSTILE)
    code, shown = on_a_terminal("generate", prompt, "--echo", "--max-new-tokens", "1", "-q")
    assert code == 0
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown
    assert run("generate", prompt, "--echo", "--max-new-tokens", "1", "-q").out.startswith(prompt)


def test_hostile_rows_and_names_in_messages_are_made_visible_on_a_terminal(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"\x1b[2Jx": 1}])
    code, shown = on_a_terminal("generate", "-i", rows, "-o", tmp_path / "out.jsonl")
    assert code == 3
    assert "\x1b[2J" not in shown


def test_progress_is_shown_on_a_terminal_only(run: Run, prompts: Path, tmp_path: Path) -> None:
    _, shown = on_a_terminal("generate", "-i", prompts, "-o", tmp_path / "a.jsonl", "--max-new-tokens", "4")
    assert "rows" in shown
    assert "\x1b[" in shown
    piped = run("generate", "-i", prompts, "-o", tmp_path / "b.jsonl", "--max-new-tokens", "4")
    assert "\x1b" not in piped.err
    assert len(piped.err.splitlines()) == 2  # the notice about the model, and the summary


def test_no_color_is_honored() -> None:
    _, colored = on_a_terminal("--help")
    _, plain = on_a_terminal("--help", env={"NO_COLOR": "1"})
    color = re.compile(r"\x1b\[(\d+;)*3\d")
    assert color.search(colored)
    assert not color.search(plain)


def test_a_closed_pipe_ends_the_run_quietly(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "kept": "b" * 2000} for _ in range(3000)])
    command = f"{sys.executable} -m llmkit generate -i {rows} --max-new-tokens 1 -q | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=PATIENCE)
    first, code = done.stdout.splitlines()
    assert "text" in json.loads(first)
    assert code == "141"
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_device_behind_stdout_ends_with_5() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llmkit", "generate", "a", "-q"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert done.returncode == 5
    assert "standard output" in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_quiet_leaves_errors_and_warnings_only(process: Process, prompts: Path, tmp_path: Path) -> None:
    ran = process("generate", "-i", prompts, "-o", tmp_path / "out.jsonl", "--max-new-tokens", "2", "-q")
    assert (ran.out, ran.err) == ("", "")


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("generate", "-m", "builtin:none", "a", "--debug").err
    assert "Traceback" not in run("generate", "-m", "builtin:none", "a").err


def test_names_in_a_table_are_text_and_never_markup(tmp_path: Path) -> None:
    name = "[red]x[bold] \x1b[31m.txt"
    for file in (name, "ref.txt"):
        (tmp_path / file).write_text("the king went home\n" * 3)
    arguments = ("evaluate", "bleu", "-p", tmp_path / name, "-p", tmp_path / "ref.txt", "-r", tmp_path / "ref.txt", "--paired-bs")
    code, shown = on_a_terminal(*arguments, env={"COLUMNS": "400"})
    assert code == 0
    assert "[red]x[bold] \\x1b[31m.txt" in shown.replace("\r\n", "")
