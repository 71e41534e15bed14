"""A model made ready to be trained: an adapter put on it, or all of it unfrozen; and what was trained, saved and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmkit.engines.torch.loading import LoadedModel
from llmkit.private_parts import require
from llmkit.training.settings import LoraSettings
from llmkit.training.targets import Targets


def with_adapter(loaded: LoadedModel, settings: LoraSettings, chosen: Targets, *, quantized: bool, seed: int) -> Any:
    """The model with a fresh adapter on what was chosen; its base is frozen. `seed` decides the adapter's first weights."""
    import peft
    import torch

    model = loaded.model
    if quantized:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(chosen.modules),
        target_parameters=list(chosen.parameters) or None,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        task_type="SEQ_2_SEQ_LM" if loaded.checkpoint.is_encoder_decoder else "CAUSAL_LM",
        fan_in_fan_out=_conv1d(loaded.model),
    )
    torch.manual_seed(seed)
    adapted = peft.get_peft_model(model, config)
    name_base(adapted, loaded)
    return adapted


def name_base(adapted: Any, loaded: LoadedModel) -> None:
    """Writes the base's reference into the adapter's configuration: the name under which it was asked for, not this machine's folder."""
    adapted.peft_config["default"].base_model_name_or_path = loaded.location.reference
    adapted.peft_config["default"].revision = loaded.location.revision


def keep_differentiable(model: Any) -> None:
    """Undoes what bitsandbytes 0.50 does on some CPUs: in evaluation it lays 4-bit weights out for a kernel without a gradient."""
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    if layers:
        require("4-bit training")
    for module in layers:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def unfrozen(loaded: LoadedModel) -> Any:
    """The model with all its weights to be trained that are floating-point numbers."""
    for parameter in loaded.model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return loaded.model


def save_weights(model: Any, folder: Path, *, embeddings: bool = False) -> None:
    """The trained weights of `model` as safetensors, with their configuration. embeddings: an adapter's with them."""
    if hasattr(model, "peft_config"):
        # 'auto' would ask the hub whether the base's vocabulary has grown
        model.save_pretrained(folder, save_embedding_layers=embeddings)
        (folder / "README.md").unlink(missing_ok=True)  # peft's template; ours comes at the end
    else:
        model.save_pretrained(folder)


def put_weights(model: Any, folder: Path) -> None:
    """The trained weights of a checkpoint, put into `model`."""
    from safetensors.torch import load_file

    if hasattr(model, "peft_config"):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        return
    from transformers.modeling_utils import load_sharded_checkpoint

    if (folder / "model.safetensors").exists():
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    else:
        load_sharded_checkpoint(model, str(folder), strict=False)


def trainable(model: Any) -> tuple[int, int]:
    """(trained parameters, all parameters). A quantized matrix counts its elements as stored."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


def _conv1d(model: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
