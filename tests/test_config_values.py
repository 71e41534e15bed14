"""Values of configuration files and run records: parsed like the command line's, or an error that names file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run


@pytest.mark.parametrize(
    ("name", "content", "tokens"),
    [
        ("c.toml", "max_new_tokens = 1e1", 10),
        ("c.yaml", "max_new_tokens: 10.0", 10),
        ("c.yaml", "max_new_tokens: '10'", 10),
        ("c.toml", "temperature = 0\nby_line = true\n[perplexity]\nstride = 4\n[generate]\nmax_new_tokens = 10", 10),
    ],
)
def test_a_count_means_what_it_means_on_the_command_line(run: Run, tmp_path: Path, name: str, content: str, tokens: int) -> None:
    (tmp_path / name).write_text(content)
    ran = run("generate", "Once", "--json", "--config", tmp_path / name)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["completion_tokens"] == tokens


def test_one_text_is_one_stop(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('stop = "there was"\nmax_new_tokens = 12\n')
    ran = run("generate", "Once", "--json", "--config", tmp_path / "c.toml")
    assert json.loads(ran.out)["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.toml", "max_new_tokens = true", "c.toml: max_new_tokens: true is not one value"),
        ("c.toml", "max_new_tokens = [1, 2]", "c.toml: max_new_tokens: a list is not one value"),
        ("c.toml", "max_new_tokens = 1.5", "c.toml: max_new_tokens: '1.5' is not a whole number"),
        ("c.toml", "max_new_tokens = 1979-05-27", "c.toml: max_new_tokens: '1979-05-27' is not one value"),
        ("c.toml", "quiet = 'x'", "c.toml: quiet: 'x' is neither true nor false"),
        ("c.toml", "quiet = 3", "c.toml: quiet: '3' is neither true nor false"),
        ("c.yaml", "quiet: 'yes'", "c.yaml: quiet: 'yes' is neither true nor false"),
        ("c.toml", "top_k = 3\ntop-k = 4", "c.toml: 'top_k' and 'top-k' are the same option"),
        ("c.toml", "[generate]\nmax_tokens = 3\nmax_new_tokens = 4", "c.toml: 'max_tokens' and 'max_new_tokens' are the same option"),
        ("c.toml", "stop = {a = 1}", "c.toml: stop: a table is not one value"),
        ("c.toml", "stop = [['a']]", "c.toml: stop: a list is not one value"),
        ("c.toml", "temperature = 'hot'", "c.toml: temperature: 'hot' is not a number"),
        ("c.toml", "top_p = 2\ntemperature = 1", "c.toml: top_p 2.0: it must be"),
        ("c.toml", "dtype = 'fp8'", "c.toml: dtype: 'fp8'"),
        ("c.toml", "[generat]\ntop_k = 3", "c.toml: unknown table 'generat'"),
        ("c.toml", "temprature = 1", "c.toml: unknown option 'temprature'"),
        ("c.toml", "[generate]\nby-lines = true", "c.toml: unknown option 'by-lines'"),
        ("c.toml", "x = " + "[" * 5000, "c.toml: is not valid toml"),
        ("c.json", '{"seed": 1, "seed": 2}', "c.json: is not valid json: 'seed' occurs twice"),
        ("c.yaml", "seed: 1\nseed: 2\n", "c.yaml: is not valid yaml: 'seed' occurs twice"),
        ("c.json", '{"output": "\\ud800.jsonl"}', "c.json: output: the text holds half of a character"),
        ("c.toml", ".".join(["a"] * 5000) + " = 1", "c.toml: is not valid toml"),
        ("c.toml", "#" * 100_000, "c.toml: has more than"),
        ("c.yaml", "5: 1", "c.yaml: 5 is not the name of an option"),
        ("c.json", '{"draft_model": "a\\u0000b"}', "c.json: draft_model: the text holds a NUL"),
        ("c.json", '{"system": null}', "c.json: system: nothing is not one value"),
    ],
)
def test_a_value_that_can_not_be_meant_is_named(run: Run, tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    ran = run("generate", "Once", "--config", tmp_path / name)
    assert ran.code == 2
    assert f"{tmp_path}/{said}" in ran.err
    assert ran.out == ""


def record(**changes: Any) -> dict[str, Any]:
    """A run record of one row, with top-level keys replaced."""
    whole: dict[str, Any] = {
        "llmkit": "0",
        "command": "generate",
        "identity": {},
        "versions": {},
        "options": {"input": "i.jsonl", "max_new_tokens": 2},
        "result": {"output": "o.jsonl", "output_sha256": "0", "rows": 1, "input_sha256": "0"},
    }
    return whole | changes


@pytest.mark.parametrize(
    "consent",
    [
        {"trust_remote_code": True}, {"run_code": True}, {"metrics": "./evil.py"}, {"trust-remote-code": True}, {"metrics": ["./evil.py"]},
        {"metrics": ["exact_match", "./evil.py"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["rerun", "config"])
def test_a_record_can_not_consent_to_running_code(run: Run, tmp_path: Path, consent: dict[str, Any], command: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(record(options={"input": "i.jsonl"} | consent)))
    ran = run("rerun", path) if command == "rerun" else run("generate", "x", "--config", path)
    assert ran.code == 2
    assert "a record cannot allow that" in ran.err


def test_a_users_own_configuration_may_consent(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("trust_remote_code = true\nmax_new_tokens = 2\n")
    assert run("generate", "Once", "--config", tmp_path / "c.toml").code == 0


def test_a_record_names_no_place_to_write(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("i.jsonl").write_text('{"prompt": "Once"}\n')
    Path("mine.jsonl").write_text("kept\n")
    options = {"input": "i.jsonl", "output": "mine.jsonl", "overwrite": True, "restart": True, "max_new_tokens": 2, "cache": "mine.jsonl"}
    Path("r.json").write_text(json.dumps(record(options=options)))
    ran = run("generate", "--config", "r.json")
    assert ran.code == 0
    assert json.loads(ran.out)["completion_tokens"] == 2
    assert Path("mine.jsonl").read_text() == "kept\n"
    ran = run("rerun", "r.json", "-o", "mine.jsonl")
    assert (ran.code, Path("mine.jsonl").read_text()) == (2, "kept\n")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"identity": None}, "identity"),
        ({"options": {"report=README.md": True}}, "options.'report=README.md'"),
        ({"options": {"": 1}}, "options.''"),
        ({"options": {"input": "i.jsonl", "help": True}}, "options"),
        *(({"result": {**record()["result"], "output": name}}, "result.output") for name in ("..", " ", "\ud800.jsonl", "x" * 300)),
        ({"versions": 3}, "versions"),
        ({"options": []}, "options"),
        ({"result": {"output": 5, "output_sha256": "0", "rows": 1}}, "result.output"),
        ({"result": {"output": "..", "output_sha256": "0", "rows": 1}}, "result.output"),
        ({"result": {"output": "o.jsonl", "output_sha256": 0, "rows": 1}}, "result.output_sha256"),
        ({"result": {"output": "o.jsonl", "output_sha256": "0", "rows": "1"}}, "result.rows"),
        ({"options": {"stop": {"a": 1}}}, "options.stop"),
        ({"options": {"model": "a\0b"}}, "options.model"),
    ],
)
def test_a_damaged_record_is_refused_by_key_before_anything_runs(run: Run, tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(record(**changes)))
    ran = run("rerun", path)
    assert ran.code == 2
    assert f"{path}: {key}: " in ran.err
