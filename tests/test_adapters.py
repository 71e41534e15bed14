"""Adapters from a stranger: settings that peft would act on are checked first, and what peft loads elsewhere loads here."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from llmkit.models import lora as lora_settings
from llmkit.models.checkpoint import Tensor

PROMPT = ("the king", "--max-new-tokens", "8", "--chat-template", "none", "-q")


def lora(folder: Path, base: Path, *, rank: int = 4, scale: float = 64, more: dict[str, Any] | None = None, **config: object) -> Path:
    """An adapter on q_proj of both layers, with `more` tensors."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    tensors = dict(more or {})
    for layer in (0, 1):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        tensors |= {name + "A.weight": torch.randn(rank, 32), name + "B.weight": torch.randn(32, rank)}
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": scale, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(content | {"base_model_name_or_path": str(base)} | config))
    return folder


ADAPTERS: dict[str, dict[str, Any]] = {
    "an unclosed bracket": {"rank_pattern": {"(": 2}},
    "nested quantifiers": {"rank_pattern": {"(a+)+$": 2}},
    "many wildcards": {"alpha_pattern": {".*.*.*.*.*x": 2}},
    "a rank above that of the matrices": {"r": 10_000_000},
    "a rank of one module above that of the matrices": {"rank_pattern": {"k_proj": 200_000}},
    "a rank that is no number": {"r": "4"},
    "a negative rank": {"r": -4},
    "an expression for a module to save": {"modules_to_save": ["(x+)+"]},
    "another task": {"task_type": "SEQ_CLS"},
    "a setting of a later peft": {"use_new_thing": True},
    "targets that are numbers": {"target_modules": [1]},
    "a pattern that is a list": {"rank_pattern": [1]},
    "an infinite scale": {"lora_alpha": float("inf")},
    "an infinite scale of one module": {"alpha_pattern": {"q_proj": float("inf")}},
    "a scale that is no number": {"lora_alpha": float("nan")},
    "more modules to save than any model has": {"modules_to_save": [f"x{i}" for i in range(100_000)]},
}


@pytest.mark.parametrize("config", ADAPTERS.values(), ids=ADAPTERS)
def test_a_setting_of_an_adapter_that_can_not_be_meant_is_refused(run: Run, llama: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    ran = run("generate", "-m", llama, "--adapter", lora(tmp_path / "a", llama, **config), *PROMPT)
    assert ran.code == 5
    assert "adapter_config.json" in ran.err


@pytest.mark.usefixtures("limited_time")
def test_a_pattern_of_many_numbers_is_tried_in_one_way(tmp_path: Path) -> None:
    config = {"r": 4, "alpha_pattern": {r"\d+" * 20 + "x": 2, r"layers.\d+.q_proj": 3}}
    tensors = {f"base_model.model.{name}.lora_A.weight": Tensor("F32", (4, 32)) for name in ("1" * 60, "layers.10.q_proj")}
    shown = lora_settings.shown(tmp_path / "adapter_config.json", config, tensors)
    assert [re.fullmatch(key, "layers.10.q_proj") is not None for key in shown["alpha_pattern"]] == [True]


HARMLESS: dict[str, dict[str, Any]] = {
    "an expression over targets": {"target_modules": r"(?:.*?(?:language|text).*?q_proj)|(?:\bmodel\.layers\.[\d]{1,}\.self_attn\.q_proj)"},
    "a rank of each module": {"r": 64, "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 4, "^model.layers.1.self_attn.q_proj$": 4}},
    "a module of code": {"megatron_config": {"x": 1}, "megatron_core": "antigravity"},
    "layers": {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    "many names of modules": {"target_modules": [f"x{i}" for i in range(100_000)] + ["q_proj"], "exclude_modules": ["y"] * 100_000},
    "nulls": {"rank_pattern": None, "exclude_modules": None, "bias": "none"},
}


@pytest.mark.parametrize("config", HARMLESS.values(), ids=HARMLESS)
def test_settings_that_say_the_same_give_the_same_answer(run: Run, llama: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    plain = run("generate", "-m", llama, "--adapter", lora(tmp_path / "a", llama), *PROMPT)
    folder = lora(tmp_path / "b", llama, **config)
    (folder / "run.json").write_text('{"command": "train", "loss": 1.5}')  # the record of another program
    ran = run("generate", "-m", llama, "--adapter", folder, *PROMPT)
    assert (ran.code, ran.out) == (0, plain.out)


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_weights_of_an_adapter_that_are_no_numbers_are_named(run: Run, llama: Path, tmp_path: Path, engine: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = lora(tmp_path / "a", llama)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"][3, 2] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    ran = run("generate", "-m", llama, "--adapter", folder, "--engine", engine, *PROMPT)
    assert ran.code == 5
    assert f"error: {folder}: the weights '" in ran.err
    assert "layers.1.self_attn.q_proj.lora_B.default.weight' hold NaN or infinite values" in ran.err


def test_an_adapter_with_added_tokens_and_a_template_of_its_own_loads(run: Run, llama: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["<|new|>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]))
    for parameter in adapted.parameters():
        parameter.data += torch.randn_like(parameter) / 10 if parameter.requires_grad else 0
    adapted.save_pretrained(tmp_path / "a")
    tokenizer.chat_template = "{% for m in messages %}<|new|>{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "a")
    ids = tokenizer("<|new|>the king", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert int(ids[0, 0]) == len(tokenizer) - 1
    with torch.inference_mode():
        expected = adapted.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[
            0, ids.shape[1] :
        ]
    ran = run("generate", "-m", llama, "--adapter", tmp_path / "a", "the king", "--max-new-tokens", "8", "--json", "-q")
    assert ran.code == 0, ran.err
    answer = json.loads(ran.out)
    assert answer["prompt_tokens"] == ids.shape[1]
    # an answer that its limit cuts inside a character ends with the one before
    assert answer["text"] == tokenizer.decode(expected, skip_special_tokens=True).rstrip("\ufffd")


def test_an_adapter_on_the_parameters_of_experts_loads(run: Run, llama: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(llama)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2, num_experts=4,
        num_experts_per_tok=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=256, eos_token_id=257,
    )  # fmt: skip
    base = Qwen3MoeForCausalLM(config)
    base.save_pretrained(tmp_path / "moe")
    tokenizer.save_pretrained(tmp_path / "moe")
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"]))
    adapted.save_pretrained(tmp_path / "a")
    ran = run("generate", "-m", tmp_path / "moe", "--adapter", tmp_path / "a", *PROMPT)
    assert ran.code == 0, ran.err


def test_an_adapter_beside_the_weights_is_put_on_only_when_it_is_named(run: Run, llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(llama, tmp_path / "model"))
    plain = run("generate", "-m", llama, *PROMPT).out
    lora(model, model, scale=64)
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert "adapter_config.json" in ran.err
    assert "--adapter" in ran.err
    named = run("generate", "-m", model, "--adapter", model, *PROMPT)
    assert named.code == 0
    assert named.out != plain
    (model / "adapter_config.json").unlink()
    assert run("generate", "-m", model, *PROMPT).out == plain
