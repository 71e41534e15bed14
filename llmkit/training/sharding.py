"""The frozen weights of a run, sharded over its processes with PyTorch's FSDP2 (Zhao et al. 2023): each holds a part of every layer.

A layer's parts are gathered when it runs, and freed after it. Only what is frozen is sharded. An adapter is small: each process has all of
it, and the gradients of all are averaged, so that a checkpoint is the same files as without sharding. Embeddings and the output layer stay
whole, because the loss reads the output layer outside the model's own steps.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from llmkit.errors import UnavailableError
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.devices import Device

#: Where the name of a weight says that it is one of several layers: 'model.layers.7.'.
_LAYER = re.compile(r"^(.*?\.\d+)\.")


def sharded_numbers(checkpoint: Checkpoint, processes: int) -> int:
    """How many numbers of the weights a process holds: its part of the layers, the rest whole, and the largest layer twice, gathered.

    Twice because the next layer is gathered while one runs.
    """
    layers: dict[str, int] = {}
    for name, tensor in checkpoint.tensors.items():
        if match := _LAYER.match(name):
            layers[match[1]] = layers.get(match[1], 0) + tensor.parameters
    inside = sum(layers.values())
    return checkpoint.parameters - inside + -(-inside // processes) + 2 * max(layers.values(), default=0)


def shard(model: Any, device: Device, processes: int) -> None:
    """Shards the frozen weights of the model's layers over the processes, which have met, and brings the rest to the device.

    model: with its adapter on it, the same in all processes. Raises UnavailableError for a model without a list of layers.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import DTensor

    layers = list(_layers(model))
    if not layers:
        raise UnavailableError(f"{type(model).__name__} has no list of layers to shard", hint="remove `fsdp`")
    # what a model returns is only read here
    warnings.filterwarnings("ignore", category=UserWarning, message="FSDP2-wrapped module .* returned a view")
    mesh = init_device_mesh(device.kind, (processes,))
    whole = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    rest = [parameter for parameter in model.parameters() if not isinstance(parameter, DTensor)]
    for tensor in (*rest, *model.buffers()):
        tensor.data = tensor.data.to(device.name)
    fully_shard(model, mesh=mesh, ignored_params=set(rest))
    register_fsdp_forward_method(model, "generate")  # else a run that begins with answers would take each layer for a model of its own
    # memory that is first taken inside `torch.inference_mode` could not be used for training later
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.unshard()
                module.reshard()


def _layers(model: Any) -> Iterator[Any]:
    """The items of the model's lists of layers; of a list inside a layer, such as a mixture's experts, the layer."""
    from torch.nn import ModuleList

    for child in model.children():
        if isinstance(child, ModuleList):
            yield from child
        else:
            yield from _layers(child)
