"""The task of scoring: rows become documents, documents log-likelihoods.

Knows windows and the engine's interface; what the numbers mean, `llmkit.metrics.perplexity` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llmkit.engines.base import Check, Engine, Pair, TextEngine, never_stop
from llmkit.errors import InputError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.metrics.base import json_number, row_digest
from llmkit.metrics.perplexity import Likelihood, Windows, count_words
from llmkit.rows import Row
from llmkit.rows.fields import DocumentFields, Prompt
from llmkit.tasks.generate import placed

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """A row made ready: what is scored, of how many words and bytes, and the row's digest."""

    pairs: list[Pair]
    words: int
    bytes: int
    digest: str


class Scoring:
    """Gives each row its `log_likelihood` (nats), `tokens`, `words`, `bytes`, figures made of them, and `digest`.

    The digest is of all that was scored and of what it was scored after (see `llmkit.metrics.base.row_digest`).
    """

    width = 1

    def __init__(self, engine: Engine, windows: Windows, fields: DocumentFields, file_name: str, *, batch_tokens: int) -> None:
        self.engine, self.windows, self.fields, self.file_name = engine, windows, fields, file_name
        self.batch_tokens = batch_tokens

    def prepare(self, row: Row) -> Work:
        """As `Task.prepare`, the texts as ids. The length is of all texts of the row, at most `batch_tokens`."""
        try:
            spans = self.fields.spans(row, self.file_name)
            pairs = [self._pair(prompt, text) for prompt, text in spans]
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        texts = [text for _, text in spans]
        size = sum(len(t.encode("utf-8", "replace")) for t in texts)
        document = Document(pairs, sum(map(count_words, texts)), size, _digest_of(spans))
        return Work(row, document, min(sum(len(p.tokens) for p in pairs), self.batch_tokens))

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`; the texts of all rows are scored together, in batches of like length."""
        scored = iter(self.score([pair for work in batch for pair in work.payload.pairs], check))
        return [answer_of(work.payload, [block for _ in work.payload.pairs for block in next(scored)]) for work in batch]

    def score(self, pairs: Sequence[Pair], check: Check = never_stop) -> list[list[tuple[float, int]]]:
        """(log-likelihood in nats, tokens) of each window of each pair."""
        return score_pairs(self.engine, self.windows, pairs, batch_tokens=self.batch_tokens, check=check)

    def _pair(self, prompt: Any, text: str) -> Pair:
        if prompt is not None:
            return self.engine.encode_pair(prompt, text)
        tokens, bos = self.engine.encode(text), self.engine.bos
        while bos is not None and tokens[:1] == [bos]:  # a text that spells the BOS out; never two
            tokens = tokens[1:]
        return Pair(tokens if bos is None else [bos, *tokens], 1)


class TextScoring:
    """As `Scoring`, by an engine that takes text alone: each text is scored whole, and how it begins is the engine's affair."""

    width = 1

    def __init__(self, engine: TextEngine, fields: DocumentFields, file_name: str) -> None:
        self.engine, self.fields, self.file_name = engine, fields, file_name

    def prepare(self, row: Row) -> Work:
        """As `Scoring.prepare`, with the lengths that the engine tells or estimates."""
        try:
            spans = self.fields.spans(row, self.file_name)
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        return Work(row, spans, sum(self.engine.length(text) for _, text in spans))

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`, a call of the engine a row; a row that it can't score gets an error."""
        return [self._answer(work, check) for work in batch]

    def _answer(self, work: Work, check: Check) -> Answer:
        spans: list[tuple[Prompt | None, str]] = work.payload
        texts = [text for _, text in spans]
        size = sum(len(t.encode("utf-8", "replace")) for t in texts)
        document = Document([], sum(map(count_words, texts)), size, _digest_of(spans))
        try:
            scores = self.engine.score_answers([(prompt or Prompt(text=""), text) for prompt, text in spans if text], check=check)
        except InputError as exc:
            return Answer(error=placed(exc, work.row, self.file_name).message)
        return answer_of(document, [(sum(token.logprob for token in tokens), len(tokens)) for tokens in scores] or [(0.0, 0)])


