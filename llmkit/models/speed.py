"""The least time that a model's work takes on this machine: what it reads and multiplies, beside what the machine was measured to do.

The roofline model (Williams, Waterman & Patterson 2009): work takes at least its bytes / memory bandwidth, and at least its
floating-point operations / rate of matrix products. A step of decoding reads every weight once, for one row or for many; a forward
pass is 2 operations per weight and token, and attention 4 per number of a query and token that it looks at (Kaplan et al. 2020,
section 2.1, with the products that a causal mask leaves over). The key-value cache, activations, and attention within windows and
in encoder-decoders are left out, so a limit is never too slow. Knows numbers and one small file; not engines, and it imports no
torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import LlmkitError, OutputError, counted
from llmkit.models import memory, processor
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.cores import available_cores
from llmkit.models.small_files import read_object

#: Machines of one cache that are remembered: a home folder may be shared by many.
MOST_MACHINES = 32
#: Bytes of the file that they are in.
_MAX_BYTES = 64_000
#: Matrices of which one row a token is read: of those that look alike only the one that makes scores is read whole.
_TABLES = ("embed", "wte", "shared", "lm_head")
_POSITIONS = ("wpe", "position")
#: In a configuration: experts, of which a token is sent to a few.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Speed:
    """What a device was measured to do. bandwidth: bytes read per second; rates: floating-point operations per second, by precision."""

    bandwidth: float
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.rates or not all(0 < value < math.inf for value in (self.bandwidth, *self.rates.values())):
            raise ValueError("a measured speed is a positive number")


@dataclass(frozen=True)
class Cost:
    """What a model reads and multiplies. step: bytes a step of decoding; position and source: operations a token of decoder and encoder.

    dtype: what it multiplies in; None for weights in fewer bits, whose rate is not measured. pair: operations a pair of tokens, one of
    which looks at the other; 0 where that is not known.
    """

    step: float
    position: float
    source: float
    dtype: str | None
    pair: float = 0.0


@dataclass(frozen=True)
class Limit:
    """The least seconds that work takes, and what bounds it: 'memory' or 'arithmetic'."""

    seconds: float
    by: str


def cost(checkpoint: Checkpoint, *, dtype: str, quantize: str = "none", everything: bool = False, attends: bool = False) -> Cost | None:
    """What the model of a checkpoint costs; None for a mixture of experts, of which each token reads others.

    everything: embeddings and last layer are quantized, too (as CTranslate2 does it). attends: in each layer a token looks at all
    before it.
    """
    config = checkpoint.config.get("text_config", checkpoint.config)
    if any(isinstance(config.get(name), int) and config[name] > 1 for name in _EXPERTS):
        return None
    source = _weights(checkpoint, encoder=True)
    decoder = _weights(checkpoint, encoder=False)
    size: float = memory.bytes_of(dtype)
    if quantize != "none":
        size = 1 if everything else size * memory.weight_bytes(checkpoint, quantize, int(size)) / (checkpoint.parameters * size)
    pair = 4 * memory.queries(checkpoint) if attends and not checkpoint.is_encoder_decoder else 0
    return Cost(decoder * size, 2 * decoder, 2 * source, dtype if quantize == "none" else None, pair)


def limit(cost: Cost, speed: Speed, *, steps: int, positions: int, sources: int = 0, pairs: int = 0) -> Limit:
    """The least seconds of `steps` steps of decoding in which `positions` tokens (and `sources` of an encoder) were computed.

    pairs: of a token of these and one that it looks at, which may be itself.
    """
    by_memory = cost.step * steps / speed.bandwidth
    rate = None if cost.dtype is None else speed.rates.get(cost.dtype)
    by_arithmetic = 0.0 if rate is None else (cost.position * positions + cost.source * sources + cost.pair * pairs) / rate
    return Limit(max(by_memory, by_arithmetic), "memory" if by_memory >= by_arithmetic else "arithmetic")


def training_operations(parameters: int, trained: int, positions: int) -> float:
    """Floating-point operations that `positions` tokens of training take at least.

    Forward and backward are 6 a weight and token (Kaplan et al. 2020, section 2.1): 2 forward, 2 for the gradient of what a layer
    reads, 2 for the gradient of a weight, which a frozen one does not have.
    """
    return (4.0 * (parameters - min(trained, parameters)) + 6.0 * trained) * positions


def remembered(device: str = "cpu") -> Speed | None:
    """What `llmkit doctor --speed` measured of a device of this machine; None where nothing that makes sense is remembered."""
    try:
        entry = read_object(_place(), _MAX_BYTES).get("machines", {}).get(_machine(), {}).get(device)
        return Speed(float(entry["bandwidth"]), {str(name): float(value) for name, value in entry["rates"].items()})
    except (OSError, LlmkitError, AttributeError, KeyError, TypeError, ValueError):
        return None


def remember(speeds: Mapping[str, Speed]) -> Path:
    """Keeps what was measured of this machine's devices, by their names; returns the file. Raises OutputError where it can't be written."""
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(place, str(place), wait=True):
            machines = _machines(place)
            machines.pop(_machine(), None)
            machines[_machine()] = {name: {"bandwidth": s.bandwidth, "rates": dict(s.rates)} for name, s in speeds.items()}
            newest = dict(list(machines.items())[-MOST_MACHINES:])
            files.write_whole(place, json.dumps({"machines": newest}, indent=1) + "\n")
    except OSError as exc:
        raise OutputError(f"{place} cannot be written: {exc.strerror or exc}", hint="name another folder in LLMKIT_HOME") from exc
    return place


def _machines(place: Path) -> dict[str, Any]:
    """What is remembered of all machines, the newest last; nothing where the file is damaged."""
    try:
        machines = read_object(place, _MAX_BYTES).get("machines")
    except (OSError, LlmkitError):
        return {}
    return dict(machines) if isinstance(machines, dict) else {}


def _place() -> Path:
    return files.home() / "speed.json"


def _machine() -> str:
    """The processor's name, and the cores that this process may use: another number of them has another speed."""
    return f"{processor.name()[:100]}, {counted(available_cores(), 'core')}"


def _weights(checkpoint: Checkpoint, *, encoder: bool) -> int:
    """Weights that each token meets in the encoder, or in all but the encoder."""
    total, tables = 0, [0]
    for name, tensor in checkpoint.tensors.items():
        in_encoder = checkpoint.is_encoder_decoder and ("encoder." in name.replace("decoder.", ""))
        if any(word in name for word in _POSITIONS):
            continue
        if len(tensor.shape) == 2 and any(word in name for word in _TABLES):
            tables.append(tensor.parameters)
        elif in_encoder == encoder:
            total += tensor.parameters
    return total if encoder else total + max(tables)
