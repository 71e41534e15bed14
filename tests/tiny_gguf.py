"""A tiny Llama as a GGUF file, written by ggml-org's own writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTEXT, WIDTH, WIDE, LAYERS, HEADS, GROUPS = 256, 64, 128, 2, 4, 2
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
BOS, EOS, TURN = 257, 258, 259


def vocabulary() -> list[str]:
    """Bytes, a pair of them, and three special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), "he", "<s>", "</s>", "<turn>"]


def write(
    path: Path,
    kind: str = "F32",
    *,
    architecture: str = "llama",
    more: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
) -> Path:
    """A model of a Llama's tensors with its matrices in `kind`.

    more: metadata beside or in the place of its own; tensors: further ones, arrays.
    """
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    scalars: dict[str, Any] = {
        "general.name": "Tiny", "general.license": "apache-2.0", "llama.context_length": CONTEXT, "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS, "llama.feed_forward_length": WIDE, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": GROUPS, "llama.rope.dimension_count": WIDTH // HEADS, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.bos_token_id": BOS, "tokenizer.ggml.eos_token_id": EOS, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    for name, value in (scalars | dict(more or {})).items():
        adding: dict[type, Any] = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        adding[type(value)](name.replace("llama", architecture, 1), value)
    tokens = vocabulary()
    writer.add_token_list(tokens)
    writer.add_token_types([1] * BOS + [3] * (len(tokens) - BOS))
    writer.add_token_merges(["h e"])
    numbers = np.random.default_rng(7)
    matrix = getattr(gguf.GGMLQuantizationType, kind)
    for name, shape in shapes(len(tokens)).items():
        values = np.ones(shape, np.float32) if len(shape) == 1 else numbers.normal(0, 0.35, shape).astype(np.float32)
        if len(shape) == 1 or kind == "F32":
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, matrix), raw_dtype=matrix)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shapes(tokens: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by their names in GGUF, the slowest dimension first."""
    narrow = WIDTH // HEADS * GROUPS
    layer = {
        "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH),
        "attn_output": (WIDTH, WIDTH), "ffn_gate": (WIDE, WIDTH), "ffn_up": (WIDE, WIDTH), "ffn_down": (WIDTH, WIDE),
    }  # fmt: skip
    named: dict[str, tuple[int, ...]] = {"token_embd.weight": (tokens, WIDTH), "output_norm.weight": (WIDTH,)}
    return named | {f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in layer.items()}


def of_model(path: Path, architecture: str, model: Any, metadata: Mapping[str, Any]) -> Path:
    """A causal model of transformers as llama.cpp would write it, where that takes each tensor as it is (but for Nemotron's norms).

    metadata: what the file says beside sizes, without the architecture's name.
    """
    import gguf

    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    sizes: dict[str, Any] = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
    }  # fmt: skip
    for name, value in (sizes | dict(metadata)).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{architecture}.{name}", value)
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_uint32("tokenizer.ggml.eos_token_id", EOS)
    writer.add_token_list(tokens := vocabulary())
    writer.add_token_types([1] * BOS + [3] * (len(tokens) - BOS))
    writer.add_token_merges(["h e"])
    by_name = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_name[architecture], config.num_hidden_layers)
    for name, values in model.state_dict().items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own is not None, name
        writer.add_tensor(own, values.numpy() + (architecture == "nemotron" and "norm.weight" in own))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
