"""The examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import Run

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_beam_search_falls_back_to_the_built_in_model_without_a_network(run: Run, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [EXAMPLES / "beam-search.sh", "Once upon a time"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    options = ["--max-length", "50", "--num-beams", "5", "--no-repeat-ngram-size", "2", "--echo"]
    assert done.stdout == run("generate", "Once upon a time", *options).out


def gate(tmp_path: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    command = ["bash", str(EXAMPLES / "ci" / "gate.sh"), *map(str, arguments)]
    return subprocess.run(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_the_gate_passes_fails_and_refuses(tmp_path: Path) -> None:
    testset = EXAMPLES / "ci" / "testset.jsonl"
    passed = gate(tmp_path, testset, MAX_NEW_TOKENS="1", MIN_EXACT_MATCH="30")
    assert passed.returncode == 0, passed.stderr
    assert {"result.json", "result.md", "result.xml"} <= {p.name for p in tmp_path.iterdir()}
    (tmp_path / "result.json").rename(tmp_path / "baseline.json")
    again = gate(tmp_path, testset, "baseline.json", MAX_NEW_TOKENS="1", MIN_EXACT_MATCH="30")
    assert again.returncode == 0, again.stderr
    worse = gate(tmp_path, testset, "baseline.json", MAX_NEW_TOKENS="6", MIN_EXACT_MATCH="0")
    assert worse.returncode == 4, worse.stderr
    assert "worse by" in worse.stderr
    assert "failures=" in (tmp_path / "result.xml").read_text()
    (tmp_path / "broken.jsonl").write_text("{broken\n" * 12)
    assert gate(tmp_path, tmp_path / "broken.jsonl").returncode == 2
    assert gate(tmp_path, "no-such-file.jsonl").returncode == 2


def test_the_workflow_runs_the_commands_that_are_there(tmp_path: Path) -> None:
    import yaml

    workflow = yaml.safe_load((EXAMPLES / "ci" / "github-actions.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    (call,) = [run for run in runs if "gate.sh" in run]
    root = EXAMPLES.parent
    assert all((root / part).exists() for part in call.split()[1:])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (step,) = [step for step in workflow["jobs"]["gate"]["steps"] if step.get("run") == call]
    done = subprocess.run(
        ["bash", "-c", call.replace("examples/ci", str(EXAMPLES / "ci"))],
        cwd=tmp_path,
        env=environment | step["env"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def example(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    command = ["bash", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_the_style_example_learns_the_style(tmp_path: Path) -> None:
    import json

    done = example("finetune/style.sh", tmp_path / "adapter", LLMKIT_MAX_STEPS="60")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "adapter" / "run.json").read_text())["result"]["figures"]
    assert figures["after"]["token_perplexity"]["value"] < 0.3 * figures["before"]["token_perplexity"]["value"]
    before, after = (part.splitlines()[1:] for part in done.stdout.split("--- ")[1:])
    assert before != after


def test_the_chat_example_teaches_an_answer(tmp_path: Path) -> None:
    done = example("finetune/chat.sh", tmp_path / "adapter")
    assert done.returncode == 0, done.stderr
    assert "The opposite of hot is cold." in done.stdout
