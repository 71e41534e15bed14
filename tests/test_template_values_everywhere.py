"""Values for a chat template reach every command that applies one, and are part of its runs, records and signatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows
from servers import serving

from llmkit import load
from llmkit.errors import UsageError

#: Writes the answer right after its generation prompt, as training needs it, and the value before the conversation.
TEMPLATE = (
    "{{ mode | default('-') }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
WANTED = '{"mode": "abcdef"}'


@pytest.fixture
def chat(tmp_path: Path, llama: Path) -> list[object]:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    return ["-m", llama, "--chat-template", tmp_path / "t.jinja"]


def test_likelihoods_of_completions_depend_on_them_and_the_signature_says_so(run: Run, tmp_path: Path, chat: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": TALK}])
    command = ["evaluate", "perplexity", "-i", rows, *chat, "--completion-only", "--json"]
    plain, shown, again = (json.loads(run(*command, *more).out) for more in ([], ["--chat-template-kwargs", WANTED], []))
    assert plain == again
    assert plain["scores"] != shown["scores"]
    assert plain["signatures"] != shown["signatures"]
    own = write_rows(tmp_path / "own.jsonl", [{"messages": TALK, "chat_template_kwargs": {"mode": "abcdef"}}])
    assert json.loads(run(*command[:3], own, *command[4:]).out)["scores"] == shown["scores"]


def test_a_whole_text_goes_through_no_template(run: Run, tmp_path: Path, chat: list[object]) -> None:
    ran = run("evaluate", "perplexity", "-i", write_rows(tmp_path / "in.jsonl", [{"text": "hi"}]), *chat, "--chat-template-kwargs", WANTED)
    assert ran.code == 2
    assert "--chat-template-kwargs needs --completion-only" in ran.err


def test_choices_depend_on_them_and_the_signature_says_so(run: Run, tmp_path: Path, chat: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"question": "hi", "choices": ["a", "b"], "answer": 0}])
    command = ["evaluate", "choice", "-i", rows, *chat, "--template", "{question}", "--json"]
    out = tmp_path / "out.jsonl"
    plain, shown = (json.loads(run(*command, *more).out) for more in ([], ["--chat-template-kwargs", WANTED, "-o", out]))
    assert plain["signatures"] != shown["signatures"]
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert json.loads(record["options"]["chat_template_kwargs"]) == {"mode": "abcdef"}
    other = run(*command, "-o", out)
    assert other.code == 2
    assert "chat_template_kwargs was" in other.err


def test_a_translation_by_prompt_reads_them(run: Run, tmp_path: Path, chat: list[object]) -> None:
    command = ["translate", "Good morning", *chat, "--from", "en", "--to", "fr", "--max-new-tokens", "1", "--json"]
    plain, shown = (json.loads(run(*command, *more).out) for more in ([], ["--chat-template-kwargs", WANTED]))
    assert shown["prompt_tokens"] - plain["prompt_tokens"] == len("abcdef") - len("-")


@pytest.mark.parametrize(
    "command",
    [["generate", "hi"], ["translate", "hi", "--to", "fr"], ["evaluate", "choice", "-i"], ["evaluate", "score", "--metrics", "bleu", "-i"]],
)
def test_a_model_without_a_template_refuses_them(run: Run, tmp_path: Path, command: list[str]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"question": "hi", "choices": ["a", "b"], "answer": 0, "prompt": "x", "reference": "y"}])
    model = ["-m", "builtin:en-fr" if command[0] == "translate" else "builtin:stories", "--chat-template-kwargs", WANTED]
    ran = run(*command, *([rows] if command[-1] == "-i" else []), *model)
    assert ran.code == 2
    assert "--chat-template-kwargs needs a chat template" in ran.err


@pytest.mark.parametrize("own", [False, True], ids=["of the run", "of the row"])
def test_training_reads_them(run: Run, tmp_path: Path, chat: list[object], own: bool) -> None:
    beside: dict[str, Any] = {"chat_template_kwargs": {"mode": "abcdef"}} if own else {}
    given = [] if own else ["--chat-template-kwargs", WANTED]
    counts = []
    for row in ({"messages": TALK}, {"prompt": "hi", "completion": "ok"}):
        for fields, options in ((row, []), (row | beside, given)):
            rows = write_rows(tmp_path / "in.jsonl", [fields] * 4)
            ran = run("finetune", rows, *chat, *options, "--dry-run", "--json")
            assert ran.code == 0, ran.err
            counts.append(json.loads(ran.out)["tokens"])
    assert [counts[1] - counts[0], counts[3] - counts[2]] == [4 * (len("abcdef") - len("-"))] * 2


def test_a_training_run_and_its_record_know_them(run: Run, tmp_path: Path, chat: list[object]) -> None:
    command = ["finetune", write_rows(tmp_path / "in.jsonl", [{"messages": TALK}] * 4), *chat, "--max-steps", "1", "-o", tmp_path / "ad"]
    assert run(*command, "--chat-template-kwargs", WANTED).code == 0
    record = json.loads((tmp_path / "ad" / "run.json").read_text())
    assert json.loads(record["identity"]["data.chat_template_kwargs"]) == {"mode": "abcdef"}
    other = run(*command)
    assert other.code == 2
    assert "chat_template_kwargs was" in other.err


def test_a_server_is_sent_them(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "a"}, {"messages": TALK[:1], "chat_template_kwargs": {"mode": "x", "more": 1}}])
    with serving() as server:
        at = ["-m", "openai:tiny", "--api-base", server.base]
        assert run("generate", "-i", rows, "-o", tmp_path / "out.jsonl", *at, "--chat-template-kwargs", WANTED).code == 0
        assert run("generate", "hi", *at, "--json").code == 0
        told = sorted(json.dumps(body.get("chat_template_kwargs")) for body in server.bodies)
        refused = run("generate", "hi", *at, "--chat-template", "none", "--chat-template-kwargs", WANTED)
    assert told == sorted(["null", '{"mode": "abcdef"}', '{"mode": "x", "more": 1}'])
    assert refused.code == 2
    assert "--chat-template-kwargs needs the server's chat template" in refused.err


def test_a_server_that_does_not_take_them_is_an_error_that_names_the_option(run: Run) -> None:
    def refuse(body: Any) -> Any:
        known = "chat_template_kwargs" not in body
        return None if known else (400, {"message": "Unrecognized request argument supplied: chat_template_kwargs"})

    with serving(refuse=refuse) as server:
        ran = run("generate", "hi", "-m", "openai:tiny", "--api-base", server.base, "--json", "--chat-template-kwargs", WANTED)
    assert ran.code == 2
    assert "does not take --chat-template-kwargs" in ran.err


def test_a_program_hands_them_to_a_loaded_model(llama: Path) -> None:
    assert load(str(llama), chat_template_kwargs={"mode": 1}).chat.values == {"mode": 1}
    with pytest.raises(UsageError, match="needs a chat template"):
        load("builtin:stories", chat_template_kwargs={"mode": 1})


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": ' + "[" * 300 + "]" * 300 + "}", '{"a": 1'])
def test_what_is_ambiguous_or_too_deep_is_refused(run: Run, text: str) -> None:
    ran = run("generate", "hi", "--chat-template-kwargs", text)
    assert ran.code == 2
    assert "not a JSON object: " in ran.err


def test_half_a_surrogate_pair_can_be_recorded(run: Run, tmp_path: Path, chat: list[object]) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "hi"}])
    ran = run(
        "generate", "-i", rows, "-o", tmp_path / "out.jsonl", *chat, "--max-new-tokens", "1", "--chat-template-kwargs", r'{"x": "\ud800"}'
    )
    assert ran.code == 0, ran.err
    assert read_rows(tmp_path / "out.jsonl")[0]["prompt"] == "hi"
