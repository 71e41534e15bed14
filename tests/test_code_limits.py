"""What a program of `evaluate code` may take holds for all its processes and files together, and nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import finish, start, until, write_rows

from llmkit.metrics.code import Limits, Program, passes, remove

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="by /proc, as on Linux")


def passing(program: str, *, memory: int = 1 << 30, seconds: float = 30.0) -> bool:
    return passes([Program(program, "assert done")], Limits(seconds, memory), workers=1)[0]


def test_many_processes_of_one_program_are_too_many() -> None:
    forks = "import os, time\nfor _ in range({}):\n    if os.fork() == 0:\n        time.sleep(60)\ntime.sleep(0.5)\ndone = True\n"
    assert passing(forks.format(5))
    assert not passing(forks.format(150))


def test_memory_is_that_of_all_processes_together() -> None:
    children = """
import os, time
reading, writing = os.pipe()
for _ in range({}):
    if os.fork() == 0:
        held = b"x" * 60_000_000
        os.write(writing, b"x")
        time.sleep(60)
        os._exit(0)
held = b""
while len(held) < {}:
    held += os.read(reading, 9)
time.sleep(0.5)
done = True
"""
    assert passing(children.format(1, 1), memory=150_000_000)
    assert not passing(children.format(3, 3), memory=150_000_000)


@pytest.mark.parametrize(
    "program",
    [
        "for i in range(20):\n    open(f'{i}', 'wb').write(b'x' * 15_000_000)\ndone = True\n",
        "for i in range(11_000):\n    open(f'{i}', 'w').close()\ndone = True\n",
    ],
    ids=["bytes", "names"],
)
def test_a_folder_is_limited_as_a_whole(program: str) -> None:
    assert not passing(program)


@pytest.mark.parametrize(
    "left",
    [
        "for _ in range(1200):\n    os.mkdir('d' * 20)\n    os.chdir('d' * 20)\n",
        "here = os.getcwd()\nos.chdir('/')\nos.rmdir(here)\nopen(here, 'w').close()\n",
        "os.mkdir('a')\nopen('a/b', 'w').close()\nos.chmod('a', 0)\nos.chmod('.', 0)\n",
        "os.symlink('/', 'root')\nos.mkfifo('fifo')\n",
    ],
    ids=["nested deeper than a path", "a file in its place", "closed", "links"],
)
def test_what_a_program_leaves_is_removed_and_the_others_keep_their_results(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    programs = [Program(f"import os\n{left}done = True\n", "assert done"), Program("done = True", "assert done")]
    assert passes(programs, Limits(), workers=1)[1]
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_ends_at_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    (tmp_path / "program" / "a").mkdir(parents=True)
    (tmp_path / "program" / "a" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "program" / "link").symlink_to(tmp_path / "mine")
    remove(str(tmp_path / "program"))
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["mine", "mine/notes.txt"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_programs_with_the_run(tmp_path: Path, number: signal.Signals, code: int) -> None:
    mark = f"llmkit-{os.getpid()}-{time.monotonic_ns()}"
    again = f"os.execv(sys.executable, [{mark!r}, '-c', 'import time; time.sleep(600)'])"
    leaves = f"if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        {again}\n    os._exit(0)\n"
    program = f"import os, sys\n{leaves}while True:\n    pass\n"
    rows = write_rows(tmp_path / "in.jsonl", [{"text": program, "test": "assert done"}] * 2)
    running = start("evaluate", "code", "-i", rows, "--run-code", "--code-timeout", "600")
    assert until(lambda: _marked(mark), running)
    running.send_signal(number)
    ran = finish(running)
    assert ran.code == code
    assert "Traceback" not in ran.err
    gone = time.monotonic() + 20
    while _marked(mark):
        assert time.monotonic() < gone, "a program goes on"
        time.sleep(0.01)


def _marked(mark: str) -> bool:
    """Whether a process of that name runs."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text():
                return True
        except OSError:
            continue
    return False
