"""Start-up stays light: no torch for help, version, usage errors and quick checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import PATIENCE, Run

HEAVY = ("torch", "ctranslate2", "transformers", "datasets", "peft", "evaluate", "pandas", "pyarrow", "pydantic")


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
import tomllib
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
import tomllib
from llmkit.cli.app import run
assert run(["evaluate", "score", "--metrics", "bleu,chrf,ter,exact_match,f1", "-p", {str(text)!r}, "-r", {str(text)!r}, "--json"]) == 0
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr.splitlines()[-1] == "[]"


def test_one_text_is_translated_without_tables_of_names_and_parsers_of_documents() -> None:
    code = """
import sys
from llmkit.cli import app
assert app.run(["translate", "Good morning.", "--to", "fr"]) == 0
print([m for m in ("torch", "language_data.name_data", "llmkit.translation.documents.html") if m in sys.modules], file=sys.stderr)
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


def test_an_interrupt_that_a_library_swallows_while_it_is_imported_ends_the_process(tmp_path: Path) -> None:
    swallow = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    list(range(1000))\nexcept BaseException:\n    pass\n"
    (tmp_path / "typer.py").write_text(f"{swallow}raise SystemExit('swallowed')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "llmkit", "generate", "--help"]

    def interruptible() -> None:  # also when a shell has started the tests in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=PATIENCE, check=False, preexec_fn=interruptible
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_before_the_first_module_of_ours_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "llmkit", "--version"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_nothing_slow_is_imported_before_an_interrupt_is_quiet() -> None:
    code = "import sys, llmkit.__main__; print({'typing', 'dataclasses', 're'} & sys.modules.keys())"
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_command_and_the_module_start_alike() -> None:
    scripts = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"llmkit": "llmkit.__main__:main"}
