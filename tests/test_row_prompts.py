"""How a row becomes a prompt: templates, conversations in all their forms, batch requests, names of fields."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Run, write_rows

from llmkit.engines.chat import ChatSettings, render, whole_conversation
from llmkit.errors import RowError, UsageError
from llmkit.rows import open_rows
from llmkit.rows.fields import DocumentFields, PromptFields, SourceFields, row_id
from llmkit.rows.reading import Row
from llmkit.rows.samples import SampleFields
from llmkit.rows.saved import prediction, references

USER, ANSWER = {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A fruit is"}
CALL = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"city": "Rome"}}}


def row(**fields: Any) -> Row:
    return Row(0, 7, fields)


def reason(fields: PromptFields, one: Row) -> RowError:
    with pytest.raises(RowError) as caught:
        fields.prompt(one, "r.jsonl")
    assert caught.value.message.startswith("r.jsonl, line 7: ")
    return caught.value


# Templates


@pytest.mark.parametrize(
    ("template", "fields", "prompt"),
    [
        ("What is {a} + {b}?", {"a": 3, "b": -4.50}, "What is 3 + -4.5?"),
        ("{a}{b}", {"a": True, "b": False}, "truefalse"),
        ("Dear {Customer Name}", {"Customer Name": "Ann"}, "Dear Ann"),
        ("{a.b} {a[0]} {0}", {"a.b": "x", "a[0]": "y", "0": "z"}, "x y z"),
        ("{time: of day}", {"time: of day": "noon"}, "noon"),
        ('{{"a": 1}} {{{a}}}', {"a": "x"}, '{"a": 1} {x}'),
        ("{a}", {"a": "{b} {{ }}"}, "{b} {{ }}"),
        ("Übung\n{größe}\n", {"größe": ""}, "Übung\n\n"),
    ],
)
def test_a_template_is_filled_with_the_fields_that_have_its_names(template: str, fields: dict[str, Any], prompt: str) -> None:
    assert PromptFields(template).prompt(row(**fields), "r.jsonl").text == prompt


def test_a_number_in_a_template_keeps_its_digits(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"price": 1.10, "big": 1e999}\n')
    (one,) = open_rows(str(tmp_path / "a.jsonl"))
    assert PromptFields("{price} {big}").prompt(one, "a.jsonl").text == "1.10 1e999"


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), ([1], "a list"), ({"b": 1}, "an object")])
def test_a_template_takes_no_null_list_or_object(value: Any, kind: str) -> None:
    assert f"field 'a' is {kind}" in reason(PromptFields("{a}"), row(a=value)).message


@pytest.mark.parametrize("name", ["who.__class__", "who[0]", "who:>5"])
def test_a_template_looks_nothing_up_inside_a_value(name: str) -> None:
    assert f"no field '{name}' (fields: who)" in reason(PromptFields("{" + name + "}"), row(who="x")).message


@pytest.mark.parametrize(
    "template", ['Return JSON like {"a": 1} for {a}', '{"a": {"b": {c}}}', "{a", "a}", "{}", "{ }", "{a!r}", "no field", "{{a}}"]
)
def test_braces_that_name_no_field_are_explained(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        PromptFields(template)
    assert caught.value.message.startswith("`template`")
    assert caught.value.hint is not None
    assert "{{ and }}" in caught.value.hint


@pytest.mark.parametrize("name", ["text", "prompt"])
def test_a_line_of_text_is_both_text_and_prompt(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("A dog ran home.\n")
    (one,) = open_rows(str(tmp_path / "t.txt"), text_field="prompt")
    assert one.fields == {"prompt": "A dog ran home."}
    assert PromptFields("Summarize: {" + name + "}").prompt(one, "t.txt").text == "Summarize: A dog ran home."
    assert PromptFields(field=name).prompt(one, "t.txt").text == "A dog ran home."


# Conversations


@pytest.mark.parametrize("value", [[USER], json.dumps([USER])])
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_messages_are_a_list_or_its_json_text(value: Any, name: str) -> None:
    assert PromptFields().prompt(row(**{name: value}), "r.jsonl").messages == (USER,)


def test_messages_in_a_cell_of_a_table_are_a_conversation(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('id,prompt,messages\n1,,"[{""role"":""user"",""content"":""hi""}]"\n2,Once,\n')
    first, second = open_rows(str(tmp_path / "m.csv"))
    assert PromptFields().prompt(first, "m.csv").messages == ({"role": "user", "content": "hi"},)
    assert PromptFields().prompt(second, "m.csv").text == "Once"


@pytest.mark.parametrize(("value", "message"), [("hi", "not a JSON list"), ("{}", "is an object"), (3, "is a number"), ([], "no message")])
def test_messages_that_are_none_are_an_error_of_the_row(value: Any, message: str) -> None:
    assert message in reason(PromptFields(), row(messages=value)).message


def test_a_message_keeps_every_key() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?", "name": "ann"},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    prompt = PromptFields().prompt(row(messages=messages, tools=tools), "r.jsonl")
    assert prompt.messages == (messages[0], {**messages[1], "content": ""}, messages[2])
    assert prompt.tools == tuple(tools)
    assert PromptFields().prompt(row(messages=[USER], tools=json.dumps(tools)), "r.jsonl").tools == tuple(tools)


def test_arguments_of_a_tool_call_are_an_object_for_the_template() -> None:
    text = {**CALL, "function": {"name": "f", "arguments": '{"city": "Rome"}'}}
    messages = [USER, {"role": "assistant", "tool_calls": [text]}, {"role": "tool", "content": "x"}]
    prompt = PromptFields().prompt(row(messages=messages), "r.jsonl")
    assert prompt.messages is not None
    assert prompt.messages[1]["tool_calls"] == [CALL]


@pytest.mark.parametrize("tools", ["not json", {"a": 1}, [1], 5])
def test_tools_that_are_no_list_of_objects_are_an_error(tools: Any) -> None:
    assert "field 'tools' is" in reason(PromptFields(), row(messages=[USER], tools=tools)).message


def test_the_text_parts_of_a_content_are_its_text() -> None:
    parts = [{"type": "text", "text": "Hi"}, {"type": "input_text", "text": " there"}, "!"]
    assert PromptFields().prompt(row(messages=[{"role": "user", "content": parts}]), "r.jsonl").messages == (
        {"role": "user", "content": "Hi there!"},
    )


@pytest.mark.parametrize("kind", ["image_url", "input_audio"])
def test_a_content_part_that_is_no_text_is_an_error_that_names_it(kind: str) -> None:
    error = reason(PromptFields(), row(messages=[{"role": "user", "content": [{"type": kind, kind: {"url": "x"}}]}]))
    assert f"message 1 of field 'messages' has a content part 1 of type '{kind}'" in error.message


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({}, "has no text 'role'"),
        ({"role": "user"}, "has no text 'content'"),
        ({"content": "a"}, "has no text 'role'"),
        ({"role": 1, "content": "a"}, "has no text 'role'"),
        ({"role": "user", "content": None}, "has no text 'content'"),
        ("hi", "is text; an object with 'role' and 'content' is needed"),
        (None, "is null; an object with 'role' and 'content' is needed"),
    ],
)
def test_a_message_without_role_or_content_is_an_error(message: Any, problem: str) -> None:
    assert f"message 2 of field 'messages' {problem}" in reason(PromptFields(), row(messages=[USER, message])).message


def test_sharegpt_roles_become_the_templates_roles() -> None:
    talk = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "h"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "o"},
        {"from": "gpt", "value": "g"},
        {"from": "human", "value": "again"},
    ]
    messages = PromptFields().prompt(row(conversations=talk), "r.jsonl").messages
    assert messages is not None
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert messages[2] == {
        "role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL["function"]}],
    }  # fmt: skip


def test_a_history_is_what_was_said_before_an_instruction() -> None:
    one = row(instruction="And of Spain?", input="In one word.", history=[["Of France?", "Paris"]], system="Be brief.")
    prompt = PromptFields().prompt(one, "r.jsonl")
    assert prompt.messages == (
        {"role": "user", "content": "Of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Spain?\n\nIn one word."},
    )
    assert prompt.system == "Be brief."
    assert PromptFields().prompt(row(instruction="Hi", history=[]), "r.jsonl").text == "Hi"
    assert "entry 1 of field 'history' is not a pair of texts" in reason(PromptFields(), row(instruction="Hi", history=["a"])).message


def test_an_unknown_sharegpt_role_is_named() -> None:
    assert (
        "message 1 of field 'conversations' has the unknown role 'narrator'"
        in reason(PromptFields(), row(conversations=[{"from": "narrator", "value": "x"}])).message
    )


def test_a_conversation_that_ends_with_the_assistant_is_refused_or_continued() -> None:
    one = row(messages=[USER, ANSWER])
    error = reason(PromptFields(), one)
    assert "the last message of field 'messages' has role 'assistant'" in error.message
    assert error.hint is not None
    assert "`continue`" in error.hint
    prompt = PromptFields(continue_last=True).prompt(one, "r.jsonl")
    assert prompt.continue_last
    assert prompt.messages == (USER, ANSWER)
    assert not PromptFields(continue_last=True).prompt(row(messages=[USER]), "r.jsonl").continue_last
    with pytest.raises(RowError, match="has role 'assistant'"):
        SourceFields().prompt(one, "r.jsonl")


TEMPLATE = (
    "{% for t in tools or [] %}<tool>{{ t.function.name }}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.name or '' }}{{ m.reasoning_content or '' }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def rendered(tmp_path: Path, fields: PromptFields, one: Row) -> str:
    from transformers import AutoTokenizer

    from llmkit.models.builtin import folder

    (tmp_path / "t.jinja").write_text(TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(folder("stories"))
    return render(fields.prompt(one, "r.jsonl"), tokenizer, ChatSettings(str(tmp_path / "t.jinja")))[0]


def test_tools_calls_names_and_reasoning_reach_the_template(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?", "name": "ann"},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    assert rendered(tmp_path, PromptFields(), row(messages=messages, tools=tools)) == (
        "<tool>weather<user>annWeather?<end><assistant>hmRome<end><tool>Sunny<end><assistant>"
    )


@pytest.mark.parametrize(
    "one",
    [
        {"messages": [USER]},
        {"prompt": "Name a fruit."},
        {"instruction": "Name a fruit."},
        {"conversations": json.dumps([{"from": "human", "value": "Name a fruit."}])},
    ],
)
def test_a_rows_system_column_and_tools_reach_the_template(tmp_path: Path, one: dict[str, Any]) -> None:
    fields = {**one, "system": "Be brief.", "tools": [{"function": {"name": "weather"}}]}
    assert rendered(tmp_path, PromptFields(), row(**fields)) == "<tool>weather<system>Be brief.<end><user>Name a fruit.<end><assistant>"


def test_a_system_column_is_asked_as_it_is_trained_and_counts_more_than_the_runs_own() -> None:

    one = {"prompt": "Name a fruit.", "system": "Be brief."}
    trained = SampleFields().sample(row(**one, completion="Fig."), "r.jsonl").messages
    asked = whole_conversation(PromptFields().prompt(row(**one), "r.jsonl"), ChatSettings(system="Be kind."))
    assert trained is not None
    assert list(trained[:-1]) == asked


@pytest.mark.parametrize(
    ("system", "message"), [(5, "'system' is a number; text expected"), ("Be kind.", "are two different system messages")]
)
def test_a_system_column_that_contradicts_the_conversation_is_an_error(system: object, message: str) -> None:
    talk = [{"role": "system", "content": "Be brief."}, USER]
    with pytest.raises(RowError, match=message):
        PromptFields().prompt(row(messages=talk, system=system), "r.jsonl")


@pytest.mark.parametrize("tools", ["hammer, saw", ["hammer", "saw"], "[1, 2]", 3])
def test_columns_beside_a_text_that_hold_something_else_are_not_meant(tools: object) -> None:
    prompt = PromptFields().prompt(row(prompt="Name a planet.", system=3, tools=tools), "r.jsonl")
    assert (prompt.system, prompt.tools) == (None, None)


def test_a_continued_message_is_open_at_its_end(tmp_path: Path) -> None:
    text = rendered(tmp_path, PromptFields(continue_last=True), row(messages=[USER, ANSWER]))
    assert text == "<user>Name a fruit.<end><assistant>A fruit is"


# Batch requests


def test_a_batch_request_is_its_bodys_conversation() -> None:
    body = {"model": "gpt", "messages": [USER], "tools": [{"type": "function"}], "max_tokens": 5, "temperature": 0.5}
    prompt = PromptFields().prompt(row(custom_id="1", method="POST", url="/v1/chat/completions", body=body), "r.jsonl")
    assert prompt.messages == (USER,)
    assert prompt.tools == ({"type": "function"},)
    assert prompt.unused == ("max_tokens", "temperature")


def test_a_batch_request_for_a_completion_is_its_text() -> None:
    """As it is: a chat template would make a question of it."""
    prompt = PromptFields().prompt(row(custom_id="1", body={"prompt": "Once"}), "r.jsonl")
    assert prompt.text == "Once"
    tokenizer = SimpleNamespace(chat_template="<user>{{ messages[0].content }}<end>", special_tokens_map={})
    assert render(prompt, tokenizer, ChatSettings()) == ("Once", True)


def test_a_batch_request_without_a_prompt_says_what_it_holds() -> None:
    assert (
        "no 'messages' or text 'prompt' in its body (fields: model, input)"
        in reason(PromptFields(), row(custom_id="1", body={"model": "m", "input": "x"})).message
    )


# Names of fields


def test_text_is_the_last_name_that_a_prediction_has() -> None:
    one = row(text="the source sentence", hypothesis="la phrase", reference="la phrase")
    assert prediction(one, "r.jsonl") == "la phrase"
    assert prediction(row(text="x", reference="y"), "r.jsonl") == "x"


def test_the_reference_is_not_taken_for_the_prediction() -> None:
    assert prediction(row(instruction="i", output="gold", text="answer"), "r.jsonl", reference="output") == "answer"


def test_squads_answers_are_references() -> None:
    one = row(id="5", prediction_text="1976", answers={"answer_start": [97], "text": ["1976", "in 1976"]})
    assert references(one, "r.jsonl") == ("1976", "in 1976")
    listed = row(prediction="1976", answers=[{"answer_start": 97, "text": "1976"}, {"answer_start": 94, "text": "in 1976"}])
    assert references(listed, "r.jsonl") == ("1976", "in 1976")
    assert references(row(prediction="", answers={"answer_start": [], "text": []}), "r.jsonl") == ("",)
    assert prediction(one, "r.jsonl") == "1976"


def test_null_is_no_id() -> None:
    assert [row_id(fields, 3) for fields in ({"id": None}, {}, {"id": 0}, {"id": "x"})] == ["3", "3", "0", "x"]


def test_an_error_of_a_row_without_lines_names_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"prompt": "a"}, {"prompt": null}]')
    _, second = open_rows(str(tmp_path / "a.json"))
    with pytest.raises(RowError, match=re.escape("a.json, row 2: field 'prompt' is null; text expected")):
        PromptFields().prompt(second, str(tmp_path / "a.json"))


def test_assistant_turns_without_text_are_not_scored() -> None:
    talk = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "x"}, ANSWER]
    ((before, text),) = DocumentFields(completion_only=True).spans(row(messages=talk), "r.jsonl")
    assert text == "A fruit is"
    assert before is not None
    assert before.messages is not None
    assert len(before.messages) == 3


def test_an_assistants_last_message_is_continued_only_when_that_is_asked_for(run: Run, llama: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "By the"}]
    rows = write_rows(tmp_path / "in.jsonl", [{"messages": messages}])
    arguments = ["generate", "-m", llama, "-i", rows, "--max-new-tokens", "2"]
    refused = run(*arguments)
    assert refused.code == 3
    assert "the last message of field 'messages' has role 'assistant'" in refused.out
    assert run(*arguments, "--continue").code == 0


def test_settings_of_batch_requests_that_have_no_effect_are_named_once(run: Run, tmp_path: Path) -> None:
    body = {"prompt": "Once", "max_tokens": 9, "temperature": 0.5}
    rows = write_rows(
        tmp_path / "in.jsonl", [{"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": body} for i in range(3)]
    )
    ran = run("generate", "-i", rows, "--max-new-tokens", "2")
    assert ran.code == 0
    assert ran.err.count("max_tokens, temperature") == 1


def test_training_and_prompts_read_the_same_messages() -> None:
    older = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"city": "Rome"}'}}
    talk = [
        USER,
        older,
        {"role": "function", "content": "14:05"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
    ]
    trained = SampleFields().sample(row(messages=json.dumps(talk)), "r.csv")  # a cell of a table
    prompt = PromptFields(continue_last=True).prompt(row(messages=talk), "r.jsonl")
    assert trained.messages == prompt.messages
    assert trained.messages is not None
    assert trained.messages[1]["tool_calls"][0]["function"] == CALL["function"]
    assert [message["role"] for message in trained.messages] == ["user", "assistant", "tool", "assistant"]
