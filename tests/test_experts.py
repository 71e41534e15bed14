"""Mixtures of experts: what stays frozen is told, and an adapter on experts is used as plain peft uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, seeded, write_rows


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-MoE: experts of three dimensions, and a gate of width 1."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    folder = tmp_path_factory.mktemp("mixture")
    tokenizer: Any = byte_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    config = Qwen2MoeConfig(
        vocab_size=258, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, shared_expert_intermediate_size=24, num_experts=4,
        num_experts_per_tok=2, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    seeded(lambda: Qwen2MoeForCausalLM(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_frozen_experts_and_layers_that_are_too_narrow_are_told(run: Run, tmp_path: Path, mixture: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king {i}"} for i in range(6)])
    done = run("finetune", rows, "-m", mixture, "-o", tmp_path / "ad", "--lora-r", "4", "--max-steps", "2")
    assert done.code == 0, done.err
    assert "warning: the adapter does not cover the experts: 12,288 of " in done.err  # 2 layers of 4 experts of 3 * 16 * 32
    assert "--target-parameters all includes them" in done.err
    assert "no adapter on shared_expert_gate (narrower than the rank)" in done.err
    before = run("generate", "the king", "-m", mixture, "--max-new-tokens", "8")
    after = run("generate", "the king", "-m", mixture, "--adapter", tmp_path / "ad", "--max-new-tokens", "8")
    assert (before.code, after.code) == (0, 0), after.err


def test_experts_are_trained_where_they_are_named_and_a_run_goes_on_with_them(run: Run, tmp_path: Path, mixture: Path) -> None:
    from safetensors.torch import load_file

    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king {i}"} for i in range(6)])
    train = ["finetune", rows, "-m", mixture, "--lora-r", "4", "--max-steps", "4", "--learning-rate", "1e-2"]
    train += ["--target-parameters", "all"]
    whole = run(*train, "-o", tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert "frozen" not in whole.err
    matrices = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    experts = {name: value for name, value in matrices.items() if ".experts." in name and "lora_B" in name}
    assert len(experts) == 4  # two of each of two layers
    assert all(bool(value.any()) for value in experts.values())
    assert run(*train, "-o", tmp_path / "ad", "--max-time", "0.001s").code == 124
    assert run(*train, "-o", tmp_path / "ad").code == 0
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "ad")]
    assert weights[0] == weights[1]
    merged = run("merge", tmp_path / "ad", "-o", tmp_path / "merged")
    assert merged.code == 0, merged.err
    assert merged.err.count("same greedy text") == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-parameters", "experts.up"], "the model has no such weights of experts"),
        (["--target-parameters", "all", "--lora-dropout", "0.1"], "--target-parameters and --lora-dropout cannot be combined"),
        (["--target-parameters", "all", "--dora"], "--target-parameters and --dora cannot be combined"),
        (["--target-parameters", "all", "--full"], "cannot be combined with --full"),
    ],
)
def test_experts_that_can_not_be_trained_are_refused(
    run: Run, tmp_path: Path, mixture: Path, options: list[str], message: str
) -> None:  # fmt: skip
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}])
    done = run("finetune", rows, "-m", mixture, "--lora-r", "4", "--dry-run", *options)
    assert done.code == 2, done.err
    assert message in done.err


def test_a_model_without_experts_has_no_parameters_to_name(run: Run, tmp_path: Path, llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}])
    done = run("finetune", rows, "-m", llama, "--dry-run", "--target-parameters", "all")
    assert done.code == 2
    assert "no experts that share a matrix" in done.err


def test_an_adapter_on_experts_answers_as_in_plain_peft(run: Run, tmp_path: Path, mixture: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(mixture)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"])
    model = peft.get_peft_model(base, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.eval()
    model.save_pretrained(tmp_path / "ad")
    tokenizer = AutoTokenizer.from_pretrained(mixture)
    ids = torch.tensor([tokenizer("the king")["input_ids"]])
    written = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0][ids.shape[1] :]
    plain = run("generate", "the king", "-m", mixture, "--max-new-tokens", "8").out
    done = run("generate", "the king", "-m", mixture, "--adapter", tmp_path / "ad", "--max-new-tokens", "8")
    assert done.code == 0, done.err
    assert done.out.rstrip("\n") == tokenizer.decode(written, skip_special_tokens=True).rstrip("\n")
    assert done.out != plain
    merged = run("merge", tmp_path / "ad", "-m", mixture, "-o", tmp_path / "merged")
    assert merged.code == 0, merged.err
