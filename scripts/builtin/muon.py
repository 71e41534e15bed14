"""The optimizer of the matrices inside the blocks: Muon, in a precision that the processor has.

torch.optim.Muon is the same in bfloat16 whatever the processor; one that only emulates it would spend its time there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

#: Of the quintic iteration, and how often it is done (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Steps of matrices along the nearest orthogonal matrix to their momentum (Nesterov's), with decoupled weight decay.

    dtype: in which the orthogonal matrix is sought; parameters and momentum keep their own.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float, momentum: float, dtype: torch.dtype):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(param.grad)
                buffer = state["momentum_buffer"].lerp_(param.grad, 1 - momentum)
                update = orthogonalized(param.grad.lerp(buffer, momentum), self._dtype)
                rows, columns = param.shape
                param.mul_(1 - lr * group["weight_decay"])
                param.add_(update, alpha=-lr * math.sqrt(max(1, rows / columns)))


def orthogonalized(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Roughly the orthogonal matrix next to `matrix`, [rows, columns]: its singular values become 0.5 to 1.5."""
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.to(dtype).T if tall else matrix.to(dtype)
    x = x / x.norm().clamp(min=_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
