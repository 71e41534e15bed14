"""Architectures of many kinds answer alike alone and in a ragged batch, and score what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import byte_tokenizer, greedy_log_probs, seeded

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}
GROUPED = SMALL | {"num_key_value_heads": 1}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128,
}  # fmt: skip
CAUSAL: dict[str, dict[str, Any]] = {
    "Mistral": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": GROUPED | {"head_dim": 16},
    "Gemma": GROUPED | {"head_dim": 16},
    "Gemma2": GROUPED | {"head_dim": 16, "sliding_window": 16, "final_logit_softcapping": 5.0},
    "Phi": SMALL,
    "GPTNeoX": SMALL,
    "OPT": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 64,
        "max_position_embeddings": 128,
    },
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "Falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": False, "new_decoder_architecture": False},
    "Cohere": GROUPED | {"logit_scale": 0.3},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "Mixtral": GROUPED | {"num_local_experts": 2, "num_experts_per_tok": 1},
}
SEQUENCE_TO_SEQUENCE: dict[str, dict[str, Any]] = {
    "Bart": BART,
    "Marian": BART,
    "MBart": BART,
    "M2M100": BART | {"max_position_embeddings": 300},
    "Pegasus": BART,
    "MT5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
}


def build(name: str, settings: dict[str, Any], folder: Path, kind: str) -> Path:
    import transformers

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>", add_bos="<s>")
    special: dict[str, int | None] = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "vocab_size": len(tokenizer) + 8}
    if kind == "ForConditionalGeneration" or name == "Marian":
        special |= {"decoder_start_token_id": 257, "forced_bos_token_id": None, "forced_eos_token_id": None}
    config = getattr(transformers, f"{name}Config")(**settings, **special)
    model = "MarianMTModel" if name == "Marian" else f"{name.removesuffix('Text')}{kind}"
    seeded(lambda: getattr(transformers, model)(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [*CAUSAL, *SEQUENCE_TO_SEQUENCE])
def test_answers_alone_as_in_a_batch_and_scores_its_own_answers(name: str, tmp_path: Path, ragged: list[str]) -> None:
    causal = name in CAUSAL
    settings = CAUSAL[name] if causal else SEQUENCE_TO_SEQUENCE[name]
    folder = build(name, settings, tmp_path / name, "ForCausalLM" if causal else "ForConditionalGeneration")
    engine = TorchEngine(load(ModelSettings(str(folder))), chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=6, logprobs=True)
    requests = [engine.make_request(Prompt(text=text[:60]), decoding, number) for number, text in enumerate(ragged[:6])]
    together = engine.generate(requests, decoding)
    alone = [engine.generate([request], decoding)[0] for request in requests]
    assert [[c.text for c in row] for row in together] == [[c.text for c in row] for row in alone]
    for request, one, other in zip(requests, together, alone, strict=True):
        assert one[0].logprobs is not None
        assert other[0].logprobs is not None
        expected = greedy_log_probs(engine, request, one[0].completion_tokens)
        for scores in (one[0].logprobs, other[0].logprobs):
            assert [t.logprob for t in scores] == pytest.approx(expected, abs=1e-3)
