"""A configuration that fits no model is an error that says which value to look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Copy, Run, byte_tokenizer, seeded

import llmkit

PROMPT = ("the king", "--max-new-tokens", "2", "--chat-template", "none", "-q")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"intermediate_size": 96}, "'intermediate_size' is 96"),
        ({"vocab_size": 300}, "'vocab_size' is 300"),
        ({"intermediate_size": 0}, "'intermediate_size' is 0"),
        ({"num_key_value_heads": 0}, "'num_key_value_heads' is 0"),
        ({"hidden_act": "silent"}, "'hidden_act' is 'silent'"),
        ({"pad_token_id": 2**40}, f"'pad_token_id' is {2**40}"),
        ({"attention_bias": True}, "'attention_bias' is True"),
        ({"sliding_window": "x"}, "'sliding_window' is 'x'"),
        ({"sliding_window": 0.5}, "'sliding_window' is 0.5"),
        ({"intermediate_size": 2**40}, "'intermediate_size' is 1099511627776"),
        ({"intermediate_size": -1}, "'intermediate_size' is -1"),
    ],
    ids=str,
)
def test_the_value_that_no_model_can_have_is_named(run: Run, llama: Path, copy_of: Copy, values: dict[str, object], said: str) -> None:
    model = copy_of(llama)
    change(model / "config.json", **values)
    ran = run("generate", "-m", model, *PROMPT, "--engine", "torch")
    assert ran.code == 5
    assert str(model) in ran.err
    assert "config.json" in ran.err
    assert said in ran.err


@pytest.mark.parametrize("padding", ["x", [1], {"a": 1}], ids=str)
def test_a_padding_token_that_is_none_is_said_of_the_file_that_names_it(run: Run, llama: Path, copy_of: Copy, padding: object) -> None:
    model = copy_of(llama)
    (model / "generation_config.json").write_text(json.dumps({"pad_token_id": padding}))
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert f"{model / 'generation_config.json'}: 'pad_token_id' is {padding}" in ran.err


def test_a_configuration_of_many_thousand_names_is_refused_and_one_of_many_labels_is_read(run: Run, llama: Path, copy_of: Copy) -> None:
    model = copy_of(llama)
    change(model / "config.json", id2label={str(number): "x" for number in range(20_000)})
    assert run("generate", "-m", model, *PROMPT).code == 0
    change(model / "config.json", **{f"name_{number}": number for number in range(20_000)})
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert f"{model / 'config.json'}: has 20,0" in ran.err
    assert "at most 10,000" in ran.err


def test_half_a_character_in_a_template_that_is_not_used_is_passed_over(run: Run, t5: Path, copy_of: Copy) -> None:
    model = copy_of(t5)
    change(model / "tokenizer_config.json", chat_template="\ud800")
    ran = run("generate", "-m", model, "the king", "--max-new-tokens", "2", "-q")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("tasks", [5, "x", [1], {"translation_en_to_fr": 5}], ids=str)
def test_settings_for_tasks_that_are_none_are_passed_over(run: Run, copy_of: Copy, tasks: object) -> None:
    model = copy_of(Path(llmkit.__file__).parent / "models" / "builtin" / "en_fr")
    change(model / "config.json", task_specific_params=tasks)
    ran = run("translate", "Good morning.", "--to", "fr", "-m", model, "-q", "--engine", "torch", "--num-beams", "1")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("command", [("generate", *PROMPT), ("evaluate", "perplexity", "-q", "-i")], ids=lambda command: command[0])
def test_an_encoder_is_refused(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    from transformers import BertConfig, BertForMaskedLM

    tokenizer, model, text = byte_tokenizer(["[PAD]", "[MASK]"], pad_token="[PAD]"), tmp_path / "bert", tmp_path / "text.txt"
    shape = BertConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    seeded(lambda: BertForMaskedLM(shape), model)
    tokenizer.save_pretrained(model)
    text.write_text("the king\n")
    ran = run(*command, *([text] if command[-1] == "-i" else []), "-m", model)
    assert ran.code == 5
    assert "'bert' is an encoder" in ran.err


REPLACE = {"type": "Replace", "pattern": {"String": "k"}, "content": "kk"}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("normalizer", {"type": "Sequence", "normalizers": [REPLACE] * 30}, "1.07e+09 times as long"),
        ("normalizer", REPLACE | {"pattern": {"Regex": "x*"}, "content": "a" * 100}, "101 times as long"),
        ("decoder", {"type": "Sequence", "decoders": [REPLACE] * 5}, "32 times as long"),
        ("post_processor", {"type": "TemplateProcessing", "single": [TEXT] * 3, "pair": [TEXT], "special_tokens": {}}, "3 copies"),
    ],
)
def test_a_tokenizer_that_makes_a_text_endless_is_refused(
    run: Run, llama: Path, copy_of: Copy, part: str, content: dict[str, object], said: str
) -> None:
    model = copy_of(llama)
    change(model / "tokenizer.json", **{part: content})
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert str(model / "tokenizer.json") in ran.err
    assert said in ran.err


def test_a_tokenizer_that_writes_a_space_as_a_character_of_three_bytes_is_like_others(run: Run, llama: Path, copy_of: Copy) -> None:
    model = copy_of(llama)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    change(model / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, spaces]})
    assert run("generate", "-m", model, *PROMPT).code == 0
