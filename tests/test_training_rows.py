"""What is trained is what will be asked: nothing in a row is dropped in silence, and translators get what `translate` sends."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, write_rows
from transformers import AutoTokenizer

from llmkit.engines.base import ModelFacts
from llmkit.engines.chat import ChatSettings
from llmkit.errors import InputError, RowError, UsageError
from llmkit.rows import Row
from llmkit.rows.samples import SampleFields, check_rows
from llmkit.training.examples import Encoder, marked
from llmkit.training.languages import Directions
from llmkit.training.settings import LanguageSettings
from llmkit.translation.families import family

#: A template that writes tools, reasoning and tool calls.
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | map(attribute='function') | map(attribute='name') | join(',') }}</tools>{{ '\\n' }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments.city }}</call>{% endfor %}"
    "{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
CALL = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "get_time", "description": "time in a city"}}


def encoder(template: str | None = TEMPLATE, **more: Any) -> Encoder:
    tokenizer: Any = byte_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return Encoder(tokenizer, ChatSettings(), None, **more)


def shown(row: dict[str, Any], of: Encoder | None = None) -> str:
    """The row's one example as text, trained tokens between « and »."""
    of = of or encoder()
    ((example, _),) = of.encode(SampleFields().sample(Row(0, 1, row), "rows"))
    return marked(example, of.tokenizer.decode)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"messages": [user("2+2?"), assistant("Five.", weight=0), user("Sure?"), assistant("Four.", weight=1)]},
            "[user]2+2?\n[assistant]Five.\n[user]Sure?\n[assistant]«Four.\n</s>»",
        ),
        ({"messages": [user("a"), assistant("b"), user("c"), assistant("d", weight=0)]}, "[user]a\n[assistant]«b\n</s>»"),
        ({"tools": [TOOL], "messages": [user("a"), assistant("b")]}, "<tools>get_time</tools>\n[user]a\n[assistant]«b\n</s>»"),
        (
            {"system": "Be a pirate.", "conversations": [{"from": "human", "value": "Hello?"}, {"from": "chatgpt", "value": "Ahoy!"}]},
            "[system]Be a pirate.\n[user]Hello?\n[assistant]«Ahoy!\n</s>»",
        ),
        (
            {"messages": [user("2+2?"), assistant("Four.", reasoning_content="two and two")]},
            "[user]2+2?\n[assistant]«<think>two and two</think>Four.\n</s>»",
        ),
        (
            {"instruction": "And of Spain?", "input": "", "output": "Madrid", "system": "Be brief.", "history": [["Of France?", "Paris"]]},
            "[system]Be brief.\n[user]Of France?\n[assistant]«Paris\n»[user]And of Spain?\n[assistant]«Madrid\n</s>»",
        ),
        (
            {"messages": [user("a"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "14:05"}, assistant("It is 14:05.")]},
            "[user]a\n[assistant]«<call>get_time Oslo</call>\n»[tool]14:05\n[assistant]«It is 14:05.\n</s>»",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "function_call", "value": '{"name": "get_time", "arguments": {"city": "Oslo"}}'},
                    {"from": "observation", "value": "14:05"},
                    {"from": "gpt", "value": "It is 14:05."},
                ]
            },
            "[user]a\n[assistant]«<call>get_time Oslo</call>\n»[tool]14:05\n[assistant]«It is 14:05.\n</s>»",
        ),
        (
            {"messages": [user([{"type": "text", "text": "2+2?"}]), assistant([{"type": "text", "text": "Four."}])]},
            "[user]2+2?\n[assistant]«Four.\n</s>»",
        ),
        (
            {"messages": [user("Hi"), assistant(""), user("Hello?"), assistant("Yes?")]},
            "[user]Hi\n[assistant]\n[user]Hello?\n[assistant]«Yes?\n</s>»",
        ),
        ({"prompt": "2+2?", "response": "Four"}, "[user]2+2?\n[assistant]«Four\n</s>»"),
        ({"prompt": "2+2?", "completion": "Four", "system": "Count."}, "[system]Count.\n[user]2+2?\n[assistant]«Four\n</s>»"),
    ],
)
def test_every_part_of_a_row_that_changes_the_training_is_used(row: dict[str, Any], text: str) -> None:
    assert shown(row) == text


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([user("a"), assistant([{"type": "image_url", "image_url": {}}])], "message 2 .* part 1 of type 'image_url'"),
        ([user("a"), assistant(None, tool_calls=[{"function": {}}])], "message 2 .* without the name of a function"),
        ([user("a"), assistant("b", weight=0.5)], "message 2 .* weight 0.5"),
        ([{"from": "martian", "value": "a"}], "message 1 .* has the unknown role 'martian'"),
        ([{"from": "human"}], "message 1 .* has no text 'value'"),
        ([user("a"), assistant("")], "no assistant message to train on"),
        ([user("a"), assistant(None)], "message 2 .* has no text 'content'"),
    ],
)
def test_what_is_not_known_in_a_message_is_named(messages: list[Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        SampleFields().sample(Row(0, 7, {"messages": messages}), "rows")


def test_a_template_that_writes_no_tool_calls_is_refused() -> None:
    plain = encoder("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}")
    with pytest.raises(InputError, match="writes no tool calls"):
        shown({"messages": [user("a"), assistant(None, tool_calls=[CALL])]}, plain)


def test_rows_that_a_template_refuses_are_skipped_up_to_a_number() -> None:
    strict = encoder(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.role }}]{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    talks = [{"messages": [user("a"), assistant("b")], "system": "s" if i % 2 else ""} for i in range(4)]
    checked = check_rows([Row(i, i + 1, talk) for i, talk in enumerate(talks)], SampleFields(), "rows")
    found = strict.examples(checked.samples, "rows", max_errors=2)
    assert (len(found), [exc.message.split(": ")[0] for exc in found.bad]) == (2, ["rows, line 2", "rows, line 4"])
    with pytest.raises(InputError, match=r"line 2: .*no system.* line 4: "):
        strict.examples(checked.samples, "rows", max_errors=1)
    with pytest.raises(RowError, match="line 2: "):
        strict.examples(checked.samples, "rows")


def test_the_hint_for_unknown_fields_names_every_option() -> None:
    with pytest.raises(RowError) as caught:
        SampleFields().sample(Row(0, 1, {"q": "a", "a": "b"}), "rows")
    assert "`prompt_field` and `completion_field`, or `text_field`" in (caught.value.hint or "")


def test_columns_that_are_not_used_are_counted_and_those_that_tell_what_to_train_are_named() -> None:
    rows = [Row(i, i + 1, {"text": "a", "id": i + 1, "chosen": "b", "note": None}) for i in range(3)]
    checked = check_rows(rows, SampleFields(), "rows")
    assert checked.unused == {"id": 3, "chosen": 3}
    assert checked.telling == ["chosen"]


def translator(model_type: str, tokens: tuple[str, ...] = (), prefixes: tuple[str, ...] = (), chat: bool = False, **of: Any) -> Encoder:
    """An encoder for a model of a family, whose tokenizer has the tokens of its languages."""
    decoder = model_type == "llama"
    facts = ModelFacts("model", model_type, not decoder, chat, (), prefixes, tokens)
    tokenizer: Any = byte_tokenizer(["<s>", "</s>", *tokens], bos_token="<s>", eos_token="</s>", add_eos=None if decoder else "</s>")
    tokenizer.chat_template = TEMPLATE if chat else None
    begin = () if decoder else (tokenizer.eos_token_id,)
    return Encoder(tokenizer, ChatSettings(), None, begin, directions=Directions(family(facts), LanguageSettings(**of)))


NLLB = ("eng_Latn", "fra_Latn", "deu_Latn")
PAIR = {"source": "Hi.", "target": "Salut."}


def both(row: dict[str, Any], of: Encoder) -> tuple[str, str]:
    """What the encoder reads, and the decoder's tokens, trained ones between « and »."""
    ((example, _),) = of.encode(SampleFields().sample(Row(0, 1, row), "rows"))
    return of.tokenizer.decode(list(example.encoder_tokens or ())), marked(example, of.tokenizer.decode)


@pytest.mark.parametrize(
    ("row", "languages", "expected"),
    [
        (PAIR, {"source": "en", "target": "fr"}, ("eng_LatnHi.</s>", "</s>«fra_LatnSalut.</s>»")),
        ({"translation": {"en": "Hi.", "de": "Hallo."}}, {}, ("eng_LatnHi.</s>", "</s>«deu_LatnHallo.</s>»")),
        ({**PAIR, "source_lang": "de", "target_lang": "fr"}, {}, ("deu_LatnHi.</s>", "</s>«fra_LatnSalut.</s>»")),
    ],
)
def test_nllb_is_trained_with_the_tokens_of_both_languages(
    row: dict[str, Any], languages: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert both(row, translator("m2m_100", NLLB, **languages)) == expected


def test_a_decoder_may_start_with_the_token_of_id_0() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    codes = ("ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR",
             "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN")  # fmt: skip
    known = models.WordLevel({word: i for i, word in enumerate((*codes, "</s>", "Hi", "[UNK]"))}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(known), eos_token="</s>", unk_token="[UNK]")
    languages = Directions(family(ModelFacts("model", "mbart", True, False, (), (), codes)), LanguageSettings("en", "ar"))
    of = Encoder(tokenizer, ChatSettings(), None, (tokenizer.eos_token_id,), directions=languages)
    ((example, _),) = of.encode(SampleFields().sample(Row(0, 1, {"source": "Hi", "target": "Hi"}), "rows"))
    assert list(example.tokens) == [0, tokenizer.convert_tokens_to_ids("Hi"), tokenizer.eos_token_id]


def test_a_model_that_needs_a_language_asks_for_it() -> None:
    with pytest.raises(InputError, match="no target language given"):
        both(PAIR, translator("m2m_100", NLLB))
    with pytest.raises(UsageError, match="does not know Spanish"):
        both(PAIR, translator("m2m_100", NLLB, source="en", target="es"))


def test_t5_is_trained_with_the_prefix_that_translate_sends() -> None:
    of = translator("t5", prefixes=("translate English to French: ",))
    assert both(PAIR, of) == ("translate English to French: Hi.</s>", "</s>«Salut.</s>»")


def test_a_causal_model_is_trained_with_the_prompt_that_translate_sends() -> None:
    asked = "Translate the following text from English to French. Answer with the translation alone.\n\nHi."
    assert shown(PAIR, translator("llama", chat=True, source="en", target="fr")) == f"[user]{asked}\n[assistant]«Salut.\n</s>»"
    assert shown(PAIR, translator("llama", source="en", target="fr")) == "<s>English: Hi.\nFrench:« Salut.</s>»"


def test_rows_that_name_no_language_are_trained_as_they_are_and_it_is_known() -> None:
    of = translator("llama")
    assert shown(PAIR, of) == "<s>Hi.«Salut.</s>»"
    assert of.directions is not None
    assert of.directions.silent


def test_the_chat_template_of_the_training_goes_with_the_adapter_into_the_merged_model(run: Run, tmp_path: Path, gpt2: Path) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    rows = write_rows(tmp_path / "rows.jsonl", [{"messages": [user("a"), assistant("b")]}] * 3)
    asked = write_rows(tmp_path / "asked.jsonl", [{"messages": [user("a")]}])
    trained = run("finetune", rows, "-m", gpt2, "-o", tmp_path / "ad", "--chat-template", tmp_path / "chat.jinja", "--max-steps", "1")
    assert trained.code == 0, trained.err
    assert (tmp_path / "ad" / "chat_template.jinja").read_text() == TEMPLATE
    assert AutoTokenizer.from_pretrained(tmp_path / "ad").chat_template == TEMPLATE  # transformers finds it, too
    assert run("merge", tmp_path / "ad", "-o", tmp_path / "merged", "--prompt", "a").code == 0
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == TEMPLATE
    for model in (["-m", gpt2, "--adapter", tmp_path / "ad"], ["-m", tmp_path / "merged"]):
        done = run("generate", "-i", asked, *model, "--max-new-tokens", "2")
        assert done.code == 0, done.err
    for folder in ("ad", "merged"):
        done = run(*card_command(tmp_path / folder), "--max-new-tokens", "2", "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["prompt_tokens"] == len("[user]...\n[assistant]")


def card_command(folder: Path) -> list[str]:
    """The command that a model card prints, without `llmkit`."""
    (command,) = re.findall(r"^llmkit (.*)$", (folder / "README.md").read_text(), re.MULTILINE)
    return shlex.split(command)
