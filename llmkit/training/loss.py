"""Cross-entropy of the trained tokens, without ever holding all their scores over the vocabulary."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from llmkit.engines.torch.scoring import Head, piece
from llmkit.training.batches import IGNORED, INPUTS


def summed_loss(model: Any, head: Head | None, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of -ln p over the trained tokens of a batch, a float32 scalar that can be differentiated.

    model: called with the batch, perhaps wrapped for several processes; head: its last matrix, None where the scores are
    more than a matrix product (all are made then). Only trained positions reach the last matrix, a piece at a time.
    """
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name in INPUTS}
    trained = labels != IGNORED
    with head.left_out() if head else nullcontext():
        states = model(**inputs, use_cache=False).logits[trained]
    targets = labels[trained]
    if head is None:
        return torch.nn.functional.cross_entropy(states.float(), targets, reduction="sum")
    weights = [p for p in head.matrix.parameters() if p.requires_grad]
    loss: torch.Tensor = _PiecewiseLoss.apply(states, targets, head, *weights)
    return loss


def token_log_probs_of(model: Any, head: Head | None, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Natural-log probabilities of the trained tokens of a batch, float32 [tokens], and the `segments` that they are of, [tokens].

    model, head: as of `summed_loss`. The scores over the vocabulary are made a piece at a time, and again for the gradient.
    """
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name in INPUTS}
    trained = labels != IGNORED
    with head.left_out() if head else nullcontext():
        states = model(**inputs, use_cache=False).logits[trained]
    targets, segments = labels[trained], batch["segments"][trained]
    if head is None:
        return -torch.nn.functional.cross_entropy(states.float(), targets, reduction="none"), segments
    weights = [p for p in head.matrix.parameters() if p.requires_grad]
    log_probs: torch.Tensor = _PiecewiseLogProbs.apply(states, targets, head, *weights)
    return log_probs, segments


class _PiecewiseLogProbs(torch.autograd.Function):  # type: ignore[misc]
    """What each token gets; its scores are dropped, and made again in the backward pass, when it is known how much each counts."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, targets: torch.Tensor, head: Head, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(states, targets)
        ctx.head, ctx.weights = head, weights
        step = piece(head.width, states.device)
        pieces = [
            -torch.nn.functional.cross_entropy(head(part).float(), wanted, reduction="none")
            for part, wanted in zip(states.split(step), targets.split(step), strict=True)
        ]
        return torch.cat(pieces) if pieces else states.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, targets = ctx.saved_tensors
        step = piece(ctx.head.width, states.device)
        gradient, sums = torch.zeros_like(states), [torch.zeros_like(w) for w in ctx.weights]
        for start in range(0, len(states), step):
            part = states[start : start + step].detach().requires_grad_(True)
            with torch.enable_grad():
                scores = ctx.head(part).float()
                log_probs = -torch.nn.functional.cross_entropy(scores, targets[start : start + step], reduction="none")
            own, *others = torch.autograd.grad(log_probs, [part, *ctx.weights], outer[0][start : start + step])
            gradient[start : start + step] = own
            for whole, more in zip(sums, others, strict=True):
                whole += more
        return (gradient, None, None, *sums)


class _PiecewiseLoss(torch.autograd.Function):  # type: ignore[misc]
    """Loss and gradients of a piece of the scores are made at once, and the scores dropped.

    The idea is that of fused linear cross-entropy (Hsu et al. 2024, Liger Kernel): what is kept is the gradient of the
    hidden states, which is no larger than they are.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, targets: torch.Tensor, head: Head, *weights: torch.Tensor) -> torch.Tensor:
        step = piece(head.width, states.device)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        gradient = torch.empty_like(states)
        sums = [torch.zeros_like(w) for w in weights]
        for start in range(0, len(states), step):
            part = states[start : start + step].detach().requires_grad_(True)
            with torch.enable_grad():
                loss = torch.nn.functional.cross_entropy(head(part).float(), targets[start : start + step], reduction="sum")
            total += loss.detach()
            own, *others = torch.autograd.grad(loss, [part, *weights])
            gradient[start : start + step] = own
            for whole, more in zip(sums, others, strict=True):
                whole += more
        ctx.gradients = (gradient, sums)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient, sums = ctx.gradients
        return (gradient * outer[0], None, None, *(total * outer[0] for total in sums))
