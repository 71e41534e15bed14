"""Model folders: configuration, tokenizer, headers, index, settings of generation, templates, and what lies beside."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from fuzz.case import Case
from fuzz.damage import copied, edit_file, edit_header, harmed, plant, replace

#: Names that a configuration may hold, known for what they make a library do.
KEYS = (
    "auto_map", "quantization_config", "transformers_weights", "_attn_implementation", "attn_implementation", "_attn_implementation_internal",
    "text_config", "encoder", "decoder", "is_encoder_decoder", "tie_word_embeddings", "rope_parameters", "rope_scaling", "head_dim", "num_experts",
    "layer_types", "sliding_window", "pad_token_id", "eos_token_id", "bos_token_id", "task_specific_params", "id2label", "num_labels", "torch_dtype", "dtype",
    "architectures", "model_type", "hidden_act", "max_position_embeddings", "num_hidden_layers", "_name_or_path", "custom_pipelines", "pruned_heads",
    "chunk_size_feed_forward", "base_model_tp_plan", "experts_implementation", "vocab_size", "intermediate_size", "initializer_range", "use_cache",
)  # fmt: skip
TOKENIZER_KEYS = (
    "auto_map", "tokenizer_class", "tokenizer_file", "vocab_file", "chat_template", "added_tokens_decoder", "extra_special_tokens", "model_max_length",
    "bos_token", "eos_token", "pad_token", "unk_token", "additional_special_tokens", "name_or_path", "truncation_side", "padding_side", "backend",
    "from_slow", "fast_tokenizer_files", "legacy", "add_bos_token", "split_special_tokens", "processor_class",
)  # fmt: skip
GENERATION_KEYS = (
    "eos_token_id", "bos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_bos_token_id", "forced_decoder_ids",
    "decoder_start_token_id", "watermarking_config", "cache_implementation", "compile_config", "cache_config", "stop_strings", "penalty_alpha", "constraints",
    "return_dict_in_generate", "num_return_sequences", "num_beams", "max_length", "sequence_bias", "guidance_scale", "custom_generate", "assistant_early_exit",
)  # fmt: skip
_TOKENIZER = (
    "add_prefix_space",
    "normalizer",
    "pre_tokenizer",
    "decoder",
    "post_processor",
    "truncation",
    "padding",
    "added_tokens",
    "type",
    "Regex",
)


def case(chance: Random, folder: Path, bases: Path) -> Case:
    model = copied(bases / "llama", folder / "model")
    if chance.random() < 0.2:
        _split(model)
    for _ in range(chance.choice((1, 1, 2))):
        _damage(chance, model)
    prompt = ("the king", "--max-new-tokens", "2", "-q")
    command = chance.choice(
        (
            ("models", "show", "model"),
            ("generate", *prompt, "-m", "model"),
            ("generate", *prompt, "-m", "model", "--chat-template", "none"),
            ("generate", *prompt, "-m", "model", "--device", "cpu", "--dtype", "bfloat16"),
        )
    )
    return Case(command, ("model",))


def _damage(chance: Random, model: Path) -> None:
    kind = chance.randrange(10)
    if kind < 3:
        edit_file(chance, model / "config.json", keys=KEYS)
    elif kind == 3:
        edit_file(chance, model / "tokenizer_config.json", keys=TOKENIZER_KEYS)
    elif kind == 4:
        edit_file(chance, model / "tokenizer.json", keys=_TOKENIZER)
    elif kind == 5:
        edit_file(chance, model / "generation_config.json", keys=GENERATION_KEYS)
    elif kind == 6:
        weights = chance.choice(sorted(model.glob("*.safetensors")) or [model / "model.safetensors"])
        if weights.is_file():
            edit_header(chance, weights)
    elif kind == 7:
        path = chance.choice([p for p in sorted(model.iterdir()) if p.is_file()])
        path.write_bytes(harmed(chance, path.read_bytes()))
    elif kind == 8:
        plant(chance, model)
    else:
        replace(chance, chance.choice([p for p in sorted(model.iterdir()) if p.is_file()]))


def _split(model: Path) -> None:
    """The weights in two files with an index."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    names = sorted(weights)
    (model / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, model / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
