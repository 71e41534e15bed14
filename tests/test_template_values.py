"""Values that a chat template is shown beside the messages: from an option, a configuration file, or a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run, read_rows, write_rows

from llmkit.engines.chat import ChatSettings, render
from llmkit.errors import UsageError
from llmkit.rows.base import Row
from llmkit.rows.fields import Prompt, PromptFields

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}|{{ enable_thinking }}|{{ mode | default('plain') }}"
MESSAGES = [{"role": "user", "content": "hi"}]


class Plain:
    """A tokenizer with a template."""

    chat_template = TEMPLATE
    special_tokens_map: dict[str, str] = {}  # noqa: RUF012


def shown(settings: ChatSettings, row: dict[str, object] | None = None) -> str:
    prompt = Prompt(text="hi") if row is None else PromptFields().prompt(Row(0, 1, row), "r.jsonl")
    return render(prompt, Plain(), settings)[0]


def test_a_template_is_shown_the_values() -> None:
    assert shown(ChatSettings()) == "hi||plain"
    assert shown(ChatSettings(values={"enable_thinking": False})) == "hi|False|plain"
    assert shown(ChatSettings(values={"enable_thinking": True, "mode": "x", "unread": 1})) == "hi|True|x"


def test_values_of_a_row_count_more_than_those_of_the_run() -> None:
    settings = ChatSettings(values={"enable_thinking": False, "mode": "x"})
    assert shown(settings, {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": True}}) == "hi|True|x"
    assert shown(settings, {"messages": MESSAGES, "chat_template_kwargs": '{"enable_thinking": 3}'}) == "hi|3|x"
    body = {"messages": MESSAGES, "chat_template_kwargs": {"mode": "y"}}
    assert shown(settings, {"custom_id": "a", "body": body}) == "hi|False|y"


@pytest.mark.parametrize("value", [[], "x", 3, {"messages": []}, '{"tools": []}'])
def test_values_of_a_row_that_are_none_are_an_error_of_the_row(run: Run, llama: Path, tmp_path: Path, value: object) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": MESSAGES, "chat_template_kwargs": value}])
    ran = run("generate", "-m", llama, "-i", rows, "--max-new-tokens", 1)
    assert ran.code == 3
    assert "chat_template_kwargs" in json.loads(ran.out)["error"]


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "continue_final_message", "continue_last"])
def test_what_llmkit_sets_itself_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        ChatSettings(values={name: 1})


@pytest.mark.parametrize("text", ["", "x", "[]", "3", "{'a': 1}", "[" * 100_000])
def test_what_is_no_json_object_is_refused(run: Run, text: str) -> None:
    ran = run("generate", "hi", "--chat-template-kwargs", text)
    assert ran.code == 2
    assert "--chat-template-kwargs" in ran.err


def test_values_are_part_of_a_run_and_of_its_record(run: Run, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": "hi"}]), tmp_path / "out.jsonl"
    arguments = ["generate", "-m", llama, "-i", rows, "--max-new-tokens", 1, "--chat-template", tmp_path / "t.jinja"]
    assert run(*arguments, "-o", out, "--chat-template-kwargs", '{"mode": "é", "enable_thinking": false}').code == 0
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert json.loads(record["options"]["chat_template_kwargs"]) == {"enable_thinking": False, "mode": "é"}
    same = run(*arguments, "-o", out, "--chat-template-config", '{"enable_thinking":false,  "mode":"\\u00e9"}')
    assert "already complete" in same.err
    other = run(*arguments, "-o", out, "--chat-template-kwargs", '{"enable_thinking": true}')
    assert other.code == 2
    assert "chat_template_kwargs was" in other.err
    assert read_rows(out)[0]["prompt_tokens"] == 1 + len("hi|False|é".encode()) - 1


def test_a_configuration_file_may_write_them_as_a_table(run: Run, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    (tmp_path / "c.toml").write_text('[chat_template_kwargs]\nmode = "abcdef"\n')
    (tmp_path / "c.yaml").write_text("chat_template_kwargs: {mode: abcdef}\n")
    arguments = ["generate", "hi", "-m", llama, "--max-new-tokens", 1, "--chat-template", tmp_path / "t.jinja", "--json", "-q"]
    counts = [json.loads(run(*arguments, "--config", tmp_path / name).out)["prompt_tokens"] for name in ("c.toml", "c.yaml")]
    assert counts == [len("hi||abcdef")] * 2


def test_values_that_no_template_reads_are_remarked_on_or_refused(run: Run, llama: Path, tmp_path: Path) -> None:
    ran = run("generate", "hi", "-m", llama, "--max-new-tokens", 1, "--chat-template-kwargs", '{"enable_thinkng": false}')
    assert ran.code == 0
    assert "the chat template does not read 'enable_thinkng'" in ran.err
    for model in (["-m", str(llama), "--chat-template", "none"], ["-m", "builtin:stories"]):
        ran = run("generate", "hi", *model, "--chat-template-kwargs", '{"a": 1}')
        assert ran.code == 2
        assert "--chat-template-kwargs needs a chat template" in ran.err