def score_pairs(
    engine: Engine, windows: Windows, pairs: Sequence[Pair], *, batch_tokens: int, check: Check = never_stop
) -> list[list[tuple[float, int]]]:
    """(log-likelihood in nats, tokens) of each window of each pair: sums in double precision, in batches of like length.

    batch_tokens: positions of a batch, padding included. check: called before each batch; what it raises ends the work.
    """

    def total(*batch: Any) -> list[list[tuple[float, int]]]:
        return [[(sum(log_probs), len(log_probs))] for log_probs in engine.score(*batch)]

    by_pair = by_window(engine, windows, pairs, total, batch_tokens=batch_tokens, check=check)
    return [[window for (window,) in each] for each in by_pair]


def by_window(
    engine: Engine,
    windows: Windows,
    pairs: Sequence[Pair],
    ask: Callable[..., list[list[T]]],
    *,
    batch_tokens: int,
    check: Check = never_stop,
) -> list[list[list[T]]]:
    """What `ask` (an engine's `score`, or a function of its shape) says of each token, by pair and window.

    batch_tokens and check: see `score_pairs`.
    """
    pieces = [(number, *span) for number, pair in enumerate(pairs) for span in windows.spans(len(pair.tokens), pair.begin)]
    order = sorted(range(len(pieces)), key=lambda i: pieces[i][1] - pieces[i][3])
    values: list[list[T]] = [[]] * len(pieces)
    for group in _groups(order, [end - begin for _, begin, _, end in pieces], batch_tokens):
        check()
        chosen = [pieces[i] for i in group]
        sequences = [pairs[number].tokens[begin:end] for number, begin, _, end in chosen]
        sources = [pairs[number].encoder_tokens or [] for number, *_ in chosen] if engine.encoder_decoder else None
        for i, scores in zip(group, ask(sequences, [first - begin for _, begin, first, _ in chosen], sources), strict=True):
            values[i] = scores
    out: list[list[list[T]]] = [[] for _ in pairs]
    for (number, *_), value in zip(pieces, values, strict=True):
        out[number].append(value)
    return out


def likelihood(row: Mapping[str, Any]) -> Likelihood:
    """The figures that a scored row carries. Raises KeyError for a row without them."""
    return Likelihood(row["log_likelihood"], row["tokens"], row["words"], row["bytes"])


def concatenated(rows: Iterable[Row], fields: DocumentFields, engine: Engine, file_name: str) -> tuple[Pair, int, int, int]:
    """All documents as one sequence with the model's separator between them; then documents, words and bytes.

    Raises RowError for a row that can't be used (one missing document would shift all that follow), InputError for a model without a
    separator.
    """
    separator = min(engine.eos) if engine.eos else engine.bos
    if separator is None:
        raise InputError("the model has no token to separate documents (EOS or BOS)", hint="remove `concatenate`")
    tokens: list[int] = [] if engine.bos is None else [engine.bos]
    documents = words = size = 0
    for row in rows:
        ((_, text),) = fields.spans(row, file_name)
        tokens += ([separator] if documents else []) + engine.encode(text)
        documents, words, size = documents + 1, words + count_words(text), size + len(text.encode("utf-8", "replace"))
    return Pair(tokens, 1), documents, words, size


def answer_of(document: Document, blocks: list[tuple[float, int]]) -> Answer:
    """The fields of a scored row. blocks: (log-likelihood in nats, tokens) of each window."""
    whole = Likelihood(sum(v for v, _ in blocks), sum(n for _, n in blocks), document.words, document.bytes)
    out: dict[str, Any] = {"log_likelihood": whole.log_likelihood, "tokens": whole.tokens, "words": whole.words, "bytes": whole.bytes}
    if whole.tokens:
        out |= {"perplexity": json_number(whole.perplexity), "bits_per_byte": json_number(whole.bits_per_byte)}
    out |= {"blocks": [list(b) for b in blocks]} if len(blocks) > 1 else {}
    return Answer(out | {"digest": document.digest}, scored_tokens=whole.tokens)


def _digest_of(spans: Sequence[tuple[Prompt | None, str]]) -> str:
    before = [None if prompt is None else asdict(prompt) for prompt, _ in spans]
    return row_digest([text for _, text in spans], before if any(before) else None)


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
