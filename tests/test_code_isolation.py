"""pass@k of code counts tests that ran to their end, and a program can neither fake, end nor outlive the evaluation."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.errors import InputError
from llmkit.metrics.code import Limits, Program, complete_test, isolation, passes

CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(-1) == 0\n"


def passing(program: str, test: str = "assert add(2, 3) == 5", seconds: float = 10.0) -> bool:
    return passes([Program(program, test)], Limits(seconds), workers=1)[0]


def problem(**fields: Any) -> dict[str, object]:
    return {"task_id": "T/0", "prompt": "def inc(x):\n", "entry_point": "inc", "test": CHECK} | fields


@pytest.mark.parametrize(("answer", "score"), [("    return x + 1\n", 100.0), ("    return x - 1\n", 0.0), ("    return None\n", 0.0)])
def test_humanevals_own_rows_are_checked(run: Run, tmp_path: Path, answer: str, score: float) -> None:
    for test in (CHECK, CHECK + "check(inc)\n"):
        ran = run("evaluate", "code", "-i", write_rows(tmp_path / "p.jsonl", [problem(text=answer, test=test)]), "--run-code", "--json")
        assert json.loads(ran.out)["scores"]["pass@1"] == score


def test_a_test_that_already_calls_check_is_not_called_twice() -> None:
    assert complete_test(CHECK + "check(inc)\n", "inc") == CHECK + "check(inc)\n"
    assert complete_test(CHECK, "inc").count("check(inc)") == 1


@pytest.mark.parametrize(
    "test",
    [
        CHECK,
        "METADATA = {'author': 'x'}\n\n" + CHECK,
        "def test_add():\n    assert add(2, 3) == 5\n",
        "import unittest\nclass T(unittest.TestCase):\n    pass\nif __name__ == '__main__':\n    unittest.main()\n",
        "",
    ],
)
def test_a_test_that_is_never_called_is_an_error(run: Run, tmp_path: Path, test: str) -> None:
    with pytest.raises(InputError, match="never called"):
        complete_test(test)
    rows = write_rows(tmp_path / "p.jsonl", [{"text": "x = 1", "test": test}])
    ran = run("evaluate", "code", "-i", rows, "--run-code")
    assert ran.code == 2
    assert "line 1" in ran.err


def test_a_test_that_is_no_python_is_an_error() -> None:
    with pytest.raises(InputError, match="not Python"):
        complete_test("assert add(2, 3 == 5")


@pytest.mark.parametrize(
    "end",
    ["import sys\nsys.exit(0)", "exit()", "import os\nos._exit(0)", "raise SystemExit", "raise KeyboardInterrupt", 'x = """', "quit(0)"],
)
def test_a_program_that_ends_early_has_not_passed(end: str) -> None:
    assert not passing(f"def add(a, b):\n    return a + b\n{end}\n")


def test_a_main_block_is_not_run() -> None:
    program = (
        "def add(a, b):\n    return {}\nif __name__ == '__main__':\n    print(add(int(input()), int(input())))\n    raise SystemExit\n"
    )
    assert passing(program.format("a + b"))
    assert not passing(program.format("a * b"))


def test_programs_are_modules_as_any_other() -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
    assert passing(head + "def add(a, b):\n    return P(a + b).x\n")
    assert passing("import json, re, threading\ndef add(a, b):\n    return a + b\n")


def test_a_copy_that_a_program_forks_can_not_pass_for_it() -> None:
    assert not passing("import os\nif os.fork():\n    raise SystemExit\ndef add(a, b):\n    return a + b\n")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes by /proc")
def test_a_program_does_not_outlive_its_run(tmp_path: Path) -> None:
    mark = f"llmkit-{os.getpid()}-{time.monotonic_ns()}"
    sleeper = f"os.execv(sys.executable, ['{mark}', '-c', 'import time; time.sleep(600)'])"
    escape = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {sleeper}
    os._exit(0)
time.sleep(0.5)
def add(a, b):
    return a + b
"""
    assert passing(escape)
    running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(p)]
    assert running == []


def test_a_program_can_not_end_the_evaluation() -> None:
    if "can be ended" in isolation():
        pytest.skip("this system can't hold it, and says so")
    killer = f"import os, signal\nfor pid in (os.getppid(), {os.getpid()}, -1):\n    try:\n        os.kill(pid, signal.SIGTERM)\n"
    passing(killer + "    except OSError:\n        pass\ndef add(a, b):\n    return a + b\n")
    assert passing("def add(a, b):\n    return a + b\n")


def test_a_program_can_not_read_what_llmkit_was_started_with() -> None:
    if "the environment of this process can be read" in isolation():
        pytest.skip("this system can't hold it, and says so")
    reader = f"try:\n    open('/proc/{os.getpid()}/environ').read(1)\nexcept OSError:\n    def add(a, b):\n        return a + b\n"
    assert passing(reader)


def test_a_program_without_end_is_ended() -> None:
    assert not passing("while True: pass", seconds=1)
    assert not passing("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass", seconds=1)


def test_too_few_samples_are_refused_before_a_program_runs(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "ran"
    program = f"open({str(made)!r}, 'w')\ndef add(a, b):\n    return a + b\n"
    rows = write_rows(tmp_path / "p.jsonl", [{"test": "assert add(2, 3) == 5", "predictions": [program, program]}])
    ran = run("evaluate", "code", "-i", rows, "--run-code", "-k", "5")
    assert ran.code == 2
    assert "pass@5 needs 5 samples" in ran.err
    assert not made.exists()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
