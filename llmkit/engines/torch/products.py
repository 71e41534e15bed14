"""Matrix products in float32 through oneDNN, which writes its kernels for the processor it runs on. Imports nothing heavy but torch."""

from __future__ import annotations

import torch

from llmkit.private_parts import available


def is_available() -> bool:
    """Whether this torch has oneDNN, and the operations of it that the others here call."""
    return torch.backends.mkldnn.is_available() and available("onednn")


def product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """states [..., in] times the transpose of weight, plus bias [out]: [..., out].

    weight: [out, in], laid out or not; one that is not may be a transposed view.
    """
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return result


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """A weight [out, in] in the layout of oneDNN's kernels."""
    result: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return result
