"""The bench: peers in alternation, those that are not installed named, ratios and growth computed as said."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.models.builtin import folder
from llmkit.models.speed import Speed

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _bench_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def module(name: str) -> Any:
    return importlib.import_module(f"bench.{name}")


def measured(name: str, seconds: list[float], tokens: int) -> Any:
    return module("running").Measured(name, seconds, tokens, 2**20, {})


def test_every_peer_names_what_it_needs_and_can_do() -> None:
    for path in (ROOT / "bench" / "peers").glob("[!_]*.py"):
        found = module(f"peers.{path.stem}")
        assert set(found.TASKS) <= {"generate", "score", "load", "train"}
        assert all(isinstance(name, str) for name in found.NEEDS)


def test_a_peer_that_is_not_installed_is_named_and_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module("peers.lm_eval_harness"), "NEEDS", ("no_such_package",))
    comparisons, running = module("comparisons"), module("running")
    bench = comparisons.Bench(comparisons.QUICK, "", tmp_path, Speed(1e9, {"float32": 1e9}), None)
    job = module("peers").Job("", [], scratch=str(tmp_path))
    (contender,) = [running.Contender("the harness", "lm_eval_harness")]
    found = comparisons._run(bench, "scores", "score", job, [contender], lambda _: None)
    assert found.measured == []
    assert found.skipped == {"the harness": "no_such_package is not installed"}
    assert "| scores | the harness | skipped: no_such_package is not installed |" in module("tables").table([found])


def test_peers_take_turns_and_give_the_same_text(tmp_path: Path) -> None:
    running, peers = module("running"), module("peers")
    job = peers.Job(str(folder("stories")), ["Once upon a time"], new_tokens=8, scratch=str(tmp_path))
    contenders = [running.Contender("ours", "llmkit_itself", folder="builtin:stories"), running.Contender("theirs", "plain_transformers")]
    found, failed = running.alternate(contenders, "generate", job, 2)
    assert failed == {}
    assert [(m.name, len(m.seconds), m.tokens) for m in found] == [("ours", 2, 8), ("theirs", 2, 8)]
    assert found[0].about["first"] == found[1].about["first"] != ""


#: In a process of its own, because a process has one server to fork from.
FORKED = """
import json, sys
from bench.peers import Job
from bench.running import Contender, alternate_each

folder, scratch = sys.argv[1:]
job = Job(folder, ["Once upon a time"], new_tokens=8, scratch=scratch)
contenders = [Contender("ours", "llmkit_itself", {"engine": "torch"}, folder="builtin:stories"), Contender("theirs", "plain_transformers")]
((found, failed),) = alternate_each(contenders, "generate", [job], 1, fork=True)
print(json.dumps([failed, [[m.name, m.tokens, m.about["first"]] for m in found]]))
"""


def test_peers_that_share_the_imports_of_torch_give_the_same_text(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(folder("stories")), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    failed, (ours, theirs) = json.loads(done.stdout)
    assert failed == {}
    assert ours[:2] == ["ours", 8]
    assert theirs[:2] == ["theirs", 8]
    assert ours[2] == theirs[2] != ""


def test_a_contender_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    running, peers = module("running"), module("peers")
    job = peers.Job("builtin:stories", ["Once"], new_tokens=2, scratch=str(tmp_path))
    contenders = [running.Contender("lost", "llmkit_itself", folder=str(tmp_path / "nowhere")), running.Contender("ours", "llmkit_itself")]
    found, failed = running.alternate(contenders, "generate", job, 1)
    assert [m.name for m in found] == ["ours"]
    assert "nowhere" in failed["lost"]


def test_a_ratio_is_of_tokens_per_second_and_a_share_of_the_limit() -> None:
    ours, theirs = measured("llmkit", [1.0, 3.0, 2.0], 200), measured("theirs", [4.0], 100)
    result = module("comparisons").Result("decode", [ours, theirs], {}, lambda _: 1.0, by_tokens=True)
    lines = module("tables").table([result]).splitlines()
    assert lines[2] == "| decode | llmkit | 2.000 | 100.0 |  | 50% | 1 |"
    assert lines[3] == "| decode | theirs | 4.000 | 25.0 | 4.00× | 25% | 1 |"


def test_results_are_drawn(tmp_path: Path) -> None:
    result = module("comparisons").Result("decode", [measured("llmkit", [1.0], 9), measured("theirs", [2.0], 9)], {}, lambda _: 0.5)
    module("tables").picture([result], tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("power", "factor"), [(0.0, 3.0), (1.0, 0.1), (2.0, 5.0)])
def test_the_exponent_of_growth_is_the_slope_of_the_logarithms(power: float, factor: float) -> None:
    points = [(float(x), factor * x**power, 1) for x in (10, 100, 1000)]
    assert module("growth").slope(points, 1) == pytest.approx(power)
    assert module("growth").slope(points, 2) == pytest.approx(0)
