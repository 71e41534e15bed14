"""The task of comparing distributions: scoring, and at each token how far the model is from a reference model.

Knows windows and the engines' interface; what the numbers mean, `llmkit.metrics.divergence` knows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from llmkit.engines.base import Check, Comparing, Engine, TokenComparison, never_stop
from llmkit.errors import UsageError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.metrics.base import json_number
from llmkit.metrics.divergence import Window
from llmkit.metrics.perplexity import Windows
from llmkit.rows.fields import DocumentFields
from llmkit.tasks.score import Scoring, answer_of, by_window


class Diverging(Scoring):
    """Gives each row what `Scoring` gives, its `kl_divergence` (mean, nats) and `same_top_token` (percent), and for the figures of
    all rows `token_kl` (of each token, in order) and `compared` (see `llmkit.metrics.divergence.Window`, a list per window).
    """

    def __init__(
        self, engine: Engine, reference: Engine, windows: Windows, fields: DocumentFields, file_name: str, *, batch_tokens: int
    ) -> None:
        """Raises UsageError for a reference that reads other tokens, and for an engine that does not know whole distributions."""
        super().__init__(engine, windows, fields, file_name, batch_tokens=batch_tokens)
        if not isinstance(engine, Comparing) or type(engine) is not type(reference):
            raise UsageError("`against` needs full token distributions, which this engine does not provide", hint="`engine` torch")
        ours, theirs = engine.identity, reference.identity
        if ours.tokenizer_sha256 != theirs.tokenizer_sha256:
            raise UsageError(
                f"`against` {theirs.model}: its tokenizer differs from that of {ours.model}", hint="bits_per_byte compares any two models"
            )
        self._ask = functools.partial(engine.compare, reference)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Scoring.answer`, each window under both models."""
        pairs = [pair for work in batch for pair in work.payload.pairs]
        by_document = iter(by_window(self.engine, self.windows, pairs, self._ask, batch_tokens=self.batch_tokens, check=check))
        return [self._answer(work, [window for _ in work.payload.pairs for window in next(by_document)]) for work in batch]

    def _answer(self, work: Work, windows: Sequence[Sequence[TokenComparison]]) -> Answer:
        sums = [_window(window) for window in windows]
        answer = answer_of(work.payload, [(sum(t.log_prob for t in window), len(window)) for window in windows])
        tokens = sum(window.tokens for window in sums)
        fields: dict[str, Any] = dict(answer.fields)
        if tokens:
            fields["kl_divergence"] = json_number(sum(window.divergence for window in sums) / tokens)
            fields["same_top_token"] = 100 * sum(window.same_top for window in sums) / tokens
        fields["compared"] = [[json_number(value) for value in window] for window in sums]
        fields["token_kl"] = [json_number(token.kl_divergence) for window in windows for token in window]
        return Answer(fields, scored_tokens=answer.scored_tokens)


def compared(row: Mapping[str, Any]) -> tuple[list[Window], list[float]]:
    """What an output row says: the sums of its windows, and the divergence at each token in nats. Raises KeyError for another row."""
    return [Window(*map(float, window)) for window in row["compared"]], [float(value) for value in row["token_kl"]]


def _window(tokens: Sequence[TokenComparison]) -> Window:
    from math import exp

    moved = [exp(t.log_prob) - exp(t.reference_log_prob) for t in tokens]
    return Window(
        float(len(tokens)),
        sum(t.log_prob for t in tokens),
        sum(t.reference_log_prob for t in tokens),
        sum(t.kl_divergence for t in tokens),
        float(sum(t.same_top for t in tokens)),
        sum(moved),
        sum(value * value for value in moved),
    )
