"""Perplexity and its kin from the log-likelihoods of documents.

Knows log-probabilities, tokens, words and bytes; not the model that gave them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmkit.errors import InputError, UsageError
from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Statistic
from llmkit.version import __version__


@dataclass(frozen=True)
class Windows:
    """How a long text is scored: `context` inputs at a time, each later window scoring `stride` new tokens.

    A stride of the context is the rolling protocol of lm-evaluation-harness (no overlap, but the last window reaches
    back to fill the context); a smaller one gives each token more context and costs more. Every token is scored once.
    """

    context: int
    stride: int

    def __post_init__(self) -> None:
        if self.context < 1:
            raise UsageError(f"`context` {self.context}: it must be 1 or more")
        if not 1 <= self.stride <= self.context:
            raise UsageError(
                f"`stride` {self.stride}: it must be between 1 and the context, {self.context}",
                hint="a stride above the context would leave tokens unscored",
            )

    def spans(self, length: int, first: int = 1) -> Iterator[tuple[int, int, int]]:
        """(begin, scored from, end) of each window over a sequence of `length` tokens whose scoring starts at `first`.

        A window reads tokens [begin, end - 1) and scores [scored from, end). Positions of the sequence, BOS included.
        """
        previous = first - 1
        while previous < length - 1:
            end = min(max(self.context, previous + self.stride), length - 1)
            yield max(0, end - self.context), previous + 1, end + 1
            previous = end


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of one document (or block), in nats, with what it is divided by."""

    log_likelihood: float
    tokens: int
    words: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood per unit."""
        return _exp(-self.log_likelihood / self.tokens) if self.tokens else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Mean negative log-likelihood per byte of UTF-8, in bits."""
        return -self.log_likelihood / math.log(2) / self.bytes if self.bytes else math.nan


def count_words(text: str) -> int:
    """Pieces between white space, as lm-evaluation-harness counts them for wikitext."""
    return 1 + sum(1 for _ in re.finditer(r"\s+", text))  # as many as `re.split` would make, which keeps all of them


def scores(
    documents: Sequence[Likelihood], *, blocks: Sequence[tuple[float, int]] = (), protocol: str, tokenizer: str
) -> tuple[Score, ...]:
    """The corpus's figures, each with a 95% interval over documents.

    blocks: (log-likelihood, tokens) of a single text's windows, which stand for the rows of a lone document; its words
    and bytes are then taken to be spread evenly over its tokens. protocol: the part of the signature that says how the
    texts were scored. tokenizer: a short hash, for figures that depend on it. Raises InputError when nothing was scored.
    """
    units = np.array([[d.log_likelihood, d.tokens, d.words, d.bytes] for d in documents], dtype=np.float64).reshape(-1, 4)
    total = units.sum(0)
    if total[1] == 0:
        raise InputError("there is no token to score", hint="every document is empty, or one token long for a model without BOS")
    parts = None
    if len(units) == 1 and len(blocks) > 1:
        tokens = np.array([n for _, n in blocks], dtype=np.float64)[:, None]
        parts = np.concatenate([np.array([[s] for s, _ in blocks]), tokens, tokens * (total[2:] / total[1])], axis=1)
    drawn = units[units[:, 1] > 0] if parts is None else parts  # an empty document says nothing about others

    def score(name: str, statistic: Statistic, *, own: str = "", higher: bool = False) -> Score:
        sign = "|".join(part for part in (protocol, own, signature(version=f"llmkit-{__version__}")) if part)
        return Score(name, float(statistic(total[None])[0]), sign, interval_of(drawn, statistic), higher, units, statistic, parts)

    tok = signature(tok=tokenizer)
    out = [score("token_perplexity", Statistic("exp", (0, 1)), own=tok)]
    if total[3] > 0:
        out += [
            score("word_perplexity", Statistic("exp", (0, 2)), own="words:white-space"),
            score("byte_perplexity", Statistic("exp", (0, 3))),
            score("bits_per_byte", Statistic("bits", (0, 3))),
        ]
    return (*out, score("mean_log_likelihood", Statistic("log", (0, 1)), own=tok, higher=True))


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf
