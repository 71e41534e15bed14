"""Options from files and from the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Ran, Run


def tokens(ran: Ran) -> int:
    assert ran.code == 0, ran.err
    return int(json.loads(ran.out)["completion_tokens"])


def test_an_environment_variable_sets_an_option_and_the_command_line_wins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMKIT_MAX_NEW_TOKENS", "3")
    assert tokens(run("generate", "Once", "--json", "-q")) == 3
    assert tokens(run("generate", "Once", "--json", "-q", "--max-new-tokens", "2")) == 2


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TEMPRATURE", "TEMPERATURE"), ("MODLE", "MODEL"), ("MAX_TOKENS", "MAX_NEW_TOKENS"), ("LORA_RR", "LORA_R"), ("LORA_R", ""),
     ("HOME", ""), ("PACKAGE", ""), ("MY_OWN", ""), ("TOP_P", "")],
)  # fmt: skip
def test_a_variable_that_sets_no_option_is_told_where_it_is_close_to_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(f"LLMKIT_{name}", "1")
    ran = run("models", "show", "builtin:stories", "--json")
    assert ran.code == 0
    assert ran.err == (f"warning: LLMKIT_{name} sets no option\nhint: did you mean LLMKIT_{meant}?\n" if meant else "")


def test_a_bad_environment_variable_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMKIT_TOP_P", "much")
    assert run("generate", "Once").code == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.toml", 'max-new-tokens = 4\n[generate]\nmax-new-tokens = 3\nstop = ["zzz"]\n'),
        ("c.yaml", "generate:\n  max_new_tokens: 3\n"),
        ("c.json", '{"max_tokens": 3}'),
    ],
)
def test_a_config_file_gives_options_and_the_command_line_wins(run: Run, tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert tokens(run("generate", "Once", "--json", "-q", "--config", path)) == 3
    assert tokens(run("generate", "Once", "--json", "-q", "--config", path, "--max-new-tokens", "2")) == 2


def test_a_run_record_is_a_config_file(run: Run, tmp_path: Path, prompts: Path) -> None:
    out, again = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert run("generate", "-i", prompts, "-o", out, "--max-new-tokens", "3", "--temperature", "1").code == 0
    assert run("generate", "--config", f"{out}.run.json", "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.toml", "max-new-token = 3", "did you mean 'max-new-tokens'"),
        ("c.toml", "= 3", "is not valid toml"),
        ("c.yaml", "a: [", "is not valid yaml"),
        ("c.yaml", "- 1", "no table"),
        ("c.toml", "generate = 3", "not a table"),
    ],
)
def test_a_config_file_that_is_wrong_says_where(run: Run, tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    ran = run("generate", "Once", "--config", path)
    assert ran.code == 2
    assert said in ran.err
    assert str(path) in ran.err


def test_every_command_and_subcommand_may_have_a_table(run: Run, tmp_path: Path) -> None:
    from llmkit.cli import config

    (tmp_path / "c.toml").write_text("".join(f"[{name}]\n" for name in config._commands()))
    assert run("evaluate", "bleu", "--config", tmp_path / "c.toml", "-p", "none.txt", "-r", "none.txt").err.startswith("error: none.txt")


def test_a_config_file_that_is_missing_is_named(run: Run) -> None:
    ran = run("generate", "Once", "--config", "no-such.toml")
    assert ran.code == 2
    assert "no-such.toml" in ran.err


def test_a_config_file_of_the_environment_is_named_with_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMKIT_CONFIG", "none.toml")
    ran = run("generate", "Once")
    assert ran.code == 2
    assert ran.err.startswith("error: LLMKIT_CONFIG: none.toml: cannot be read")


def test_a_second_config_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 1\n")
    ran = run("generate", "Once", "--config", str(tmp_path / "a.toml"), "--config", str(tmp_path / "a.toml"))
    assert ran.code == 2
    assert "--config is given 2 times, and only once is allowed" in ran.err
