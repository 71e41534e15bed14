"""A LoRA adapter beside its base: does it belong to it?

Knows adapter folders; it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, UnavailableError
from llmkit.files import file_sha256
from llmkit.models import lora
from llmkit.models.checkpoint import Checkpoint, Tensor, read_header
from llmkit.models.reference import KINDS, NOT_HERE, Location, locate
from llmkit.models.small_files import MAX_INDEX, read_object
from llmkit.models.view import View, chat_template


@dataclass(frozen=True)
class Adapter:
    """An adapter folder whose parts fit together and fit the base."""

    reference: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    #: Tokens of the adapter's own embeddings, where they are not as many as the base's.
    vocabulary: int | None = None

    @property
    def sha256(self) -> str:
        """Hash of the adapter's weights."""
        return file_sha256(self.folder / "adapter_model.safetensors")

    def chat_template(self) -> str | None:
        """The template that lies beside the adapter; None where there is none. Raises ModelError."""
        return chat_template(self.folder)

    def view(self) -> View:
        """The folder that peft is shown: the checked matrices, and settings written by llmkit."""
        view = View(self.folder.name)
        view.write("adapter_config.json", self.config)
        view.link(self.folder / "adapter_model.safetensors")
        return view


def resolve_adapter(reference: str, base: Checkpoint, base_location: Location, *, offline: bool = False) -> Adapter:
    """Finds an adapter and holds its shapes against those of `base`.

    The base is always the one that the user named: what adapter_config.json says of it only serves the message.
    Raises ModelError for an adapter that is damaged, a pickle, or made for another base.
    """
    location = _locate(reference, offline=offline)
    config = lora.read(location.folder)
    weights = location.folder / "adapter_model.safetensors"
    if not weights.exists():
        pickled = (location.folder / "adapter_model.bin").exists()
        what = "only pickle weights (adapter_model.bin); llmkit does not open them" if pickled else "no adapter_model.safetensors"
        raise ModelError(
            f"{location.folder}: {what}",
            hint="save the adapter again with safe_serialization=True" if pickled else "name the folder that finetune wrote",
        )
    tensors = read_header(weights)
    wanted = str(config.get("base_model_name_or_path"))
    _check_shapes(config, tensors, base, reference, base_location, wanted)
    _check_hash(location.folder, base, reference, base_location, wanted)
    shown = lora.shown(location.folder / "adapter_config.json", config, tensors)
    return Adapter(reference, location.folder, shown, tensors, _vocabulary(tensors, base, reference, base_location, wanted))


def _check_shapes(
    config: Mapping[str, Any], tensors: dict[str, Tensor], base: Checkpoint, reference: str, location: Location, wanted: str
) -> None:
    """A: [rank, in] and B: [out, rank] must match the base's [out, in] matrix of the same name."""
    shapes = {name: tensor.shape for name, tensor in base.tensors.items()}
    pairs = lora.matrices(tensors)
    # modules whose own parameters are adapted, such as those of all experts: files may know these by other names (Mixtral's do)
    holders = tuple(f".{name.rpartition('.')[0]}" for name in config.get("target_parameters") or ())
    for (module, part), tensor in pairs.items():
        shape = next((s for n in (module, *_shorter(module)) if (s := shapes.get(n + ".weight"))), None)
        if shape is None:
            if holders and f".{module.removesuffix('.base_layer')}".endswith(holders):
                continue  # peft compares the shapes
            raise _other_base(reference, location, wanted, f"it has no '{module}'")
        # GPT-2's Conv1D keeps its matrices the other way round: [in, out].
        side = tensor.shape[1] if part == "A" else tensor.shape[0]
        if side not in shape:
            raise _other_base(reference, location, wanted, f"'{module}' is {list(shape)}, the adapter's {part} {list(tensor.shape)}")
    if not pairs:
        raise ModelError(f"{reference}: holds no LoRA matrix", hint="name the folder that finetune wrote")


def _vocabulary(tensors: dict[str, Tensor], base: Checkpoint, reference: str, location: Location, wanted: str) -> int | None:
    """Rows of embeddings that are saved whole and are not as many as the base's: tokens were added before the training."""
    rows = set()
    for name, tensor in lora.whole_weights(tensors).items():
        known = next((t for n in (name, *_shorter(name)) if (t := base.tensors.get(n))), None)
        if known is None or known.shape == tensor.shape:
            continue
        if len(known.shape) != 2 or tensor.shape[1:] != known.shape[1:]:
            raise _other_base(reference, location, wanted, f"'{name}' is {list(known.shape)}, the adapter's {list(tensor.shape)}")
        rows.add(tensor.shape[0])
    if len(rows) > 1:
        raise ModelError(f"{reference}: its embeddings have {' and '.join(map(str, sorted(rows)))} tokens")
    return rows.pop() if rows else None


def _check_hash(folder: Path, base: Checkpoint, reference: str, location: Location, wanted: str) -> None:
    """An adapter made by llmkit knows its base's weights: another fine-tune of the same shape is another base."""
    try:
        record = read_object(folder / "run.json", MAX_INDEX)
        if record.get("command") != "finetune":
            return  # another program's file of that name
        known = record["identity"]["model.weights_sha256"]
    except FileNotFoundError:
        return  # made elsewhere
    except (KeyError, TypeError) as exc:
        raise ModelError(f"{folder / 'run.json'}: is not the record of a finetune run ({type(exc).__name__})") from exc
    if known != base.sha256:
        raise _other_base(reference, location, wanted, f"its weights have SHA-256 {base.sha256[:12]}, the adapter's base {str(known)[:12]}")


def read_adapter_config(reference: str, *, offline: bool = False) -> dict[str, Any]:
    """The configuration of an adapter, before its base is known. Raises ModelError, UsageError or UnavailableError."""
    return lora.read(_locate(reference, offline=offline).folder)


def _locate(reference: str, *, offline: bool) -> Location:
    """Where an adapter lies. Raises what `locate` raises, with hints about adapters: no model helps here."""
    try:
        return locate(reference, offline=offline)
    except UnavailableError as exc:
        if exc.hint in (KINDS, NOT_HERE):
            exc.hint = "an adapter is the folder that llmkit finetune wrote, or org/name on the hub"
        raise


def _shorter(module: str) -> list[str]:
    """The module's name without the leading parts that some checkpoints do not have (model., transformer.)."""
    parts = module.split(".")
    return [".".join(parts[i:]) for i in range(1, min(3, len(parts)))]


def _other_base(reference: str, location: Location, wanted: str, why: str) -> ModelError:
    return ModelError(
        f"the adapter {reference} was made for another base than {location.reference}: {why}",
        hint=f"the adapter says that its base is {wanted}",
    )
