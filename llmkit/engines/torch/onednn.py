"""Linear layers on a CPU in float32 through oneDNN, their weights laid out once for its kernels.

Plain matrix products go to the BLAS that torch was built with, which knows the vector units of one maker's processors best;
oneDNN writes its kernels for the processor it runs on. `python -m bench --only score` shows what that is worth. Inference only.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmkit.engines.torch import products

#: Bytes of weights that are tried: more than most caches hold, and laid out within a tenth of a second. How often both are timed.
_TRIED, _TRIES = 1 << 26, 8
#: Bytes read by an answer below which no layout is worth trying: a third of a second.
_MATTERS = 8_000_000_000


class _OneDnn(nn.Module):  # type: ignore[misc]
    """What both kinds of layer do with a weight in oneDNN's layout."""

    def __init__(self, layer: Any, laid_out: torch.Tensor) -> None:
        super().__init__()
        self.conv = type(layer) is Conv1D
        self.out_features, self.in_features = laid_out.shape
        self.laid_out = laid_out
        self.register_parameter("bias", layer.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return products.product(states, self.laid_out, self.bias)


class OneDnnLinear(_OneDnn):
    """A linear layer that keeps its weight in oneDNN's layout alone.

    weight: [out, in], or [in, out] where the layer was GPT-2's Conv1D; made anew each time that code looks at it.
    """

    @property
    def weight(self) -> torch.Tensor:
        """[out, in], or [in, out] for a Conv1D: a new tensor at each access, which takes as much memory as the layer itself."""
        weight: torch.Tensor = self.laid_out.to_dense()
        return weight.T if self.conv else weight


class WeightedOneDnnLinear(_OneDnn):
    """A linear layer that keeps its plain weight, too."""

    def __init__(self, layer: Any, laid_out: torch.Tensor) -> None:
        super().__init__(layer, laid_out)
        self.register_parameter("weight", layer.weight)


def use_onednn(model: Any, *, keep: bool, owned: bool) -> Any:
    """The model with its float32 linear layers replaced by oneDNN's; the model itself where there is none, or no oneDNN.

    keep: hold on to the plain weights, too (for models whose code reads them at every step). The layer that makes the
    scores keeps its own in any case: it may share it with the embeddings.
    owned: nobody else uses `model`, so it is changed in place and each weight is freed as its new layout is made. If not owned,
    `model` stays as it is, and what is returned shares with it all weights that have no new layout.
    """
    if not _usable(model):
        return model
    if not owned:
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        model = copy.deepcopy(model, shared)
    last = model.get_output_embeddings()
    linear = {module: name for name, module in model.named_modules() if _is_plain(module)}
    alone = {id(m.weight) for m in linear if m is not last and not keep}
    if owned:
        for parameter in model.parameters():
            if id(parameter) not in alone:
                # a copy of its own: with the last view of the weight file gone, the file leaves memory
                parameter.data = parameter.data.clone()
    names = [(name, module is last) for module, name in linear.items()]
    tied = {id(m.weight) for m in linear} - alone
    linear.clear()  # it would keep the weights
    scratch: dict[tuple[int, ...], torch.Tensor] = {}
    for name, _ in sorted(names, key=lambda named: named[1]):
        layer = model.get_submodule(name)
        kind = WeightedOneDnnLinear if id(layer.weight) in tied else OneDnnLinear
        model.set_submodule(name, kind(layer, _laid_out(layer, scratch)))
    return model


class Gain:
    """Whether steps of one row pay off laying the weights out. It depends on the processor, and on who made the BLAS of this torch.

    It is measured on some of the layers when it is first asked about an answer long enough that it may matter.
    """

    def __init__(self, model: Any) -> None:
        self._steps, self._model = 0, model
        self._bytes = sum(layer.weight.nbytes for layer in self._layers()) if _usable(model) else 0

    def pays_off(self, steps: int) -> bool:
        """Whether so many steps, with those of answers before, take longer with plain weights than laying out the others and using them."""
        self._steps += steps
        if self._steps * self._bytes < _MATTERS:
            return False
        making, saved = self._measured
        return self._steps * saved > making

    @cached_property
    def _measured(self) -> tuple[float, float]:
        """Seconds that laying some layers out takes, and that it saves them in a step."""
        every = self._layers()
        sizes = itertools.accumulate(layer.weight.nbytes for layer in every)
        layers = [layer for layer, size in zip(every, sizes, strict=True) if size - layer.weight.nbytes < _TRIED]
        scratch: dict[tuple[int, ...], torch.Tensor] = {}
        with torch.inference_mode():
            begun = time.perf_counter()
            laid_out = [OneDnnLinear(layer, _laid_out(layer, scratch)) for layer in layers]
            making = time.perf_counter() - begun
            rows = [torch.ones(1, 1, layer.in_features) for layer in laid_out]
            times = [(_seconds(layers, rows), _seconds(laid_out, rows)) for _ in range(_TRIES)]
        return making, min(plain for plain, _ in times) - min(other for _, other in times)

    def _layers(self) -> list[Any]:
        """Found anew each time: to hold them would keep their weights in memory beside the layout."""
        last = self._model.get_output_embeddings()
        return [module for module in self._model.modules() if _is_plain(module) and module is not last]


def _seconds(layers: Sequence[nn.Module], rows: Sequence[torch.Tensor]) -> float:
    begun = time.perf_counter()
    for layer, row in zip(layers, rows, strict=True):
        layer(row)
    return time.perf_counter() - begun


def _usable(model: Any) -> bool:
    if model.device.type != "cpu" or not products.is_available():
        return False
    return any(_is_plain(module) for module in model.modules())


def _is_plain(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, Conv1D) and module.weight.dtype == torch.float32


def _laid_out(layer: Any, scratch: dict[tuple[int, ...], torch.Tensor]) -> torch.Tensor:
    """The weight [out, in] in oneDNN's layout.

    scratch: room for a transposed weight, by shape, so that making and dropping one each leaves no holes in memory.
    """
    with torch.inference_mode(False), torch.no_grad():
        weight = layer.weight.detach()
        if type(layer) is Conv1D:
            shape = tuple(weight.T.shape)
            if shape not in scratch:
                scratch[shape] = torch.empty(shape)
            weight = scratch[shape].copy_(weight.T)
        return products.laid_out(weight)
