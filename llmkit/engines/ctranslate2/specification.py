"""A model of transformers as the library's specification: which weight goes where, and what its loaders miss or leave out (4.8.5).

Knows the loaders and classes of transformers; not tokenizers, nor whether what comes of it answers as torch does (convert.py).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmkit.engines.ctranslate2.families import GEMMA3, LOADERS
from llmkit.errors import EngineLimitError


def write(model: Any, about: dict[str, Any], folder: Path) -> None:
    """model.bin, its configuration and a vocabulary of numbers: token 17 is '17', so that a text can't name a token by accident.

    Takes the model apart. Raises EngineLimitError, and what the loaders and the library raise.
    """
    from ctranslate2.converters import transformers as loaders

    kind = about["model_type"]
    config = model.config.get_text_config() if kind in GEMMA3 else model.config
    rope = getattr(config, "rope_parameters", None) or {}
    _adapt(model, config, about)
    # before the loaders take layers away
    epsilon = _epsilon(getattr(model.model, "language_model", model) if kind in GEMMA3 else model)
    spec = getattr(loaders, _loader(kind, config))().get_model_spec(model)
    if rope.get("rope_type") == "llama3":
        _add_scaling(spec, rope)
    if kind in GEMMA3:
        _add_gemma3(spec, config, rope["full_attention"])
    names = list(map(str, range(about["tokens"])))
    end = str(about["ends"][0])
    if about["encoder_decoder"]:
        spec.register_source_vocabulary(names)
        spec.register_target_vocabulary(names)
        spec.config.decoder_start_token = str(about["start"])
    else:
        spec.register_vocabulary(names)
    spec.config.eos_token = spec.config.unk_token = end
    spec.config.bos_token = end if about["bos"] is None else str(about["bos"])
    if epsilon is not None:
        spec.config.add_attribute("layer_norm_epsilon", epsilon)
    spec.validate()
    _compact(spec)
    spec.save(str(folder))


def _loader(kind: str, config: Any) -> str:
    """The name of the loader; that of Mistral is Llama's for heads of any size."""
    own_heads = kind == "llama" and config.head_dim * config.num_attention_heads != config.hidden_size
    return LOADERS["mistral" if own_heads else kind]


def _adapt(model: Any, config: Any, about: dict[str, Any]) -> None:
    """Settings under the names where the loaders look for what transformers 5 keeps under others."""
    kind, rope = about["model_type"], getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "default":
        config.rope_parameters, config.rope_theta = None, rope["rope_theta"]
    if kind in GEMMA3:
        config.rope_theta, config.rope_local_base_freq = (rope[f"{layer}_attention"]["rope_theta"] for layer in ("full", "sliding"))
    if "partial_rotary_factor" in rope:
        config.rotary_pct = rope["partial_rotary_factor"]
    if getattr(config, "sliding_window", 0) is None:
        config.sliding_window = 0
    if getattr(config, "new_decoder_architecture", False):
        config.multi_query = False  # where transformers ignores it
    if kind == "gpt_neox":
        model.embed_out = model.get_output_embeddings()
    if kind == "phi3":  # whose attention no longer holds its rotary positions; long ones are refused before
        for layer in model.get_decoder().layers:
            layer.self_attn.rotary_emb = SimpleNamespace(long_factor=None, short_factor=None)
    if kind in ("t5", "mt5", "umt5"):  # which are tied by now in any case; asked is whether their scores are scaled
        config.tie_word_embeddings = getattr(config, "scale_decoder_outputs", False)
    elif about["encoder_decoder"]:
        encoder = model.get_encoder()
        config.normalize_before = getattr(encoder, "layer_norm", None) is not None
        config.normalize_embedding = getattr(encoder, "layernorm_embedding", None) is not None
    if kind == "m2m_100":  # whose positions begin behind the id of padding, wherever that is
        for half in (model.get_encoder(), model.get_decoder()):
            positions = half.embed_positions
            positions.offset = positions.padding_idx + 1
            positions.make_weights(about["context"] + positions.offset, positions.embedding_dim, positions.padding_idx)


def _add_scaling(spec: Any, rope: dict[str, Any]) -> None:
    """What the loaders leave out of the positions of Llama 3.1, of which some know nothing, and the library reads."""
    import numpy as np

    for layer in spec.decoder.layer:
        known = vars(layer.self_attention)  # the class takes no new attribute
        known["rotary_scaling_factor"] = np.float32(rope["factor"])
        known["rotary_low_freq_factor"] = np.float32(rope["low_freq_factor"])
        known["rotary_high_freq_factor"] = np.float32(rope["high_freq_factor"])
        known["original_max_position_embeddings"] = np.int32(rope["original_max_position_embeddings"])


def _add_gemma3(spec: Any, config: Any, rope: dict[str, Any]) -> None:
    """What scores are divided by, which the loader takes for the width of a head, and how positions of all but local layers are scaled."""
    import numpy as np
    from ctranslate2.specs.attention_spec import RotaryScalingType

    for layer, kind in zip(spec.decoder.layer, config.layer_types, strict=True):
        layer.self_attention.queries_scale = np.float32(config.query_pre_attn_scalar**-0.5)
        if kind == "full_attention" and rope["rope_type"] == "linear":
            known = vars(layer.self_attention)
            known["rotary_scaling_type"] = np.int8(RotaryScalingType.Linear)
            known["rotary_scaling_factor"] = np.float32(rope["factor"])


def _epsilon(model: Any) -> float | None:
    """What the model's normalizations add to a variance; None for a model without any."""
    values = set()
    for module in model.modules():
        if type(module).__name__.endswith("Norm"):
            values |= {value for name in ("eps", "variance_epsilon") if isinstance(value := getattr(module, name, None), float)}
    if len(values) > 1:
        raise EngineLimitError("the model's normalization layers have different epsilons")
    return values.pop() if values else None


def _compact(spec: Any) -> None:
    """Writes a tensor that occurs twice once, and one whose numbers are 16-bit numbers as such: none of them changes."""
    import torch
    from ctranslate2.specs.model_spec import PyTorchVariable, visit_spec

    seen: dict[tuple[Any, ...], str] = {}

    def visit(layer: Any, name: str, value: Any) -> None:
        if not isinstance(value, PyTorchVariable) or value.is_scalar():
            return
        tensor, attribute = value.tensor, name.rpartition("/")[2]
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if place in seen:
            setattr(layer, attribute, seen[place])
            return
        seen[place] = name
        if tensor.dtype != torch.float32:
            return
        for kind in ("bfloat16", "float16"):
            if torch.equal(tensor.to(getattr(torch, kind)).float(), tensor):
                setattr(layer, attribute, PyTorchVariable(tensor).to(kind))
                return

    visit_spec(spec, visit)
