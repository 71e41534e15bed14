"""Activation functions in one pass over memory: transformers writes GPT-2's GELU as eight operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.activations import NewGELUActivation


def use_fused(model: Any) -> None:
    """Gives a float32 model torch's own GELU wherever transformers' `gelu_new` stands, in place.

    It is the same function, 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016), but for the rounding of float32, and
    keeps one tensor for the gradient in place of five. In lower precisions the results would differ by more, so nothing is changed there.
    """
    for name, module in list(model.named_modules()):
        if type(module) is NewGELUActivation and model.dtype == torch.float32:
            model.set_submodule(name, nn.GELU(approximate="tanh"))
