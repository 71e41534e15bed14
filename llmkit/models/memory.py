"""Does a model fit? From its config and headers alone, before any weight is read.

Knows sizes; what an accelerator has free, the engines know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import OutOfMemoryError
from llmkit.models.checkpoint import Checkpoint

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_GIB = 1 << 30
#: Bytes a weight, with its share of the scales: one float32 a row for int8; doubly quantized blocks of 64 for int4.
_QUANTIZED_BYTES = {"int8": 1.0, "int4": 0.52}
#: Matrices that stay as they are: embeddings and the last layer.
_KEPT = ("embed", "wte", "wpe", "shared", "lm_head", "position")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs, by what they are for, beside those that are free."""

    parts: Mapping[str, int]
    free: int

    @property
    def needs(self) -> int:
        """The sum of all parts, in bytes."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether that is at most what is free."""
        return self.needs <= self.free

    def __str__(self) -> str:
        return f"needs {self.needs / _GIB:.1f} GiB, {self.free / _GIB:.1f} GiB free"

    def check(self, what: str, hint: str = "a smaller model, a smaller `batch_tokens`, `dtype` bfloat16, or another `device`") -> None:
        """Raises OutOfMemoryError with the arithmetic when it does not fit."""
        if not self.fits:
            parts = " + ".join(f"{name} {size / _GIB:.1f}" for name, size in self.parts.items())
            raise OutOfMemoryError(f"{what} does not fit: {self} ({parts})", hint=hint)


def estimate(checkpoint: Checkpoint, *, dtype: str, tokens: int, free: int, rows: int = 1, quantize: str = "none") -> MemoryEstimate:
    """Memory of a run that holds `tokens` positions at a time, `rows` of them with logits.

    Weights: parameters x bytes of dtype, or of the quantized form for the matrices that have one. Cache: 2 x layers x
    key-value width x tokens. Activations: a few hidden states and the widest feed-forward of the positions, and float32
    logits of the rows being decoded.
    """
    size, shape = _BYTES[dtype], _shape(checkpoint)
    return MemoryEstimate(
        {
            "weights": weight_bytes(checkpoint, quantize, size),
            "key-value cache": 2 * shape.layers * shape.key_value * tokens * size,
            "activations": tokens * (6 * shape.hidden + 2 * shape.wide) * size + rows * shape.vocabulary * 4,
        },
        free,
    )


def estimate_training(
    checkpoint: Checkpoint,
    *,
    dtype: str,
    trained: int,
    positions: int,
    free: int,
    quantize: str = "none",
    recompute: bool = False,
    held: int | None = None,
) -> MemoryEstimate:
    """Memory of a training run that holds `positions` tokens of `trained` float32 parameters at a time.

    held: how many numbers of the weights this process holds; None for all.

    A trained parameter takes 4 bytes itself, 4 of gradient and 8 of AdamW. Activations: 17 hidden states a layer and
    position (Korthikanti et al. 2022, equation 1, without attention scores, which fused kernels do not keep); two a layer
    and one layer whole when they are recomputed (gradient checkpointing). Scores: a piece of them, its gradient, and room.
    """
    size, shape = _BYTES[dtype], _shape(checkpoint)
    states = 2 * shape.layers + 17 if recompute else 17 * shape.layers
    return MemoryEstimate(
        {
            "weights": weight_bytes(checkpoint, quantize, size, held=held),
            "trained parameters": 16 * trained,
            "activations": positions * shape.hidden * states * size,
            "scores": 3 << 26,
        },
        free,
    )


def weight_bytes(checkpoint: Checkpoint, quantize: str, size: int, *, held: int | None = None) -> int:
    """Bytes of the weights in memory; `size`: bytes of those that stay as they are; held: how many numbers of them, None for all."""
    if quantize == "none":
        return (checkpoint.parameters if held is None else held) * size
    small = sum(rows * columns for rows, columns in matrices(checkpoint))
    return (checkpoint.parameters - small) * size + int(small * _QUANTIZED_BYTES[quantize])


def bytes_of(dtype: str) -> int:
    """Bytes of a number in a precision."""
    return _BYTES[dtype]


def matrices(checkpoint: Checkpoint, *, experts: bool = True) -> list[tuple[int, int]]:
    """Shapes of the linear layers inside the blocks: those that are quantized, and that adapters go on.

    experts: those of a mixture, too.
    """
    kept = _KEPT if experts else (*_KEPT, "experts.")
    return [(t.shape[0], t.shape[1]) for name, t in checkpoint.tensors.items() if len(t.shape) == 2 and not any(k in name for k in kept)]


def queries(checkpoint: Checkpoint) -> int:
    """Numbers in the queries of a token, those of all layers and heads."""
    shape = _shape(checkpoint)
    return shape.layers * shape.query


@dataclass(frozen=True)
class _Shape:
    """Sizes of a model that decide its memory. query and key_value: of all heads of a layer."""

    hidden: int
    layers: int
    query: int
    key_value: int
    wide: int
    vocabulary: int


def _shape(checkpoint: Checkpoint) -> _Shape:
    text = checkpoint.config.get("text_config", checkpoint.config)
    hidden = _first(text, "hidden_size", "d_model", "n_embd", "dim", default=1024)
    heads = _first(text, "num_attention_heads", "n_head", "decoder_attention_heads", "num_heads", default=16)
    head_size = _first(text, "head_dim", "d_kv", default=hidden // max(heads, 1))
    return _Shape(
        hidden,
        _first(text, "num_hidden_layers", "n_layer", "num_layers", "decoder_layers", "n_layers", default=24),
        heads * head_size,
        _first(text, "num_key_value_heads", default=heads) * head_size,
        _first(text, "intermediate_size", "decoder_ffn_dim", "d_ff", "n_inner", default=4 * hidden),
        _first(text, "vocab_size", default=50_000),
    )


def free_bytes() -> int:
    """Bytes of the machine's memory that a new run may take, within this process's cgroup and address limits."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for limit in (_cgroup_free(), _address_space_free()):
        available = available if limit is None else min(available, limit)
    return available


def _cgroup_free(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """From cgroup v2 (memory.max) or v1 (memory.limit_in_bytes); None without a limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            text = (root / limit).read_text().strip()
            if text != "max":
                return max(0, int(text) - int((root / used).read_text()))
        except (OSError, ValueError):
            continue
    return None


def _address_space_free() -> int | None:
    """What `ulimit -v` leaves; None without a limit or where there is no such thing."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else max(0, limit - psutil.Process().memory_info().vms)


def _first(config: dict[str, Any], *names: str, default: int) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return default
