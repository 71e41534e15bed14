"""Kinds of models that can't do everything: what they can't is refused in a sentence, and what they do is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, seeded, write_rows


def build(folder: Path, kind: str) -> Path:
    import transformers

    tokenizer = byte_tokenizer(["</s>", "<pad>"], eos_token="</s>", pad_token="<pad>")
    configs: dict[str, tuple[str, str, dict[str, Any]]] = {
        "rwkv": ("RwkvConfig", "RwkvForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 256}),
        "mamba": ("MambaConfig", "MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
        "openai-gpt": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}),
    }
    config, model, settings = configs[kind]
    made = getattr(transformers, config)(**settings, vocab_size=len(tokenizer), eos_token_id=256, pad_token_id=257)
    seeded(lambda: getattr(transformers, model)(made), folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: build(tmp_path_factory.mktemp(kind), kind) for kind in ("rwkv", "mamba", "openai-gpt")}


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("mamba", ["--prompt-lookup", "3"]), ("rwkv", ["--prompt-lookup", "3"]), ("openai-gpt", ["--prompt-lookup", "3"]),
        ("rwkv", ["--num-beams", "2"]), ("mamba", ["--draft-model", "SELF"]), ("openai-gpt", ["--draft-model", "SELF"]),
    ],
)  # fmt: skip
def test_an_option_that_a_kind_of_model_does_not_have_is_refused_in_a_sentence(
    run: Run, models: dict[str, Path], tmp_path: Path, kind: str, option: list[str]
) -> None:
    given = [str(models[kind]) if word == "SELF" else word for word in option]
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "the king"}, {"prompt": "a"}])
    for form in (["the king"], ["-i", rows]):
        ran = run("generate", *form, "-m", models[kind], "--max-new-tokens", 3, "-q", *given)
        assert ran.code == 2, ran.err
        assert f"a model of type {kind} can't run with {option[0]}: " in ran.err
        assert len(ran.err.splitlines()) <= 3


@pytest.mark.parametrize("kind", ["mamba", "openai-gpt"])
def test_beams_run_where_they_can(run: Run, models: dict[str, Path], kind: str) -> None:
    assert run("generate", "the king", "-m", models[kind], "--max-new-tokens", 3, "--num-beams", 2, "-q").code == 0


@pytest.mark.parametrize("kind", ["rwkv", "mamba", "openai-gpt"])
def test_a_row_has_the_answer_that_it_has_alone(run: Run, models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": text} for text in ("the king", "a", "once upon a time", "two dogs", "x" * 30)])
    ran = run("generate", "-i", rows, "-m", models[kind], "--max-new-tokens", 8, "--verify-batching", 5)
    assert ran.code == 0
    assert "5 rows gave the same answer when run alone" in ran.err
