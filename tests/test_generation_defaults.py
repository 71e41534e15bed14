"""`--generation-config model`: the model's own settings are the defaults, are said, and are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy, Run, write_rows

from llmkit.models.generation_defaults import GenerationDefaults, generation_defaults

QWEN = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}


def wants(model: Path, **values: object) -> Path:
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return model


def answer(run: Run, model: Path, *more: object) -> dict[str, Any]:
    ran = run("generate", "the king", "-m", model, "--chat-template", "none", "--json", "-q", *more)
    assert ran.code == 0, ran.err
    return dict(json.loads(ran.out))


def test_the_models_settings_are_in_force_when_they_are_asked_for(run: Run, llama: Path, copy_of: Copy) -> None:
    model = wants(copy_of(llama), **QWEN, max_new_tokens=9)
    plain = answer(run, llama)
    assert answer(run, model) == plain
    asked = answer(run, model, "--generation-config", "model", "--seed", 5)
    typed = ["--temperature", 0.7, "--top-p", 0.8, "--top-k", 20, "--repetition-penalty", 1.1, "--max-new-tokens", 9, "--seed", 5]
    assert asked == answer(run, llama, *typed) != plain


def test_an_option_that_is_given_counts_more(run: Run, llama: Path, copy_of: Copy) -> None:
    model = wants(copy_of(llama), **QWEN, max_new_tokens=9)
    asked = ["--generation-config", "model"]
    greedy = answer(run, model, *asked, "--temperature", 0)
    assert greedy == answer(run, llama, "--repetition-penalty", 1.1, "--max-new-tokens", 9)
    assert answer(run, model, *asked, "--num-beams", 2, "--repetition-penalty", 1) == answer(
        run, llama, "--num-beams", 2, "--max-new-tokens", 9
    )
    longer = answer(run, model, *asked, "--max-length", 30, "--temperature", 0, "--repetition-penalty", 1)
    assert longer == answer(run, llama, "--max-length", 30)


def test_they_are_said_and_recorded_and_a_change_of_them_is_another_run(run: Run, llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    model = wants(copy_of(llama), **QWEN, typical_p=0.5, num_return_sequences=3)
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": "a"}]), tmp_path / "out.jsonl"
    arguments = ["generate", "-i", rows, "-o", out, "-m", model, "--chat-template", "none", "--max-new-tokens", 2]
    ran = run(*arguments, "--generation-config", "model")
    assert "generation_config.json: temperature 0.7, top_p 0.8, repetition_penalty 1.1, top_k 20" in ran.err
    assert "not used: typical_p" in ran.err
    identity = json.loads((tmp_path / "out.jsonl.run.json").read_text())["identity"]
    assert identity["resolved.generation_config"] == {"repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    assert "already complete" in run(*arguments, "--generation-config", "model").err
    wants(model, temperature=0.9)
    ran = run(*arguments, "--generation-config", "model")
    assert ran.code == 2
    assert "resolved.generation_config was" in ran.err


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ({"temperature": 0.6, "top_p": 0.95}, {}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"do_sample": True, "top_k": 0, "top_p": 1}, {"temperature": 1.0, "top_p": 1.0}),
        ({"num_beams": 4, "length_penalty": 2.0, "max_length": 142}, {"num_beams": 4, "length_penalty": 2.0, "max_length": 142}),
        ({"num_beams": 1, "length_penalty": 2.0, "max_length": 20, "max_new_tokens": 30}, {"max_new_tokens": 30}),
        ({"stop_strings": "END", "no_repeat_ngram_size": 0}, {"stop": ("END",)}),
        ({"stop_strings": ["a", "b"], "temperature": None}, {"stop": ("a", "b")}),
    ],
)
def test_what_a_file_asks_for(tmp_path: Path, content: dict[str, Any], values: dict[str, Any]) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert generation_defaults(tmp_path) == GenerationDefaults(values)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"temperature": "hot"}, 5), ({"top_k": 2.5}, 5), ({"top_k": True}, 5), ({"max_new_tokens": [3]}, 5), ({"stop_strings": [3]}, 5),
        ({"repetition_penalty": {}}, 5), ({"do_sample": True, "top_p": 7.0}, 2), ({"do_sample": True, "num_beams": 4}, 2),
        ({"max_new_tokens": 0}, 2), ({"stop_strings": [""]}, 2), ({"num_beams": 2**40}, 5), ({"num_beams": "x"}, 5),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_meant_are_named(run: Run, llama: Path, copy_of: Copy, values: dict[str, Any], code: int) -> None:
    model = wants(copy_of(llama), **values)
    ran = run("generate", "a", "-m", model, "--chat-template", "none", "--generation-config", "model", "-q")
    assert ran.code == code
    assert "generation_config.json" in ran.err or "with the model's own settings" in ran.err
    assert "Traceback" not in ran.err


def test_a_model_without_the_file_says_so(run: Run, llama: Path, copy_of: Copy) -> None:
    model = copy_of(llama)
    (model / "generation_config.json").unlink()
    ran = run("generate", "a", "-m", model, "--chat-template", "none", "--generation-config", "model", "--max-new-tokens", 1)
    assert ran.code == 0
    assert "has no generation_config.json" in ran.err
