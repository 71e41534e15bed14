"""How far one model's distributions are from a reference's, token by token.

The divergence of a quantized model is a small difference of large sums, so both distributions are normalized in double precision: in
float32 on a CPU, torch's `log_softmax` over 49,152 scores is 4e-6 off.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmkit.engines.base import TokenComparison
from llmkit.engines.torch.scoring import Head, Scorer, piece
from llmkit.errors import ModelError, UsageError

#: Tensors of the size of all scores that are alive at once here, for one where scores are only looked up.
_TENSORS = 8


def compare(
    model: Scorer, reference: Scorer, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None
) -> list[list[TokenComparison]]:
    """As `llmkit.engines.base.Comparing.compare`."""
    out: list[list[TokenComparison]] = []
    with torch.inference_mode():
        for part in model.parts(sequences):
            asked = [sequences[i] for i in part], [begin[i] for i in part], [sources[i] for i in part] if sources else None
            comparisons = iter(_compared(model, reference, *asked))
            out += [[next(comparisons) for _ in range(len(sequences[i]) - begin[i])] for i in part]
    return out


def _compared(
    model: Scorer, reference: Scorer, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None
) -> list[TokenComparison]:
    """Of all asked tokens, one sequence after another."""
    targets = torch.tensor([t for s, b in zip(sequences, begin, strict=True) for t in s[b:]], device=model.device)
    if not len(targets):
        return []
    (ours, head), (theirs, their_head) = model.states(sequences, begin, sources), reference.states(sequences, begin, sources)
    width = ours.shape[-1] if head is None else head.width
    if width != (theirs.shape[-1] if their_head is None else their_head.width):
        raise UsageError("`against`: the two models have vocabularies of different sizes", hint="name a model of the same family")
    step = max(1, piece(width, model.device) // _TENSORS)
    out: list[TokenComparison] = []
    for one, other, wanted in zip(ours.split(step), theirs.to(ours.device).split(step), targets.split(step), strict=True):
        out += _of_piece(_log_probs(one, head), _log_probs(other, their_head), wanted)
    return out


def _of_piece(ours: torch.Tensor, theirs: torch.Tensor, targets: torch.Tensor) -> list[TokenComparison]:
    """ours, theirs: log-probabilities [tokens, vocabulary]; targets: [tokens]."""
    weights = theirs.exp()
    # a token that the reference excludes adds nothing, also where both exclude it
    divergence = torch.where(weights > 0, weights * (theirs - ours), 0.0).sum(-1).clamp_(min=0.0)
    same = ours.argmax(-1) == theirs.argmax(-1)
    values = [scores.gather(1, targets[:, None]).squeeze(1) for scores in (ours, theirs)]
    if any(torch.isnan(each).any() for each in (divergence, *values)):
        raise ModelError("the models' scores are NaN", hint="try `dtype` float32; if they still are, the weights are damaged")
    columns = [each.tolist() for each in (*values, divergence, same)]
    return [TokenComparison(*token) for token in zip(*columns, strict=True)]


def _log_probs(states: torch.Tensor, head: Head | None) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] in double precision, where the device has it."""
    scores = states if head is None else head(states)
    if scores.device.type == "mps":
        scores = scores.float()
        return scores - scores.logsumexp(-1, keepdim=True)
    return scores.double().log_softmax(-1)
