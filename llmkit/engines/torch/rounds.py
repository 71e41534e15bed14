"""Rows leave a batch as they end: transformers' `generate` in rounds over one cache, each with the rows that go on.

A padded batch computes every row until the longest answer ends. A round ends once an eighth of its rows have; the others' part of the
cache is kept, so nothing is computed twice. Knows rows, ids and caches; not how text becomes tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria

from llmkit.engines.base import Request

#: A round ends with every so many-th of its rows: a new round takes as long as a small part of a step does.
_SHARE = 8
#: Tokens that all prompts must begin with for it to be worth a call of the model.
_WORTH = 32


@dataclass(frozen=True)
class Batch:
    """Rows that run together.

    ids, mask: [rows, columns], padded. numbers: (row, sample) of each. prompt_length: columns before the answers; done: new tokens so far.
    """

    rows: Sequence[Request]
    numbers: Sequence[tuple[int, int]]
    ids: torch.Tensor
    mask: torch.Tensor
    padding: Sequence[int]
    prompt_length: int
    done: int = 0

    @property
    def limits(self) -> list[int]:
        """New tokens that each row may have."""
        return [row.max_new_tokens for row in self.rows]

    def after(self, output: torch.Tensor, left: Sequence[int]) -> Batch:
        """The rows `left`, with what a round wrote: output [rows, columns]."""
        ids = output[list(left)]
        new = ids.shape[1] - self.mask.shape[1]
        mask = torch.cat([self.mask[list(left)], self.mask.new_ones(len(left), new)], dim=1)
        chosen: list[list[Any]] = [[each[i] for i in left] for each in (self.rows, self.numbers, self.padding)]
        rows, numbers, padding = chosen
        return replace(self, rows=rows, numbers=numbers, padding=padding, ids=ids, mask=mask, done=self.done + new)


@dataclass(frozen=True)
class Written:
    """What a call of `generate` gave. output: [rows, columns], prompt and answer; broken: rows whose scores were NaN."""

    output: torch.Tensor
    broken: Sequence[bool]


class Ended(StoppingCriteria):  # type: ignore[misc]
    """Ends each row by the end tokens and criteria it holds, and the whole round once enough rows have ended.

    ends: ids that end an answer; criteria: further ones, of single rows.
    """

    def __init__(self, ends: Sequence[int], criteria: Sequence[StoppingCriteria], rows: int) -> None:
        self.ends, self.criteria = torch.tensor(sorted(ends), dtype=torch.int64), criteria
        self.rows, self.enough = torch.zeros(rows, dtype=torch.bool), max(1, rows // _SHARE)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Rows that have ended, [rows] bool; input_ids: [rows, tokens]."""
        now = torch.isin(input_ids[:, -1].cpu(), self.ends)
        for criterion in self.criteria:
            now |= criterion(input_ids, scores, **more).cpu()
        self.rows |= now
        over = int(self.rows.sum()) >= self.enough
        return (torch.ones_like(now) if over else now).to(input_ids.device)


def read_prefix(model: Any, batch: Batch, cache: DynamicCache, pad: int, **more: Any) -> Batch:
    """Reads what all prompts begin with once, into `cache`; the batch with its padding behind that, where that is worth it.

    For models that are told each token's position, which the mask gives. more: for the call of the model.
    """
    prompts = [row.tokens for row in batch.rows]
    first, last = min(prompts), max(prompts)  # what these two share, all share
    most = min(map(len, prompts)) - 1  # each has to have a token left to go on from
    shared = next((i for i in range(most) if first[i] != last[i]), most)
    if shared < _WORTH:
        return batch
    prefix = batch.ids.new_tensor([first[:shared]])
    model(input_ids=prefix, attention_mask=torch.ones_like(prefix), cache=cache, use_cache=True, **more)
    cache.batch_repeat_interleave(len(prompts))
    rows = [(*tokens[:shared], *[pad] * padding, *tokens[shared:]) for tokens, padding in zip(prompts, batch.padding, strict=True)]
    mask = torch.ones_like(batch.mask)
    for i, padding in enumerate(batch.padding):
        mask[i, shared : shared + padding] = 0
    return replace(batch, ids=batch.ids.new_tensor(rows), mask=mask)


def in_rounds(batch: Batch, cache: DynamicCache, generate: Callable[[Batch, DynamicCache], tuple[Written, Ended]]) -> list[Written]:
    """Each row's own, of one row: as `generate` would write it in a batch whose rows all stay.

    generate: goes on with a batch over a cache that holds all columns but the last, until its rows have ended or enough of them have.
    """
    most, places = max(batch.limits), list(range(len(batch.rows)))
    by_place: dict[int, Written] = {}
    broken: set[int] = set()
    while places:
        written, ended = generate(batch, cache)
        broken |= {place for place, bad in zip(places, written.broken, strict=True) if bad}
        last = batch.done + written.output.shape[1] - batch.ids.shape[1] >= most or not bool(ended.rows.any())
        left = [i for i in range(len(places)) if not last and not ended.rows[i]]
        for i, place in enumerate(places):
            if i not in left:
                by_place[place] = Written(written.output[i : i + 1], [place in broken])
        places = [places[i] for i in left]
        if places:
            cache.batch_select_indices(torch.tensor(left))  # layers may lie on several devices
            batch = batch.after(written.output, left)
    return [by_place[place] for place in range(len(by_place))]
