"""Start-up stays light: no torch for help, version, usage errors and quick checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, Run

HEAVY = ("torch", "ctranslate2", "transformers", "datasets", "peft", "evaluate", "pandas", "pyarrow")


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "generate --help",
        "generate --no-such-option",
        "no-such-command",
        "generate x --top-p 2",
        "generate -i missing.jsonl",
        "doctor --quick",
        "models show builtin:stories",
        "evaluate --help",
        "evaluate bleu --help",
        "evaluate perplexity -i missing.txt",
    ],
)
def test_imports_no_heavy_library(arguments: str) -> None:
    code = f"""
import sys
from llmkit.cli.app import run
run({arguments.split()!r})
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr.splitlines()[-1] == "[]"


def test_scores_of_saved_outputs_import_no_heavy_library(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the king\nthe queen\n")
    code = f"""
import sys
from llmkit.cli.app import run
assert run(["evaluate", "score", "--metrics", "bleu,chrf,ter,exact_match,f1", "-p", {str(text)!r}, "-r", {str(text)!r}, "--json"]) == 0
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr.splitlines()[-1] == "[]"


def test_version_is_one_line_on_stdout(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("llmkit ")


@pytest.mark.parametrize("arguments", [[], ["evaluate"]])
def test_without_a_command_the_help_page_is_shown(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("Usage: llmkit")
    assert "Commands\n" in ran.err
    assert "error" not in ran.err


def test_an_unknown_command_suggests_the_right_one(run: Run) -> None:
    ran = run("genrate")
    assert ran.code == 2
    assert "'generate'" in ran.err
    assert ran.out == ""


def test_an_unknown_option_suggests_the_right_one(run: Run) -> None:
    ran = run("generate", "x", "--max-new-token", "3")
    assert ran.code == 2
    assert "--max-new-tokens" in ran.err
    assert len(ran.err.splitlines()) <= 3


@pytest.mark.parametrize("name", ["--max_new_tokens", "--max-tokens", "--max_tokens"])
def test_underscores_and_names_of_other_tools_are_accepted(run: Run, name: str) -> None:
    ran = run("generate", "Once", name, "3", "--json", "-q")
    assert ran.code == 0
    assert '"completion_tokens": 3' in ran.out


def test_doctor_reports_as_json(run: Run) -> None:
    import json

    ran = run("doctor", "--json")
    report = json.loads(ran.out)
    assert report["ok"] is True
    assert {"torch", "cpu", "builtin:stories", "cores"} <= {f["name"] for f in report["findings"]}
