"""How positions are scaled, as GGUF files say it, which transformers (5.24) passes over for most architectures.

A model whose scaling is lost answers well at first and worse the longer a text is, so what can't be said in config.json is refused.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.gguf.header import GgufHeader

FACTORS = "rope_freqs.weight"
#: Of Llama 3.1 and those after it: wavelengths up to a quarter of the first context are kept, those above it are scaled.
_LOW, _HIGH = 1.0, 4.0
_CONTEXTS = tuple(2**n for n in range(4, 21))
#: Architectures of which transformers reads the scaling itself.
_READ_THERE = ("gpt-oss", "gpt_oss")


def scaling(header: GgufHeader, rope: Any) -> dict[str, Any] | None:
    """What to add to the `rope_parameters` of config.json; None for nothing. rope: what transformers made them.

    Raises ModelError for a scaling that is not known here.
    """
    kind = header.own("rope.scaling.type", "none")
    factor = header.own("rope.scaling.factor", header.own("rope.scale_linear", 1.0))
    if header.architecture in _READ_THERE:
        return None
    simple = isinstance(rope, dict) and "rope_theta" in rope
    if FACTORS in header.tensors and kind == "none" and simple:
        return _llama3(header, float(rope["rope_theta"]))
    scaled = kind not in ("none", "linear") or (isinstance(factor, int | float) and factor not in (0, 1))
    if not scaled and not any(name.startswith("rope_f") for name in header.tensors):
        return None
    if kind in ("none", "linear") and simple and FACTORS not in header.tensors:
        return {"rope_type": "linear", "factor": float(factor)}
    raise ModelError(
        f"{header.path}: its positions are scaled ({str(kind)[:40]}) in a way that is not read from GGUF, and its answers would be wrong",
        hint="use the model's own folder, with safetensors",
    )


def _llama3(header: GgufHeader, theta: float) -> dict[str, Any] | None:
    """The settings whose factors are those of the file: one for each pair of dimensions."""
    factors = _floats(header)
    factor = max(factors)
    for context in _CONTEXTS:
        wanted = [_factor(theta ** (-i / len(factors)), factor, context) for i in range(len(factors))]
        if all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(factors, wanted, strict=True)):
            named = {"low_freq_factor": _LOW, "high_freq_factor": _HIGH, "original_max_position_embeddings": context}
            return {"rope_type": "llama3", "factor": factor, **named}
    raise ModelError(f"{header.path}: the factors of its positions are not those of a known kind", hint="use the model's own folder")


def _factor(frequency: float, factor: float, context: int) -> float:
    """By how much Llama 3 divides a frequency (transformers' `_compute_llama3_parameters`)."""
    turns = context * frequency / (2 * math.pi)
    if turns > _HIGH:
        return 1.0
    if turns < _LOW:
        return factor
    smooth = (turns - _LOW) / (_HIGH - _LOW)
    return 1 / ((1 - smooth) / factor + smooth)


def _floats(header: GgufHeader) -> list[float]:
    tensor = header.tensors[FACTORS]
    if tensor.kind != "F32" or len(tensor.shape) != 1 or tensor.bytes > 4 * 65_536:
        raise ModelError(f"{header.path}: tensor '{FACTORS}' is not a short list of numbers", hint="use the model's own folder")
    with header.path.open("rb") as file:
        file.seek(tensor.offset)
        return list(struct.unpack(f"<{tensor.parameters}f", file.read(tensor.bytes)))
