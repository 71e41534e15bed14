"""A model made ready to be trained: an adapter put on it, or all of it unfrozen; and what was trained, saved and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmkit.engines.torch.loading import LoadedModel
from llmkit.errors import UsageError, did_you_mean
from llmkit.private_parts import require
from llmkit.training.settings import LoraSettings


def with_adapter(loaded: LoadedModel, settings: LoraSettings, *, quantized: bool, seed: int) -> Any:
    """The model with a fresh adapter; its base is frozen. `seed` decides the adapter's first weights.

    Raises UsageError when no module has a wanted name, or the rank is above a module's width.
    """
    import peft
    import torch

    chosen = _chosen(linear_modules(loaded.model), settings, loaded.checkpoint.model_type)
    model = loaded.model
    if quantized:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted({name.rpartition(".")[2] for name in chosen}),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        task_type="SEQ_2_SEQ_LM" if loaded.checkpoint.is_encoder_decoder else "CAUSAL_LM",
        fan_in_fan_out=_conv1d(loaded.model),
    )
    torch.manual_seed(seed)
    adapted = peft.get_peft_model(model, config)
    # the name under which the model was asked for, not this machine's folder
    adapted.peft_config["default"].base_model_name_or_path = loaded.location.reference
    adapted.peft_config["default"].revision = loaded.location.revision
    return adapted


def keep_differentiable(model: Any) -> None:
    """Undoes what bitsandbytes 0.50 does on some CPUs: in evaluation it lays 4-bit weights out for a kernel without a gradient."""
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    if layers:
        require("4-bit training")
    for module in layers:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def unfrozen(loaded: LoadedModel) -> Any:
    """The model with all its weights to be trained."""
    for parameter in loaded.model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return loaded.model


def save_weights(model: Any, folder: Path) -> None:
    """The trained weights of `model` as safetensors, with their configuration."""
    if hasattr(model, "peft_config"):
        # 'auto' would ask the hub whether the base's vocabulary has grown
        model.save_pretrained(folder, save_embedding_layers=False)
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


def linear_modules(model: Any) -> dict[str, tuple[int, int]]:
    """Name → (in, out) of every linear layer but the last one, which makes the scores."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    last = model.get_output_embeddings()
    out: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if module is last:
            continue
        if isinstance(module, nn.Linear):
            out[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            out[name] = (module.weight.shape[0], module.weight.shape[1])
    return out


def trainable(model: Any) -> tuple[int, int]:
    """Numbers of trained parameters and of all. A quantized matrix counts its elements as stored."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


#: Layers whose weights Mamba's fused kernels read without calling the layer, so an adapter on them would do nothing; peft 0.21
#: refuses them (huggingface/peft #2556).
_MAMBA = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
_MAMBA_FUSED = ("out_proj", "conv1d")


def frozen_experts(model: Any) -> int:
    """Parameters of experts that are one tensor for all (three dimensions), on which no adapter goes."""
    return sum(p.numel() for name, p in model.named_parameters() if p.ndim == 3 and "expert" in name and not p.requires_grad)


def narrow_layers(model: Any, settings: LoraSettings) -> tuple[str, ...]:
    """Names of layers that the adapter is not put on because they are narrower than its rank; none where layers are named."""
    return () if settings.targets else tuple(sorted(_narrow(linear_modules(model), settings.r)))


def _narrow(modules: dict[str, tuple[int, int]], rank: int) -> set[str]:
    # peft takes the ends of names, so one narrow layer excludes all of its name
    return {name.rpartition(".")[2] for name, shape in modules.items() if min(shape) < rank}


def _chosen(modules: dict[str, tuple[int, int]], settings: LoraSettings, model_type: str) -> dict[str, tuple[int, int]]:
    """The layers that the adapter goes on. Raises UsageError for a name that is not there, and for a rank above a width.

    Without names: all but those narrower than the rank (a gate of width 1) and those on which an adapter has no effect.
    """
    fused = _MAMBA_FUSED if model_type in _MAMBA else ()
    if not settings.targets:
        usable = {name: shape for name, shape in modules.items() if name.rpartition(".")[2] not in fused}
        narrow = _narrow(usable, settings.r)
        chosen = {name: shape for name, shape in usable.items() if name.rpartition(".")[2] not in narrow}
        if usable and not chosen:
            raise _too_wide(usable, settings.r)
        if not chosen:
            raise UsageError("the model has no linear layer that an adapter could go on", hint="`full` trains all weights")
        return chosen
    ends = sorted({name.rpartition(".")[2] for name in modules})
    for target in settings.targets:
        if target not in ends:
            hint = did_you_mean(target, ends, default=f"there are {', '.join(ends)}")
            raise UsageError(f"`target_modules` {target}: the model has no such linear layer", hint=hint)
        if target in fused:
            raise UsageError(
                f"`target_modules` {target}: an adapter on it has no effect in a {model_type} model", hint="remove it from `target_modules`"
            )
    named = {name: shape for name, shape in modules.items() if name.rpartition(".")[2] in settings.targets}
    if any(min(shape) < settings.r for shape in named.values()):
        raise _too_wide(named, settings.r)
    return named


def _too_wide(modules: dict[str, tuple[int, int]], rank: int) -> UsageError:
    name, width = min(((name, min(shape)) for name, shape in modules.items()), key=lambda item: item[1])
    hint = f"`lora_r` {width} or less, or `target_modules` without '{name.rpartition('.')[2]}'"
    return UsageError(f"`lora_r` {rank} is above the width of '{name}', {width}", hint=hint)


def _conv1d(model: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
