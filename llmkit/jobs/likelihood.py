"""The task of scoring: rows become documents, documents log-likelihoods.

Knows windows and the engine's interface; what the numbers mean, `llmkit.metrics.perplexity` knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.engines.base import Engine, Pair
from llmkit.errors import InputError
from llmkit.jobs.answering import placed
from llmkit.jobs.plan import Work
from llmkit.metrics.base import json_number
from llmkit.metrics.perplexity import Likelihood, Windows, count_words
from llmkit.rows import Row
from llmkit.rows.fields import DocumentFields


@dataclass(frozen=True)
class _Document:
    pairs: list[Pair]
    words: int
    bytes: int


class Scoring:
    """Gives each row its `log_likelihood` (nats), `tokens`, `words`, `bytes` and figures made of them."""

    width = 1

    def __init__(self, engine: Engine, windows: Windows, fields: DocumentFields, source: str, *, batch_tokens: int) -> None:
        self.engine, self.windows, self.fields, self.source = engine, windows, fields, source
        self.batch_tokens = batch_tokens

    def prepare(self, row: Row) -> Work:
        try:
            spans = self.fields.spans(row, self.source)
            pairs = [self._pair(prompt, text) for prompt, text in spans]
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.source))
        texts = [text for _, text in spans]
        document = _Document(pairs, sum(map(count_words, texts)), sum(len(t.encode("utf-8", "replace")) for t in texts))
        return Work(row, document, min(sum(len(p.tokens) for p in pairs), self.batch_tokens))

    def answer(self, batch: Sequence[Work]) -> list[dict[str, Any]]:
        pieces = [
            (index, pair, *span)
            for index, work in enumerate(batch)
            for pair in work.payload.pairs
            for span in self.windows.spans(len(pair.tokens), pair.begin)
        ]
        found: list[list[tuple[float, int]]] = [[] for _ in batch]
        for (index, _, _, scored, end), value in zip(pieces, self._scores(pieces), strict=True):
            found[index].append((value, end - scored))
        return [_fields(work.payload, blocks) for work, blocks in zip(batch, found, strict=True)]

    def score_pair(self, pair: Pair) -> list[tuple[float, int]]:
        """(log-likelihood, tokens) of each window of one long text."""
        pieces = [(0, pair, *span) for span in self.windows.spans(len(pair.tokens), pair.begin)]
        return [(value, end - scored) for (*_, scored, end), value in zip(pieces, self._scores(pieces), strict=True)]

    def _pair(self, prompt: Any, text: str) -> Pair:
        if prompt is not None:
            return self.engine.encode_pair(prompt, text)
        tokens, bos = self.engine.encode(text), self.engine.bos
        while bos is not None and tokens[:1] == [bos]:  # a text that spells the BOS out; never two
            tokens = tokens[1:]
        return Pair(tokens if bos is None else [bos, *tokens], 1)

    def _scores(self, pieces: Sequence[Any]) -> list[float]:
        """The log-likelihood of each window, in batches of like length; sums in double precision."""
        order = sorted(range(len(pieces)), key=lambda i: pieces[i][2] - pieces[i][4])
        out = [0.0] * len(pieces)
        for group in _groups(order, [end - begin for _, _, begin, _, end in pieces], self.batch_tokens):
            chosen = [pieces[i] for i in group]
            sequences = [pair.tokens[begin:end] for _, pair, begin, _, end in chosen]
            sources = [pair.source or [] for _, pair, *_ in chosen] if self.engine.encoder_decoder else None
            scored = self.engine.score(sequences, [scored - begin for _, _, begin, scored, _ in chosen], sources)
            for i, values in zip(group, scored, strict=True):
                out[i] = sum(values)
        return out


def likelihood(row: dict[str, Any]) -> Likelihood:
    """The figures that a scored row carries."""
    return Likelihood(row["log_likelihood"], row["tokens"], row["words"], row["bytes"])


def concatenated(rows: Iterable[Row], fields: DocumentFields, engine: Engine, source: str) -> tuple[Pair, int, int, int]:
    """All documents as one sequence with the model's separator between them; then documents, words and bytes.

    Raises RowError for a row that can't be used: one missing document would shift all that follow.
    """
    separator = min(engine.eos) if engine.eos else engine.bos
    if separator is None:
        raise InputError("the model has no token that separates documents", hint="leave --concatenate away")
    tokens: list[int] = [] if engine.bos is None else [engine.bos]
    documents = words = size = 0
    for row in rows:
        ((_, text),) = fields.spans(row, source)
        tokens += ([separator] if documents else []) + engine.encode(text)
        documents, words, size = documents + 1, words + count_words(text), size + len(text.encode("utf-8", "replace"))
    return Pair(tokens, 1), documents, words, size


def _fields(document: _Document, blocks: list[tuple[float, int]]) -> dict[str, Any]:
    whole = Likelihood(sum(v for v, _ in blocks), sum(n for _, n in blocks), document.words, document.bytes)
    out: dict[str, Any] = {"log_likelihood": whole.log_likelihood, "tokens": whole.tokens, "words": whole.words, "bytes": whole.bytes}
    if whole.tokens:
        out |= {"perplexity": json_number(whole.perplexity), "bits_per_byte": json_number(whole.bits_per_byte)}
    return out | ({"blocks": [list(b) for b in blocks]} if len(blocks) > 1 else {})


def _groups(order: Sequence[int], lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Consecutive members of `order` (longest first) whose padded positions stay within `tokens`."""
    group: list[int] = []
    for index in order:
        if group and lengths[group[0]] * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
