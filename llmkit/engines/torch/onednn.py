"""Linear layers on a CPU in float32 through oneDNN, their weights laid out once for its kernels.

Plain matrix products go to the BLAS that torch was built with, which knows the vector units of one maker's processors best;
oneDNN writes its kernels for the processor it runs on. `bench/perplexity.py` shows what that is worth. Inference only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D


class _Packed:
    """What both kinds of layer do with a packed weight. `weight` unpacks it, for code that looks at it past the layer."""

    packed_weight: torch.Tensor
    bias: torch.Tensor | None
    conv: bool

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self.packed_weight, self.bias, "none", [], "")
        return product

    def _unpacked(self) -> torch.Tensor:
        weight = self.packed_weight.to_dense()
        return weight.T if self.conv else weight


class PackedLinear(_Packed, nn.Linear):  # type: ignore[misc]
    """A linear layer whose weight [out, in] is kept beside its packed form."""


class PackedConv1D(_Packed, Conv1D):  # type: ignore[misc]
    """GPT-2's linear layer, weight [in, out], likewise."""


class LonePackedLinear(PackedLinear):
    """A linear layer that keeps its packed weight alone."""

    weight = property(_Packed._unpacked)


class LonePackedConv1D(PackedConv1D):
    """GPT-2's linear layer, likewise."""

    weight = property(_Packed._unpacked)


def pack(model: Any, *, keep: bool) -> int:
    """Packs the float32 linear layers of a model on the CPU, in place; how many. 0 where oneDNN is not there.

    keep: hold on to the plain weights, too (for models whose code reads them at every step). The layer that makes the
    scores keeps its own in any case: it may share it with the embeddings.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return 0
    last = model.get_output_embeddings()
    linear = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D) and m.weight.dtype == torch.float32]
    alone = {id(m.weight) for m in linear if m is not last and not keep}
    for parameter in model.parameters():
        if id(parameter) not in alone:
            # a copy of its own: with the last view of the weight file gone, the file leaves memory
            parameter.data = parameter.data.clone()
    scratch: dict[tuple[int, ...], torch.Tensor] = {}
    for module in sorted(linear, key=lambda m: m is last):
        _pack(module, type(module) is Conv1D, scratch, keep=id(module.weight) not in alone)
    return len(linear)


def _pack(module: Any, conv: bool, scratch: dict[tuple[int, ...], torch.Tensor], *, keep: bool) -> None:
    """scratch: room for a transposed weight, by shape, so that making and dropping one each leaves no holes in memory."""
    with torch.inference_mode(False), torch.no_grad():
        weight = module.weight.detach()
        if conv:
            shape = tuple(weight.T.shape)
            if shape not in scratch:
                scratch[shape] = torch.empty(shape)
            weight = scratch[shape].copy_(weight.T)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    module.__dict__["packed_weight"] = packed
    module.__dict__["conv"] = conv
    if keep:
        module.__class__ = PackedConv1D if conv else PackedLinear
    else:
        del module.weight
        module.__class__ = LonePackedConv1D if conv else LonePackedLinear
