"""Forms of training rows from other programs: each changes what is trained, is refused by name, or is named in a warning."""

from __future__ import annotations

from typing import Any

import pytest
from test_training_rows import CALL, NLLB, PAIR, TOOL, assistant, both, encoder, shown, translator, user

from llmkit.errors import RowError, UsageError
from llmkit.rows import Row
from llmkit.rows.samples import SampleFields, check_rows

#: A template that knows roles and contents alone.
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
SECOND = "[user]a\n[assistant]b\n[user]c\n[assistant]«d\n</s>»"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        *(({"messages": [user("a"), assistant("b", **off), user("c"), assistant("d")]}, SECOND)
          for off in ({"weight": 0}, {"train": False}, {"training": False}, {"loss": 0}, {"loss": False}, {"loss_scale": 0.0})),
        ({"messages": [user("a"), assistant("b", weight=None, train=True, loss=1)]}, "[user]a\n[assistant]«b\n</s>»"),
        ({"system": "s", "messages": [{"role": "system", "content": "s"}, user("a"), assistant("b")]},
         "[system]s\n[user]a\n[assistant]«b\n</s>»"),
        ({"conversations": [{"from": "Human", "value": "a"}, {"from": "GPT", "value": "b"}]}, "[user]a\n[assistant]«b\n</s>»"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "tool_call", "value": '{"name": "get_time", "arguments": {"city": "Oslo"}}'},
                    {"from": "tool_response", "value": "14:05"},
                    {"from": "gpt", "value": "b"},
                ]
            },
            "[user]a\n[assistant]«<call>get_time Oslo</call>\n»[tool]14:05\n[assistant]«b\n</s>»",
        ),
        ({"messages": [user("a"), assistant(None, reasoning="why")]}, "[user]a\n[assistant]«<think>why</think>\n</s>»"),
        ({"messages": [user("a"), assistant(None, tool_calls=[CALL | {"function": {"name": "get_time", "arguments": ""}}])]},
         "[user]a\n[assistant]«<call>get_time </call>\n</s>»"),
        *(({"messages": [user("a"), assistant(None, tool_calls=[{"function": {"name": "get_time", "parameters": parameters}}])]},
           "[user]a\n[assistant]«<call>get_time Oslo</call>\n</s>»") for parameters in ({"city": "Oslo"}, '{"city": "Oslo"}')),
        ({"prompt": "a", "completion": [assistant("b")]}, "[user]a\n[assistant]«b\n</s>»"),
        ({"prompt": [user("a"), assistant("x"), user("y")], "completion": "b"}, "[user]a\n[assistant]x\n[user]y\n[assistant]«b\n</s>»"),
        ({"tools": [TOOL], "prompt": [user("a")], "completion": [assistant(None, tool_calls=[CALL])]},
         "<tools>get_time</tools>\n[user]a\n[assistant]«<call>get_time Oslo</call>\n</s>»"),
        ({"messages": [user("a\ud83d"), assistant("b\ud83d")]}, "[user]a\ufffd\n[assistant]«b\ufffd\n</s>»"),
        ({"text": "a\ud83d"}, "<s>«a\ufffd</s>»"),
        ({"text": "<s>a</s>"}, "<s>«a</s>»"),
    ],
)  # fmt: skip
def test_what_other_programs_write_is_trained_as_they_mean_it(row: dict[str, Any], text: str) -> None:
    assert shown(row) == text


