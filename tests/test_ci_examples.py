"""The gates for CI do what their comments say: in the clone, and in a fresh repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
#: Starts in a fifth of the time; the workflow's own test runs what is in the file.
QUICK = "ctranslate2"
CI = ROOT / "examples" / "ci"


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a step's script as CI systems do, with this environment's llmkit."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    command = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def workflow() -> dict[str, dict[str, Any]]:
    """The steps of the workflow, by what they do."""
    job = yaml.safe_load((CI / "github-actions.yml").read_text())["jobs"]["gate"]
    return {step.get("name") or step["uses"]: step for step in job["steps"]}


def test_the_gate_is_green_as_its_header_calls_it(tmp_path: Path) -> None:
    (call,) = re.findall(r"^#   (examples/ci/gate\.sh) TESTSET", (CI / "gate.sh").read_text(), re.MULTILINE)
    done = shell(f"bash {ROOT / call} {CI / 'testset.jsonl'}", tmp_path, LLMKIT_ENGINE=QUICK)
    assert done.returncode == 0, done.stderr
    assert {"result.json", "result.md", "result.xml"} <= {p.name for p in tmp_path.iterdir()}
    (tmp_path / "result.json").rename(tmp_path / "baseline.json")
    longer = {"MAX_NEW_TOKENS": "6", "MIN_EXACT_MATCH": "0", "LLMKIT_ENGINE": QUICK}
    worse = shell(f"bash {CI / 'gate.sh'} {CI / 'testset.jsonl'} baseline.json", tmp_path, **longer)
    assert worse.returncode == 4, worse.stderr
    assert "worse by" in worse.stderr
    assert "failures=" in (tmp_path / "result.xml").read_text()


def test_the_gate_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{broken\n" * 12)
    assert shell(f"bash {CI / 'gate.sh'} broken.jsonl", tmp_path, LLMKIT_ENGINE=QUICK).returncode == 2
    assert shell(f"bash {CI / 'gate.sh'} no-such-file.jsonl", tmp_path).returncode == 2
    bare = shell(f"bash {CI / 'gate.sh'}", tmp_path)
    assert (bare.returncode, "usage: " in bare.stderr) == (2, True)


def test_the_workflow_is_green_in_a_fresh_repository(tmp_path: Path) -> None:
    steps = workflow()
    done = shell(steps["Demonstration, until quality/suite.toml is committed"]["run"], tmp_path)
    assert done.returncode == 0, done.stderr
    done = shell(steps["Gate"]["run"], tmp_path)
    assert done.returncode == 0, done.stderr
    done = shell(steps["Summary"]["run"], tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "summary").read_text() == (tmp_path / "result.md").read_text()
    assert (tmp_path / "result.xml").exists()


def test_the_workflow_keeps_files_that_are_committed_and_has_no_summary_of_nothing(tmp_path: Path) -> None:
    steps = workflow()
    (tmp_path / "quality").mkdir()
    for name in ("suite.toml", "testset.jsonl"):
        (tmp_path / "quality" / name).write_text("mine")
    shell(steps["Demonstration, until quality/suite.toml is committed"]["run"], tmp_path)
    assert all((tmp_path / "quality" / name).read_text() == "mine" for name in ("suite.toml", "testset.jsonl"))
    done = shell(steps["Summary"]["run"], tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert (done.returncode, (tmp_path / "summary").exists()) == (0, False)


def test_the_workflow_needs_no_other_file_of_the_repository() -> None:
    steps = workflow()
    assert all("cache" not in (step.get("with") or {}) for name, step in steps.items() if "setup-python" in name)
    assert all(f"examples{os.sep}" not in step.get("run", "") for step in steps.values())
    assert steps["Test report"]["if"] == "always() && hashFiles('result.xml') != ''"


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    (tmp_path / "quality").mkdir()
    for name in ("suite.toml", "testset.jsonl"):
        shutil.copy(CI / name, tmp_path / "quality" / name)
    suite = tmp_path / "quality" / "suite.toml"
    suite.write_text(f'engine = "{QUICK}"\n' + suite.read_text())
    shutil.copy(CI / "Makefile", tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_a_baseline_is_made_by_make_and_held_by_the_action(quality: Path) -> None:
    assert shell("make baseline", quality).returncode == 0
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (step,) = [step for step in action["runs"]["steps"] if step.get("id") == "gate"]
    names = dict(re.findall(r"(\w+): \$\{\{ inputs\.([\w-]+) \}\}", (ROOT / "action.yml").read_text()))
    inputs = {variable: str(action["inputs"][names[variable]]["default"]) for variable in step["env"]}
    places = {"GITHUB_OUTPUT": str(quality / "output"), "GITHUB_STEP_SUMMARY": str(quality / "summary")}
    done = shell(step["run"], quality, **inputs, **places)
    assert done.returncode == 0, done.stderr
    assert "against" in done.stderr
    assert (quality / "output").read_text() == "code=0\n"
    suite = quality / "quality" / "suite.toml"
    suite.write_text(suite.read_text().replace("exact_match < 30", "exact_match < 100"))
    done = shell(step["run"], quality, **inputs | {"BASELINE": ""}, **places)
    assert done.returncode == 4
    assert (quality / "output").read_text() == "code=0\ncode=4\n"


@pytest.mark.parametrize("file", ["gitlab-ci.yml", "Jenkinsfile", "pre-commit-config.yaml", "Makefile", "github-actions.yml"])
def test_every_system_runs_the_same_suite(file: str) -> None:
    text = (CI / file).read_text()
    if file.endswith(("yml", "yaml")):
        assert yaml.safe_load(text)
    assert "evaluate run" in text
    assert "quality/suite.toml" in text
    assert file == "pre-commit-config.yaml" or "quality/baseline.json" in text
    assert f"({file})" in (CI / "README.md").read_text()
