"""What a GGUF file says of its model goes into the config.json that transformers (5.24) makes of it.

transformers passes over some of the metadata, other keys for each architecture, and leaves the value of one of its own models there:
answers would be others, in silence. What can't be said in config.json is refused.
"""

from __future__ import annotations

import math
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.gguf.header import GgufHeader

#: Architectures of which transformers reads all that decides answers by functions of its own.
_READ_THERE = ("qwen35", "qwen35moe", "lfm2", "gemma4", "gpt-oss", "gpt_oss", "deci", "minimax-m2")
_EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
#: Metadata → the names that architectures have for it in config.json.
_NAMES: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "feed_forward_length": ("intermediate_size", "n_inner", "d_ff", "ffn_hidden_size"),
    "attention.head_count": ("num_attention_heads", "n_head", "num_heads"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim", "d_kv"),
    "attention.sliding_window": ("sliding_window",),
    "attention.relative_buckets_count": ("relative_attention_num_buckets",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    **dict.fromkeys(_EPSILONS, ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon")),
}
#: Factors of architectures that transformers does not read from GGUF; 0 and 1 change nothing.
_FACTORS = ("logit_scale", "embedding_scale", "residual_scale", "attention.scale")
#: `model_type`s whose rotary positions can cover a part of a head, and those that state the square of what scores are divided by.
_PARTIAL = ("phi3", "stablelm", "nemotron")
_SCALAR = "query_pre_attn_scalar"
#: Layers of Gemma 2 and 3 of 27 billion weights, whose scores are scaled as if the width were divided among the heads (llama.cpp).
_27B = (46, 62)


def complete(header: GgufHeader, config: dict[str, Any]) -> None:
    """Changes a config.json to what the file says. Raises ModelError for what is missing, no number, or can't be said there."""
    if header.architecture in _READ_THERE:
        return
    _check(header)
    for name, names in _NAMES.items():
        value = header.own(name)
        kept = next((each for each in names if each in config), None)
        if kept is not None and isinstance(value, int | float) and value and not isinstance(config[kept], list):
            config[kept] = value
    _add_positions(header, config)
    if _SCALAR in config:
        config[_SCALAR] = (
            config["hidden_size"] // config["num_attention_heads"] if header.own("block_count") in _27B else config["head_dim"]
        )
    if header.is_encoder_decoder:  # T5, and T5 1.1, which has gates and does not scale its scores
        gated = any(name.endswith("ffn_gate.weight") for name in header.tensors)
        config |= {"feed_forward_proj": "gated-gelu" if gated else "relu", "scale_decoder_outputs": "output.weight" not in header.tensors}
        config |= {"dense_act_fn": "gelu_new" if gated else "relu", "is_gated_act": gated}


def _check(header: GgufHeader) -> None:
    for name, least in (
        ("context_length", 1),
        *((each, 0) for each in (*_EPSILONS, "attention.sliding_window")),
        ("rope.freq_base", 1e-30),
    ):
        value = header.own(name)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value >= least):
            raise ModelError(f"{header.path}: '{name}' is {str(value)[:60]}; a number from {least:g} is expected")
    for names in (("context_length",), _EPSILONS):
        if all(header.own(name) is None for name in names):
            raise ModelError(
                f"{header.path}: says nothing of '{header.architecture}.{names[0]}'", hint="use the model's own folder, with safetensors"
            )
    for name in _FACTORS:
        if header.own(name, 0) not in (0, 1):
            raise _unsaid(header, f"{name} {str(header.own(name))[:40]}")


def _add_positions(header: GgufHeader, config: dict[str, Any]) -> None:
    """The base and the width of rotary positions."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    rope = rope.get("full_attention", rope)
    if isinstance(base := header.own("rope.freq_base"), int | float):
        rope["rope_theta"] = base
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if not isinstance(width := header.own("rope.dimension_count"), int):
        return
    if config["model_type"] in _PARTIAL:
        rope["partial_rotary_factor"] = width / head
    elif width != head:
        raise _unsaid(header, f"positions of {width} of {head} dimensions")


def _unsaid(header: GgufHeader, what: str) -> ModelError:
    return ModelError(
        f"{header.path}: has {what}, which is not read of '{header.architecture}' from GGUF, and its answers would be wrong",
        hint="use the model's own folder, with safetensors",
    )