def test_a_rows_own_values_reach_its_chat_template() -> None:
    of = encoder("{{ mood }}" + PLAIN)
    row = {"messages": [user("a"), assistant("b")], "chat_template_kwargs": {"mood": "calm"}}
    assert shown(row, of) == "calm[user]a[assistant]«b</s>»"
    assert check_rows([Row(0, 1, row)], SampleFields(), "rows").telling == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [user("a"), assistant("b", loss_scale=0.5)]}, "message 2 .* has loss_scale 0.5"),
        ({"messages": [user("a"), assistant("b", weight="0")]}, "message 2 .* has weight '0'"),
        ({"messages": [user("a"), assistant("b", train_detail=[{"begin_offset": 0}])]}, "message 2 .* 'train_detail'"),
        ({"system": 3, "messages": [user("a"), assistant("b")]}, "field 'system' is a number"),
        ({"system": "x", "messages": [{"role": "system", "content": "y"}, user("a"), assistant("b")]}, "two different system messages"),
        ({"messages": [{"role": "human", "content": "a"}, {"role": "bot", "content": "b"}]}, r"no assistant .* roles are human, bot"),
        ({"messages": [user("a"), assistant("b")], "chat_template_kwargs": [1]}, "'chat_template_kwargs' is not an object"),
        ({**PAIR, "target_lang": 3}, "field 'target_lang' is a number"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_by_name(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        SampleFields().sample(Row(0, 7, row), "rows")


def test_what_a_chat_template_does_not_write_is_counted() -> None:
    plain = encoder(PLAIN)
    row = {
        "messages": [{**user("a"), "name": "Bob"}, assistant("b", reasoning_content="why")],
        "tools": [TOOL],
        "chat_template_kwargs": {"mood": 1},
    }
    checked = check_rows([Row(i, i + 1, row | {"id": i}) for i in range(2)], SampleFields(), "rows")
    assert plain.examples(checked.samples, "rows").unwritten == {"tools": 2, "mood": 2, "reasoning_content": 2, "name": 2}
    assert encoder().examples(checked.samples, "rows").unwritten == {"mood": 2, "name": 2}


def test_messages_whose_role_a_chat_template_does_not_write_are_counted() -> None:
    """As JSON is a way to write them, too."""
    template = (
        "{% for m in messages %}{% if m.role in ('user', 'assistant') %}[{{ m.role }}]{{ m.content }}"
        "{% elif m.role == 'system' %}{{ m.content | tojson }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    row = {"messages": [{"role": "system", "content": 'Say "é".'}, user("a"), {"role": "tool", "content": "14:05"}, assistant("b")]}
    checked = check_rows([Row(0, 1, row)], SampleFields(), "rows")
    assert encoder(template).examples(checked.samples, "rows").unwritten == {"messages with role 'tool'": 1}


@pytest.mark.parametrize(
    ("row", "telling"),
    [
        ({"prompt": "a", "completion": "b", "label": False}, ["label"]),
        ({"question": "a", "context": "c", "answer": "b"}, ["context"]),
        ({**PAIR, "instruction": "i"}, ["instruction"]),
        ({"text": "a", "chat_template_kwargs": {"mood": 1}}, ["chat_template_kwargs"]),
        ({"prompt": "a", "completion": "b", "kto_tag": True}, ["kto_tag"]),
        ({"prompt": "a", "completion": "b", "thinking": "c"}, ["thinking"]),
        ({"prompt": "a", "completion": "b", "label": None, "id": 3}, []),
    ],
)
def test_a_column_that_changes_the_answer_and_is_not_used_is_named(row: dict[str, Any], telling: list[str]) -> None:
    assert check_rows([Row(0, 1, row)], SampleFields(), "rows").telling == telling


def test_a_row_that_names_one_language_takes_the_other_from_the_settings() -> None:
    assert both({**PAIR, "target_lang": "de"}, translator("m2m_100", NLLB, source="en", target="fr")) == (
        "eng_LatnHi.</s>",
        "</s>«deu_LatnSalut.</s>»",
    )
    assert (
        both({**PAIR, "from": "anna@example.org"}, translator("m2m_100", NLLB, source="en", target="fr"))[1] == "</s>«fra_LatnSalut.</s>»"
    )


def test_a_language_that_a_row_names_and_the_model_does_not_know_is_an_error_of_that_row() -> None:
    checked = check_rows([Row(0, 1, PAIR), Row(1, 2, {**PAIR, "target_lang": "es"})], SampleFields(), "rows")
    with pytest.raises(RowError, match=r"line 2.*does not know Spanish"):
        translator("m2m_100", NLLB, source="en", target="fr").examples(checked.samples, "rows")


def test_a_language_of_all_rows_that_the_model_does_not_know_is_told_once() -> None:
    for source, target in (("en", "es"), ("es", "en")):
        asked = translator("m2m_100", NLLB, source=source, target=target).directions
        assert asked is not None
        with pytest.raises(UsageError, match="does not know Spanish"):
            asked.check()
    one_side = translator("m2m_100", NLLB, source="en").directions
    assert one_side is not None
    one_side.check()  # the rows may name the other one


def test_a_conversation_for_a_model_without_a_template_is_an_error_of_its_row() -> None:
    alpaca = {"instruction": "And dog?", "input": "", "output": "chien"}
    checked = check_rows([Row(0, 1, alpaca), Row(1, 2, {**alpaca, "history": [["cat?", "chat"]]})], SampleFields(), "rows")
    with pytest.raises(RowError, match=r"rows, line 2: .*needs a chat template"):
        translator("llama").examples(checked.samples, "rows")


def test_the_first_row_without_a_language_that_the_model_needs_is_named() -> None:
    checked = check_rows([Row(0, 1, {**PAIR, "target_lang": "fr"}), Row(1, 2, PAIR), Row(2, 3, PAIR)], SampleFields(), "rows")
    with pytest.raises(RowError, match="rows, line 2: no target language given") as missing:
        translator("m2m_100", NLLB, source="en").examples(checked.samples, "rows")
    assert str(missing.value.hint).startswith("`from` and `to` name those of all rows; a row names its own in 'source_lang'")
