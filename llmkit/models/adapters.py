"""A LoRA adapter beside its base: does it belong to it?

Knows adapter folders; it imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UsageError
from llmkit.models.checkpoint import Checkpoint, Tensor, file_sha256, read_header
from llmkit.models.reference import Location, locate

_LONGEST_TEMPLATE = 1 << 20


@dataclass(frozen=True)
class Adapter:
    """An adapter folder whose parts fit together and fit the base."""

    reference: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def sha256(self) -> str:
        return file_sha256(self.folder / "adapter_model.safetensors")

    def chat_template(self) -> str | None:
        """The template of the adapter's training, which lies beside it; None where there is none. Raises ModelError."""
        path = self.folder / "chat_template.jinja"
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > _LONGEST_TEMPLATE:
                raise ModelError(f"{path}: larger than {_LONGEST_TEMPLATE:,} bytes")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ModelError(f"{path}: cannot be read: {exc}") from exc


def resolve_adapter(reference: str, base: Checkpoint, base_location: Location, *, offline: bool = False) -> Adapter:
    """Finds an adapter and holds its shapes against those of `base`.

    The base is always the one that the user named: what adapter_config.json says of it only serves the message.
    Raises ModelError for an adapter that is damaged, a pickle, or made for another base.
    """
    location = locate(reference, offline=offline)
    config = _read_config(location.folder)
    weights = location.folder / "adapter_model.safetensors"
    if not weights.exists():
        pickled = (location.folder / "adapter_model.bin").exists()
        what = "only pickle weights (adapter_model.bin); llmkit does not open them" if pickled else "no adapter_model.safetensors"
        raise ModelError(
            f"{location.folder}: {what}",
            hint="save the adapter again with safe_serialization=True" if pickled else "name the folder that finetune wrote",
        )
    if config.get("auto_mapping") or config.get("peft_type") not in (None, "LORA"):
        raise UsageError(f"{location.folder}: adapters of type {config.get('peft_type')} with code of their own are not read")
    tensors = read_header(weights)
    wanted = str(config.get("base_model_name_or_path"))
    _check_shapes(tensors, base, reference, base_location, wanted)
    _check_hash(location.folder, base, reference, base_location, wanted)
    return Adapter(reference, location.folder, config, tensors)


def _check_shapes(tensors: dict[str, Tensor], base: Checkpoint, reference: str, location: Location, wanted: str) -> None:
    """A: [rank, in] and B: [out, rank] must match the base's [out, in] matrix of the same name."""
    shapes = {name: tensor.shape for name, tensor in base.tensors.items()}
    matched = 0
    for name, tensor in tensors.items():
        module, _, part = name.removeprefix("base_model.model.").rpartition(".lora_")
        if not module or part not in ("A.weight", "B.weight"):
            continue
        shape = next((s for n in (module, *_shorter(module)) if (s := shapes.get(n + ".weight"))), None)
        if shape is None:
            raise _other_base(reference, location, wanted, f"it has no '{module}'")
        # GPT-2's Conv1D keeps its matrices the other way round: [in, out].
        sides = set(shape)
        side = tensor.shape[1] if part == "A.weight" else tensor.shape[0]
        if side not in sides:
            raise _other_base(reference, location, wanted, f"'{module}' is {list(shape)}, the adapter's {part} {list(tensor.shape)}")
        matched += 1
    if not matched:
        raise ModelError(f"{reference}: holds no LoRA matrix", hint="name the folder that finetune wrote")


def _check_hash(folder: Path, base: Checkpoint, reference: str, location: Location, wanted: str) -> None:
    """An adapter made by llmkit knows its base's weights: another fine-tune of the same shape is another base."""
    try:
        identity = json.loads((folder / "run.json").read_text(encoding="utf-8"))["identity"]
        known = identity["model.weights_sha256"]
    except FileNotFoundError:
        return  # made elsewhere
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{folder / 'run.json'}: is not the record of a finetune run ({type(exc).__name__})") from exc
    if known != base.sha256:
        raise _other_base(reference, location, wanted, f"its weights have SHA-256 {base.sha256[:12]}, the adapter's base {str(known)[:12]}")


def read_adapter_config(reference: str, *, offline: bool = False) -> dict[str, Any]:
    """The configuration of an adapter, before its base is known. Raises ModelError."""
    return _read_config(locate(reference, offline=offline).folder)


def _shorter(module: str) -> list[str]:
    """The module's name without the leading parts that some checkpoints leave away (model., transformer.)."""
    parts = module.split(".")
    return [".".join(parts[i:]) for i in range(1, min(3, len(parts)))]


def _other_base(reference: str, location: Location, wanted: str, why: str) -> ModelError:
    return ModelError(
        f"the adapter {reference} was made for another base than {location.reference}: {why}",
        hint=f"the adapter says that its base is {wanted}",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelError(f"{folder}: no adapter_config.json", hint="name the folder that finetune wrote") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a JSON object")
    return content
