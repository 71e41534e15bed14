"""pass@k: programs run apart, within limits, and only when that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.errors import UsageError
from llmkit.metrics.code import pass_at_k

TEST = "assert add(1, 2) == 3"
GOOD, WRONG = "    return a + b", "    return a - b"


def problems(path: Path, *programs: str) -> Path:
    return write_rows(path, [{"prompt": "def add(a, b):\n", "texts": list(programs), "test": TEST}])


def test_code_is_not_run_without_the_flag(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "code", "-i", problems(tmp_path / "p.jsonl", "    open('ran', 'w')"))
    assert ran.code == 2
    assert "--run-code" in ran.err
    assert not (tmp_path / "ran").exists()
    assert "evaluate code" in run("evaluate", "score", "--metrics", "pass@1", "-i", tmp_path / "p.jsonl").err


def test_pass_at_k_counts_the_programs_that_pass(run: Run, tmp_path: Path) -> None:
    rows = problems(tmp_path / "p.jsonl", GOOD, WRONG, "    syntax error", WRONG)
    ran = run("evaluate", "code", "-i", rows, "--run-code", "-k", "1,2", "--json", "--fail-if", "pass@1 < 10")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["scores"]
    assert found == {"pass@1": pytest.approx(25), "pass@2": pytest.approx(50)}
    assert "limits: time" in ran.err


def test_a_program_without_end_and_one_without_bounds_fail(run: Run, tmp_path: Path) -> None:
    endless, greedy = "    pass\nwhile True: pass", "    return 3\nx = 'x' * 2**33"
    rows = problems(tmp_path / "p.jsonl", endless, greedy, "    return 3\nimport os\nos.fork()\nos.fork()")
    ran = run("evaluate", "code", "-i", rows, "--run-code", "--code-timeout", "2", "--json")
    assert json.loads(ran.out)["scores"]["pass@1"] == pytest.approx(100 / 3)


def test_programs_have_no_environment_and_no_way_to_this_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    program = "    return 3\nimport os\nassert 'SECRET_TOKEN' not in os.environ\nopen('here', 'w').write('x')"
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "code", "-i", problems(tmp_path / "p.jsonl", program), "--run-code", "--json")
    assert json.loads(ran.out)["scores"]["pass@1"] == 100
    assert not (tmp_path / "here").exists()


def test_the_network_is_cut_off_or_that_is_said(run: Run, tmp_path: Path) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept(), daemon=True).start()
        program = f"    return 3\nimport socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        ran = run("evaluate", "code", "-i", problems(tmp_path / "p.jsonl", program), "--run-code", "--json")
        reached = json.loads(ran.out)["scores"]["pass@1"] == 100
        assert reached == ("the network is not blocked" in ran.err)
        if not reached:
            socket.create_connection(server.getsockname()).close()


def test_the_estimate_is_unbiased() -> None:
    from itertools import combinations

    row = [True, False, False, True, False]
    exact = sum(any(row[i] for i in chosen) for chosen in combinations(range(5), 3)) / 10
    assert pass_at_k(3, [row]).value == pytest.approx(100 * exact)
    with pytest.raises(UsageError, match="pass@6 needs 6 samples"):
        pass_at_k(6, [row])
    with pytest.raises(UsageError, match="k must be 1 or more"):
        pass_at_k(0, [row])


@pytest.mark.parametrize("row", [{"texts": ["x"]}, {"test": "x"}, {"texts": [], "test": "x"}, {"texts": [1], "test": "x"}])
def test_rows_without_code_or_test_are_named(run: Run, tmp_path: Path, row: dict[str, Any]) -> None:
    ran = run("evaluate", "code", "-i", write_rows(tmp_path / "p.jsonl", [row]), "--run-code")
    assert ran.code == 2
    assert "line 1" in ran.err
