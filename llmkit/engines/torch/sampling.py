"""What happens to a model's scores before a token is chosen: penalties, filters, constraints and repeatable sampling.

All are transformers `LogitsProcessor`s over [rows, vocabulary] scores. Random numbers are a function of seed, row,
sample and position, so neither batching nor speculation changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import CONTEXT, Stops, continuation

if TYPE_CHECKING:
    from llmkit.engines.torch.constraints import Constraint


def chain(
    decoding: Decoding,
    *,
    padding: Sequence[int],
    prompt_length: int,
    numbers: Sequence[tuple[int, int]],
    limits: Sequence[int],
    constraint: Constraint | None,
    guard: LogitsProcessor,
) -> LogitsProcessorList:
    """The processors of a batch, in the order transformers applies its own.

    padding: leading pad tokens of each row (of each beam); prompt_length: padded; numbers: (row, sample) of each row;
    limits: new tokens that each row may have.
    """
    processors = LogitsProcessorList([guard])
    if decoding.repetition_penalty != 1.0:
        processors.append(_unpadded(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty), padding))
    if decoding.no_repeat_ngram_size:
        processors.append(_unpadded(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram_size), padding))
    if constraint is not None:
        processors.append(Constrained(constraint, limits, prompt_length))
    if decoding.samples:
        if decoding.temperature != 1.0:
            processors.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_k is not None:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p is not None and decoding.top_p < 1.0:
            processors.append(TopPLogitsWarper(decoding.top_p))
        if decoding.min_p:
            processors.append(MinPLogitsWarper(decoding.min_p))
        processors.append(Draw(decoding.seed, numbers, prompt_length))
    return processors


class NanGuard(LogitsProcessor):  # type: ignore[misc]
    """Remembers the rows whose scores became NaN, of which the argmax would be a token like any other.

    limits: new tokens that each row of the batch may have; what comes after them is padding.
    """

    def __init__(self, limits: Sequence[int], prompt_length: int) -> None:
        self.limits, self.prompt_length, self.rows = limits, prompt_length, len(limits)
        self.broken: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: [rows, vocabulary], given back as they are."""
        past = ended(self.limits, input_ids.shape[1] - self.prompt_length).repeat_interleave(scores.shape[0] // self.rows)
        now = scores.amax(-1).isnan() & ~past.to(scores.device)
        self.broken = now if self.broken is None else self.broken | now
        return scores

    def broken_rows(self) -> list[bool]:
        """Of the batch's rows; one broken beam breaks its row."""
        if self.broken is None:
            return [False] * self.rows
        broken: list[bool] = self.broken.view(self.rows, -1).any(-1).tolist()
        return broken


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws a token a row by inverting the cumulative distribution; the others get -inf, so the argmax is the draw."""

    def __init__(self, seed: int, numbers: Sequence[tuple[int, int]], prompt_length: int) -> None:
        self.seed, self.numbers, self.prompt_length = seed, numbers, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: [rows, vocabulary], summed in float64. Returns 0 at the token that each row draws, -inf elsewhere."""
        step = input_ids.shape[1] - self.prompt_length
        uniform = [uniform_number(self.seed, row, sample, step) for row, sample in self.numbers]
        cumulative = scores.double().softmax(-1).cumsum(-1)
        target = torch.tensor(uniform, dtype=torch.float64, device=scores.device)[:, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp_(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


def uniform_number(seed: int, row: int, sample: int, step: int) -> float:
    """A number in [0, 1) that depends on its four arguments alone (Philox 4x64, Salmon et al. 2011)."""
    counter = np.array([step, sample, row, 0], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=seed, counter=counter)).random())


class _Unpadded(LogitsProcessor):  # type: ignore[misc]
    """Shows a processor each row without its padding, which would count as text that occurred."""

    def __init__(self, processor: LogitsProcessor, padding: Sequence[int]) -> None:
        self.processor, self.padding = processor, padding

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        rows = [self.processor(ids[None, pad:], row[None]) for ids, row, pad in zip(input_ids, scores, self.padding, strict=True)]
        return torch.cat(rows)


def _unpadded(processor: LogitsProcessor, padding: Sequence[int]) -> LogitsProcessor:
    return _Unpadded(processor, padding) if any(padding) else processor


class Constrained(LogitsProcessor):  # type: ignore[misc]
    """Allows only tokens that keep each row's answer inside the constraint, up to the row's limit of new tokens."""

    def __init__(self, constraint: Constraint, limits: Sequence[int], prompt_length: int) -> None:
        self.matchers = [constraint.matcher() for _ in limits]
        self.limits, self.prompt_length, self.taken = limits, prompt_length, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: [rows, vocabulary]. Returns them with -inf for each token that the grammar does not allow."""
        new = input_ids[:, self.taken :].tolist()
        self.taken = input_ids.shape[1]
        masks = []
        done = ended(self.limits, self.taken - self.prompt_length).tolist()
        for matcher, ids, past in zip(self.matchers, new, done, strict=True):
            if past:  # only padding follows
                masks.append(np.ones(scores.shape[1], dtype=bool))
                continue
            for token in ids:
                matcher.take(token)
            masks.append(matcher.allowed(scores.shape[1]))
        allowed = torch.from_numpy(np.stack(masks)).to(scores.device)
        return scores.masked_fill(~allowed, -torch.inf)


class RowLimits(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at its own limit of new tokens. limits: one a row of the batch; a row's beams share it."""

    def __init__(self, limits: Sequence[int], prompt_length: int) -> None:
        self.limits, self.prompt_length = limits, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """[rows, beams included] bool: those that have their number of new tokens."""
        done = ended(self.limits, input_ids.shape[1] - self.prompt_length)
        return done.repeat_interleave(input_ids.shape[0] // len(self.limits)).to(input_ids.device)


def ended(limits: Sequence[int], new_tokens: int) -> torch.Tensor:
    """[rows] bool: which rows have had all the tokens they may have."""
    return torch.tensor([new_tokens >= limit for limit in limits], dtype=torch.bool)


class Checked(StoppingCriteria):  # type: ignore[misc]
    """Ends no row, and asks after each token whether the run may continue: what `check` raises ends it."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """[rows] bool, all False. Raises what `check` raises."""
        self.check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class StopsHere(StoppingCriteria):  # type: ignore[misc]
    """Ends a row once its answer holds a stop string or a token that ends it.

    prompt_length: columns before the answers; read: whether these are the beginning of the answer's text (not what an encoder-decoder
    begins with).
    """

    def __init__(self, tokenizer: Any, stops: Stops, prompt_length: int, *, read: bool) -> None:
        self.tokenizer, self.stops, self.prompt_length, self.read = tokenizer, stops, prompt_length, read
        # A character has at most four bytes, and a byte-level token at least one.
        self.tail = 4 * max(map(len, stops.texts), default=0) + 8

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """[rows] bool. Looks at the last tokens alone, so a step does not cost more as the answer grows."""
        start = max(self.prompt_length, input_ids.shape[1] - self.tail)
        first = max(0 if self.read else self.prompt_length, start - CONTEXT)
        done = [self._ended(ids[: start - first], ids[start - first :]) for ids in input_ids[:, first:].tolist()]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def _ended(self, before: list[int], tail: list[int]) -> bool:
        if not self.stops.tokens.isdisjoint(tail):
            return True
        return bool(self.stops.texts) and self.stops.find(continuation(self.tokenizer, before, tail, self.stops)) is not None
