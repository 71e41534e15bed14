"""Matrix products of training in float32 through oneDNN, on processors whose widest instructions the BLAS of torch leaves unused.

That is MKL, which uses AVX-512 on processors of Intel alone. Unlike onednn.py, which lays weights out once for inference, this
leaves the weights as they are: there are gradients, and each call has enough rows to lay a weight out for itself. What
decides is the processor, and no measurement, so that a run that is continued multiplies as it did before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from llmkit.engines.torch.products import is_available, product
from llmkit.models.processor import made_by_intel

#: Rows from which a product is faster, and the least size of a weight's smaller side.
_ROWS, _SIDE = 8, 8


def pays_off() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than torch's own products do on this processor."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and not made_by_intel()
    return wide and torch.backends.mkl.is_available() and is_available()


def use_wide_products(model: Any) -> None:
    """Puts layers that multiply through oneDNN in the places of the plain float32 linear layers on a CPU. They hold the same weights."""
    for name, module in list(model.named_modules()):
        kind = _WIDE.get(type(module))
        if kind is None or module.weight.dtype != torch.float32 or module.weight.device.type != "cpu":
            continue
        if min(module.weight.shape) >= _SIDE:
            model.set_submodule(name, kind(module))


class WideLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer with the weights of another one."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)  # weights of its own would be made for nothing
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states: [..., in_features]. Returns [..., out_features]."""
        return _linear(states, self.weight, self.bias)


class WideConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's linear layer, whose weight is [in, out], with the weights of another one."""

    def __init__(self, layer: Conv1D) -> None:
        nn.Module.__init__(self)
        self.nx, self.nf = layer.nx, layer.nf
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states: [..., in]. Returns [..., out]."""
        return _linear(states, self.weight.t(), self.bias)


_WIDE: dict[type[nn.Module], Any] = {nn.Linear: WideLinear, Conv1D: WideConv1D}


def _linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if states.numel() // states.shape[-1] < _ROWS:
        return nn.functional.linear(states, weight, bias)
    result: torch.Tensor = _Product.apply(states, weight, bias)
    return result


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """states [..., in] times the transpose of weight [out, in], plus bias [out]."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(states if ctx.needs_input_grad[1] else None, weight)
        return product(states, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            product(gradient, weight.t()) if of_states else None,
            _of_weight(rows, states.reshape(-1, states.shape[-1])) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _of_weight(gradient: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """The gradient of a weight [out, in], from rows [..., out] and [..., in]. Few rows times many columns is the faster way round."""
    if gradient.shape[1] > states.shape[1]:
        return product(states.t(), gradient.t()).t()
    return product(gradient.t(), states.t())
