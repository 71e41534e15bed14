"""What an adapter goes on: the linear layers on which it has an effect, and the parameters of a mixture's experts.

Knows modules by name, shape and whether the model calls them; not how an adapter is made.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from llmkit.engines.torch.loading import LoadedModel
from llmkit.errors import UsageError, did_you_mean
from llmkit.training.settings import LoraSettings

#: Layers of Mamba's kinds whose weights a fused kernel reads without calling the layer, so an adapter on them would do nothing where
#: that kernel is installed; peft 0.21 refuses them for some of these (huggingface/peft #2556).
_MAMBA = ("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "mamba", "mamba2", "nemotron_h", "zamba2")
_FUSED = ("out_proj", "conv1d")
#: In `target_parameters`: those of all experts.
ALL = "all"


@dataclass(frozen=True)
class Targets:
    """modules: ends of names of linear layers; parameters: names below a block of weights of experts.

    narrow: ends of names of layers that are left out because they are narrower than the rank. frozen_experts: numbers in experts that
    are left out.
    """

    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    frozen_experts: int = 0


def targets(loaded: LoadedModel, settings: LoraSettings) -> Targets:
    """What the adapter goes on, in a model without one.

    Without names: all linear layers but the last, those narrower than the rank (a gate of width 1), and those that the model never
    calls. Raises UsageError for a name that is not there or on which an adapter has no effect, and for a rank above a width.
    """
    modules, idle = linear_modules(loaded.model), _idle(loaded)
    experts = expert_parameters(loaded.model)
    parameters = _parameters(experts, settings)
    frozen = sum(size for name, size in experts.items() if below_block(name) not in parameters)
    if settings.targets:
        return Targets(_named(modules, settings, idle), parameters, (), frozen)
    usable = {name: shape for name, shape in modules.items() if _end(name) not in idle}
    # peft takes the ends of names, so one narrow layer excludes all of its name
    narrow = {_end(name) for name, shape in usable.items() if min(shape) < settings.r}
    chosen = tuple(sorted({_end(name) for name in usable} - narrow))
    if usable and not chosen:
        widest = max(min(shape) for shape in usable.values())
        raise UsageError(f"`lora_r` {settings.r} is above the width of every layer", hint=f"`lora_r` {widest} or less")
    if not chosen:
        raise UsageError("the model has no linear layer for an adapter", hint="`full` trains all weights")
    return Targets(chosen, parameters, tuple(sorted(narrow)), frozen)


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


def expert_parameters(model: Any) -> dict[str, int]:
    """Name → size of each matrix that holds the weights of several experts at once: no linear layer, so no adapter goes on it by itself."""
    from torch import nn

    out = {}
    for name, module in model.named_modules():
        if "expert" not in f"{name}.{type(module).__name__}".lower() or isinstance(module, nn.Linear):
            continue
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point() and parameter.ndim >= 2 and "bias" not in own:
                out[f"{name}.{own}"] = parameter.numel()
    return out


def below_block(name: str) -> str:
    """A parameter's name without that of its block: 'model.layers.3.mlp.experts.down_proj' → 'mlp.experts.down_proj'."""
    parts = name.split(".")
    number = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[number + 1 :])


def _parameters(experts: Collection[str], settings: LoraSettings) -> tuple[str, ...]:
    there = sorted({below_block(name) for name in experts})
    if not settings.parameters:
        return ()
    if not there:
        raise UsageError("`target_parameters`: the model has no experts that share a matrix", hint="remove it")
    chosen: set[str] = set()
    for wanted in settings.parameters:
        matching = [name for name in there if wanted == ALL or f".{name}".endswith(f".{wanted}")]
        if not matching:
            hint = did_you_mean(wanted, there, default=f"there are {', '.join(there)}")
            raise UsageError(f"`target_parameters` {wanted}: the model has no such weights of experts", hint=hint)
        chosen.update(matching)
    return tuple(sorted(chosen))


def _named(modules: dict[str, tuple[int, int]], settings: LoraSettings, idle: Collection[str]) -> tuple[str, ...]:
    there = {_end(name) for name in modules}
    ends = sorted(there - set(idle))
    for target in settings.targets:
        if target not in there:
            hint = did_you_mean(target, ends, default=f"there are {', '.join(ends)}")
            raise UsageError(f"`target_modules` {target}: the model has no such linear layer", hint=hint)
        if target in idle:
            raise UsageError(
                f"`target_modules` {target}: an adapter on it has no effect in this model", hint="remove it from `target_modules`"
            )
    named = {name: shape for name, shape in modules.items() if _end(name) in settings.targets}
    if any(min(shape) < settings.r for shape in named.values()):
        raise _too_wide(named, settings.r)
    return tuple(sorted(settings.targets))


def _idle(loaded: LoadedModel) -> set[str]:
    """Ends of names of linear layers that are never called: the model reads their weights by itself, past an adapter.

    Found out by asking the model for the scores of a few tokens. A mixture calls few of its experts, but one of each name.
    """
    import torch

    model, called = loaded.model, set[str]()
    modules = linear_modules(model)

    def note(name: str) -> Any:
        return lambda *_: called.add(_end(name))

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name in modules]
    ids = torch.zeros((1, 8), dtype=torch.long, device=model.device)
    more = {"decoder_input_ids": ids} if loaded.checkpoint.is_encoder_decoder else {}
    was_training = model.training
    model.train()  # a fused kernel may be for training alone
    try:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), torch.no_grad():
            model(input_ids=ids, use_cache=False, **more)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    idle = {_end(name) for name in modules} - called
    return idle | set(_FUSED if loaded.checkpoint.model_type in _MAMBA else ())


def _end(name: str) -> str:
    return name.rpartition(".")[2]


def _too_wide(modules: dict[str, tuple[int, int]], rank: int) -> UsageError:
    name, width = min(((name, min(shape)) for name, shape in modules.items()), key=lambda item: item[1])
    hint = f"`lora_r` {width} or less, or `target_modules` without '{_end(name)}'"
    return UsageError(f"`lora_r` {rank} is above the width of '{name}', {width}", hint=hint)
