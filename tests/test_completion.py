"""What a shell completes: commands, options, values; asked of the command, and of the shells that are here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run

from llmkit.cli.completion import candidates, joined


def offered(*words: str) -> list[str]:
    return [value for value, _ in candidates(words)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["gen"], ["generate"]), (["evaluate", "p"], ["perplexity"]), (["models", "s"], ["show"]),
        (["generate", "--max-n"], ["--max-new-tokens"]), (["generate", "-m", "builtin:s"], ["builtin:stories"]),
        (["generate", "--dtype", "b"], ["bfloat16"]),
        (["generate", "--dtype=b"], ["--dtype=bfloat16"]), (["generate", "--device", "c"], ["cpu", "cuda"]),
        (["translate", "--to", "fren"], ["French"]), (["translate", "--tgt-lang", "Swe"], ["Swedish"]),
        (["evaluate", "score", "--metrics", "ch"], ["chrf"]), (["generate", "--engine", "t"], ["torch"]),
        (["generate", "--help"], ["--help", "--help-all"]), (["generate", "-i", ""], []), (["generate", ""], []), (["nonsense", "--x"], []),
        (["generate", "--json", "--ech"], ["--echo"]), (["models", "show", "builtin:s"], ["builtin:stories"]),
        (["completion", "f"], ["fish"]), (["finetune", "--lora-r"], ["--lora-r"]),
        (["finetune", "--r"], ["--rslora", "--restart", "--report-to"]),
        (["evaluate", "score", "--metrics", "bleu,ch"], ["bleu,chrf"]), (["evaluate", "score", "--metrics=f1,b"], ["--metrics=f1,bleu"]),
        (["evaluate", "score", "--normalize", "case,"], ["case,unicode", "case,punctuation", "case,articles", "case,space"]),
        (["evaluate", "bleu", "--tokenize", "flores"], ["flores101", "flores200"]), (["evaluate", "bleu", "-tok", "int"], ["intl"]),
    ],
)  # fmt: skip
def test_what_may_come_next(words: list[str], found: list[str]) -> None:
    assert offered(*words) == found


def test_bashs_pieces_of_a_word_are_joined() -> None:
    assert joined(["generate", "-m", "builtin", ":", "sto"]) == ["generate", "-m", "builtin:sto"]
    assert joined(["generate", "--dtype", "=", "b"]) == ["generate", "--dtype=b"]
    assert joined(["generate", "-m", "builtin", ":"]) == ["generate", "-m", "builtin:"]


def test_no_heavy_library_is_imported_for_it() -> None:
    code = (
        "import json, sys; from llmkit.cli.completion import candidates\n"
        "for words in (['gen'], ['generate', '--'], ['generate', '-m', ''], ['translate', '--to', 'F']):\n"
        "    candidates(words)\n"
        "print(json.dumps([m for m in ('torch', 'transformers', 'datasets', 'peft') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_page_names_the_shell_only(run: Run) -> None:
    assert run("completion", "--help").out.splitlines()[0] == "Usage: llmkit completion [OPTIONS] SHELL"


def test_an_unknown_shell_is_refused(run: Run) -> None:
    ran = run("completion", "bahs")
    assert ran.code == 2
    assert "did you mean 'bash'?" in ran.err


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which `llmkit` is the package under test."""
    program = tmp_path / "bin" / "llmkit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmkit "$@"\n')
    program.chmod(0o755)
    return os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def asked(command: list[str], environment: dict[str, str]) -> list[str]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("gen", ["generate"]),
        ("generate --max-n", ["--max-new-tokens"]),
        ("generate -m builtin : st", ["stories"]),
        ("generate --dtype = b", ["bfloat16"]),
    ],
)
def test_bash_completes(environment: dict[str, str], words: str, found: list[str]) -> None:
    count = len(words.split())
    script = (
        f'source <(llmkit completion bash); COMP_WORDS=(llmkit {words}); COMP_CWORD={count}; _llmkit; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    assert asked(["bash", "--norc", "-c", script], environment) == found


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_completes(environment: dict[str, str]) -> None:
    script = (
        "autoload -Uz compinit; compinit -u -D; source <(llmkit completion zsh)\n"
        "_describe() { print -l -- ${(P)2%%:*}; }\n"
        "words=(llmkit generate --max-n); CURRENT=3; _llmkit"
    )
    assert asked(["zsh", "-f", "-c", script], environment) == ["--max-new-tokens"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes(environment: dict[str, str]) -> None:
    script = 'llmkit completion fish | source; complete -C "llmkit generate --max-n"'
    assert asked(["fish", "--no-config", "-c", script], environment)[0] == "--max-new-tokens"
