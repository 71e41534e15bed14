"""How well the model predicts the trained tokens, by the scorer that `llmkit evaluate perplexity` uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmkit.engines.torch.scoring import Scorer
from llmkit.metrics.perplexity import Likelihood
from llmkit.training.examples import Example

#: Positions scored at once.
_TOKENS = 8192


def likelihoods(model: Any, examples: Sequence[Example], *, pad: int, chosen: Sequence[int] | None = None) -> list[Likelihood]:
    """The log-likelihood in nats of each example's trained tokens, given those before them; of those `chosen` by index, or of all.

    pad: an id to fill rows with. The model's mode is left as it was. Raises ModelError for scores that are NaN.
    """
    chosen = range(len(examples)) if chosen is None else chosen
    encoder_decoder = bool(examples) and examples[0].encoder_tokens is not None
    scorer = Scorer(model, pad=pad, encoder_decoder=encoder_decoder)
    was_training = model.training
    model.eval()
    by_index: dict[int, Likelihood] = {}
    try:
        for group in _groups(examples, chosen):
            chosen_examples = [examples[i] for i in group]
            sources = [list(e.encoder_tokens or ()) for e in chosen_examples] if encoder_decoder else None
            scored = scorer.score([list(e.tokens) for e in chosen_examples], [1] * len(group), sources)
            for i, example, scores in zip(group, chosen_examples, scored, strict=True):
                total = sum(score for score, trained in zip(scores, example.loss_mask[1:], strict=True) if trained)
                by_index[i] = Likelihood(total, example.trained, example.words, example.bytes)
    finally:
        model.train(was_training)
    return [by_index[i] for i in chosen]


def mean_loss(documents: Sequence[Likelihood]) -> float:
    """Nats a trained token. documents: with one such token at least."""
    return -sum(d.log_likelihood for d in documents) / sum(d.tokens for d in documents)


def _groups(examples: Sequence[Example], chosen: Sequence[int]) -> list[list[int]]:
    """Examples of like length, at most `_TOKENS` positions with padding."""
    sizes = {i: examples[i].width for i in chosen}
    groups: list[list[int]] = []
    for i in sorted(chosen, key=lambda i: (sizes[i], i)):
        if not groups or sizes[i] * (len(groups[-1]) + 1) > _TOKENS:
            groups.append([])
        groups[-1].append(i)
    return groups
