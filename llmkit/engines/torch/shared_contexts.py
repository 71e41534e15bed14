"""Sequences that begin alike are scored from one reading of their beginning, as the choices of a question are.

Knows ids and caches; not what is scored, nor how scores are made of what the model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmkit.engines.torch import abilities
from llmkit.engines.torch.caches import cache_of

#: Tokens that sequences must share for it to be worth another call of the model.
_WORTH = 32


@dataclass(frozen=True)
class SharedContext:
    """What sequences begin with, and which they are. tokens: all that comes before the first asked token but for the last of it."""

    tokens: tuple[int, ...]
    members: Sequence[int]


def find(sequences: Sequence[Sequence[int]], begin: Sequence[int]) -> list[SharedContext]:
    """Contexts of several sequences, the longest first. A sequence's context is what comes before its first asked token."""
    by_context: dict[tuple[int, ...], list[int]] = {}
    for i, (sequence, first) in enumerate(zip(sequences, begin, strict=True)):
        if _WORTH < first < len(sequence):
            by_context.setdefault(tuple(sequence[:first]), []).append(i)
    shared = [SharedContext(tokens[:-1], members) for tokens, members in by_context.items() if len(members) > 1]
    return sorted(shared, key=lambda context: (-len(context.tokens), context.members[0]))


def usable(model: Any) -> bool:
    """Whether a model can go on from a context that it has read: it keeps a plain cache, and is told masks and positions."""
    known = abilities.takes_cache(model) and abilities.takes_positions(model) and not abilities.runs_alone(model)
    return known and cache_of(model) is not None


def together(contexts: Sequence[SharedContext], sequences: Sequence[Sequence[int]], positions: int) -> Iterator[list[SharedContext]]:
    """Consecutive contexts that are read in one call, so that neither call of the model takes more than `positions` (or one context)."""
    part: list[SharedContext] = []
    for context in contexts:
        rows = [i for each in (*part, context) for i in each.members]
        longest = max(len(sequences[i]) - len(each.tokens) for each in (*part, context) for i in each.members)
        if part and (len(part[0].tokens) * (len(part) + 1) > positions or longest * len(rows) > positions):
            yield part
            part = []
        part.append(context)
    if part:
        yield part


def states(
    model: Any, contexts: Sequence[SharedContext], sequences: Sequence[Sequence[int]],
    padded: Callable[[Sequence[Sequence[int]]], tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:  # fmt: skip
    """What the model gives for each sequence from the last token of its context on, [sequences, longest, width].

    The sequences are those of `contexts`, one context after another; their last tokens are not read. padded: ids and mask
    [rows, longest] of sequences, padded on the right.
    """
    cache: Any = cache_of(model)  # there is one: see `usable`
    head = _common([context.tokens for context in contexts])
    if head:
        _read(model, cache, *padded([head]), 0)
        cache.batch_repeat_interleave(len(contexts))
    ids, mask = padded([context.tokens[len(head) :] for context in contexts])
    mask = torch.cat([mask.new_ones(len(contexts), len(head)), mask], dim=1)
    _read(model, cache, ids, mask, len(head))
    places = torch.tensor([place for place, context in enumerate(contexts) for _ in context.members])
    cache.batch_select_indices(places)  # layers may lie on several devices
    rest, own = padded([sequences[i][len(context.tokens) : -1] for context in contexts for i in context.members])
    lengths = torch.tensor([len(contexts[place].tokens) for place in places.tolist()], device=rest.device)
    # padding has its row's last position: behind a long context there may be none for it
    positions = lengths[:, None] + own.cumsum(1) - 1
    both = torch.cat([mask[places.to(mask.device)], own], dim=1)
    output: torch.Tensor = model(input_ids=rest, attention_mask=both, position_ids=positions, cache=cache, use_cache=True).logits
    return output


def spared(contexts: Sequence[SharedContext]) -> list[int]:
    """Lengths of what is not read again, each as often as it is not, beside what the contexts of one call share."""
    return [len(context.tokens) for context in contexts for _ in context.members[1:]]


def _common(contexts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all contexts begin with, where it is worth a call; each keeps a token of its own."""
    first, last = min(contexts), max(contexts)  # what these two share, all share
    most = min(map(len, contexts)) - 1
    shared = next((i for i in range(most) if first[i] != last[i]), most)
    return first[:shared] if len(contexts) > 1 and shared >= _WORTH else ()


def _read(model: Any, cache: Any, ids: torch.Tensor, mask: torch.Tensor, begin: int) -> None:
    """Reads ids [rows, columns] into the cache, the first of them at position `begin`. mask: of the cache's columns and these."""
    positions = torch.arange(begin, begin + ids.shape[1], device=ids.device).expand(ids.shape)
    last = abilities.last_scores(model)
    model(input_ids=ids, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True, **last)
