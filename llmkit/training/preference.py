"""Direct preference optimization (DPO): the better of two answers becomes likelier than the worse one, measured from where the model began.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", equation 7. The model before the
training is the reference; what it gives each answer is found out once, so it takes no memory beside the model that is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from llmkit.engines.torch.scoring import Head
from llmkit.training.examples import Example
from llmkit.training.loss import token_log_probs_of
from llmkit.training.validation import likelihoods


def preference_loss(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of -ln sigmoid(beta * (margin of the policy - margin of the reference)) over pairs, and beta times each difference.

    policy, reference: log-probabilities of whole answers, [2 * pairs], the better one of each pair first. Returns a scalar that can be
    differentiated, and the reward margins [pairs] without a gradient.
    """
    ratios = policy - reference
    margins = beta * (ratios[0::2] - ratios[1::2])
    return -torch.nn.functional.logsigmoid(margins).sum(), margins.detach()


def batch_loss(model: Any, head: Head | None, batch: dict[str, torch.Tensor], beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`preference_loss` of a batch as `Collator` makes it of preferences: its scalar, and the reward margins [pairs]."""
    log_probs, segments = token_log_probs_of(model, head, batch)
    policy = torch.zeros(len(batch["reference"]), dtype=torch.float32, device=log_probs.device).index_add(0, segments, log_probs)
    return preference_loss(policy, batch["reference"].to(policy.device), beta)


def without_dropout(model: Any) -> None:
    """Turns the model's own dropout off (not an adapter's, which is asked for): its noise would count as a change from the reference.

    The paper's code and TRL do so, too. Some layers are told the share as an attribute, and call a function with it.
    """
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            continue
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for attribute, value in vars(module).items():
            if ("dropout" in attribute or attribute.endswith("_pdrop")) and isinstance(value, float):
                setattr(module, attribute, 0.0)


class Parts(Sequence[Example]):
    """The two sequences of each preference, one after another: item 2 i is the better, 2 i + 1 the worse one of example i."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return 2 * len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        return self.examples[index // 2].parts[index % 2]


def log_probs(model: Any, examples: Sequence[Example], *, pad: int, chosen: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Log-probabilities in nats of the better and the worse answer of each of the examples `chosen` by index.

    pad: an id to fill rows with. Raises ModelError for scores that are NaN.
    """
    wanted = [2 * i + part for i in chosen for part in (0, 1)]
    values = [document.log_likelihood for document in likelihoods(model, Parts(examples), pad=pad, chosen=wanted)]
    return {wanted[at] // 2: (values[at], values[at + 1]) for at in range(0, len(values), 2)}
