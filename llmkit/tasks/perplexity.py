"""How a measurement of perplexity is made of a file's documents, and its result, of one file or of several.

Knows engines, the tasks of scoring and results; not how rows are answered.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmkit.engines.base import Engine
from llmkit.errors import InputError, UsageError, counted
from llmkit.metrics import divergence, perplexity
from llmkit.metrics.base import Example, Result, Score, digest, signature
from llmkit.metrics.divergence import Window
from llmkit.metrics.macro import macro_average
from llmkit.metrics.perplexity import Likelihood, Windows
from llmkit.rows import Rows
from llmkit.rows.fields import SCORED, DocumentFields, first_text, row_id
from llmkit.tasks.choose import begins_with_bos, chat_signature
from llmkit.tasks.diverge import Diverging, compared
from llmkit.tasks.score import Scoring, TextScoring, concatenated, likelihood

#: Characters of a document that a report shows.
_SHOWN = 300


@dataclass
class Measured:
    """What one file gave: likelihoods of the documents, the windows of the last one, and what a reference model says of each.

    shown: the field whose text a report shows. count: of the rows that were answered.
    """

    rows: Rows
    documents: list[Likelihood] = field(default_factory=list)
    blocks: list[tuple[float, int]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    compared: list[list[Window]] = field(default_factory=list)
    token_kl: array[float] = field(default_factory=lambda: array("d"))
    count: int = 0
    shown: str = "text"

    def add(self, row: Mapping[str, Any], failed: bool) -> None:
        """Counts an output row."""
        self.count += 1
        if failed:
            return
        self.documents.append(likelihood(row))
        text = first_text(row, (self.shown, *SCORED))
        self.examples.append(Example(row_id(row, self.count), row["digest"], text[:_SHOWN]))
        self.blocks = [(v, n) for v, n in row.get("blocks", ())]
        if "token_kl" in row:
            windows, token_kl = compared(row)
            self.compared.append(windows)
            self.token_kl.extend(token_kl)


@dataclass(frozen=True)
class Measurement:
    """How texts are measured. reference: another model that each token's distribution is compared with, None for none.

    windows: of what the engine reads. joined: all documents of a file as one text. batch_tokens: see `JobSettings`.
    """

    engine: Engine
    reference: Engine | None
    windows: Windows
    text_field: str | None
    completion_only: bool
    joined: bool
    batch_tokens: int

    def protocol(self) -> str:
        """What of the measurement changes its figures, as signatures say it."""
        engine, join = self.engine, "separator" if self.joined else "no"
        target = "target" if engine.encoder_decoder else "completion" if self.completion_only else "text"
        if not engine.token_ids:
            return signature(target=target, context="server", stride="server", bos="server", join=join)
        bos = "no" if engine.bos is None or engine.encoder_decoder else "yes"
        sign = {"target": target, "context": self.windows.context, "stride": self.windows.stride, "bos": bos, "join": join}
        if target != "text":  # scored after a prompt, which the tokenizer or a chat template begins
            sign["bos"] = begins_with_bos(engine)
            if (chat := chat_signature(engine)) != "none":
                sign["chat"] = chat
        return signature(**sign)

    def facts(self) -> dict[str, Any]:
        """What the identity of a run needs beside options and model."""
        if self.reference is None:
            return {"resolved.protocol": self.protocol()}
        about = self.reference.identity.as_dict()
        return {"resolved.protocol": self.protocol(), **{f"model.against.{name}": value for name, value in about.items()}}

    def task(self, file_name: str) -> Scoring | TextScoring:
        """The task that scores each document by itself. Raises UsageError for a reference that can't be compared with."""
        fields = DocumentFields(self.text_field, self.engine.encoder_decoder, self.completion_only)
        if self.reference is not None:
            return Diverging(self.engine, self.reference, self.windows, fields, file_name, batch_tokens=self.batch_tokens)
        if not self.engine.token_ids:
            return TextScoring(self.engine, fields, file_name)
        return Scoring(self.engine, self.windows, fields, file_name, batch_tokens=self.batch_tokens)

    def measured(self, rows: Rows) -> Measured:
        """An empty measurement of a file, for `Measured.add`."""
        return Measured(rows, shown=self.text_field or "text")

    def joined_text(self, rows: Rows) -> Measured:
        """All documents of a file as one. Raises InputError for a row that can't be scored, UsageError for an engine without tokens."""
        task = self.task(rows.name)
        if not isinstance(task, Scoring):
            raise UsageError(f"the engine {self.engine.name} does not expose a model's tokens, which join documents")
        text, documents, words, size = concatenated(rows, task.fields, self.engine, rows.name)
        (blocks,) = task.score([text])
        whole = Likelihood(sum(v for v, _ in blocks), sum(n for _, n in blocks), words, size)
        return Measured(rows, [whole], blocks, [Example("1", digest(*map(str, text.tokens)))], count=documents)

    def result(self, files: Sequence[Measured], averaged: Sequence[str], warn: Callable[[str], None]) -> Result:
        """One file's scores; of several those of all documents, the macro averages of `averaged`, and each file's own as a part.

        Raises InputError for a file without a token to score.
        """
        if self.engine.token_ids and (remark := self.engine.bos_remark()):
            warn(remark)
        about: dict[str, Any] = self.engine.identity.as_dict()
        if self.reference is not None:
            about["against"] = self.reference.identity.as_dict()
        results = [self._of_file(each, about, warn) for each in files]
        if len(results) == 1:
            return results[0]
        whole = _together(files)
        averages = [macro_average([next(s for s in r.scores if s.name == name) for r in results]) for name in averaged]
        counts = {name: sum(result.counts.get(name, 0) for result in results) for name in results[0].counts}
        return Result(
            (*self._scores(whole), *(score for score in averages if score is not None)), sum(result.rows for result in results), counts,
            about=about | {"inputs": [result.about["input"] for result in results]}, examples=tuple(whole.examples),
            parts={f"{number}: {result.about['input']}": result for number, result in enumerate(results, 1)},
        )  # fmt: skip

    def _of_file(self, file: Measured, about: Mapping[str, Any], warn: Callable[[str], None]) -> Result:
        name, documents = file.rows.name, file.documents
        counts = {"documents": len(documents), "tokens": sum(d.tokens for d in documents)}
        counts |= {"words": sum(d.words for d in documents), "bytes": sum(d.bytes for d in documents)}
        if file.count and not documents:
            raise InputError(f"none of its {counted(file.count, 'row')} could be scored", path=name)
        if not counts["tokens"]:
            hint = "every document is empty, or one token long for a model without BOS"
            raise InputError("there is no token to score", path=name, hint=hint)
        if empty := sum(d.tokens == 0 for d in documents):
            warn(f"{name}: {counted(empty, 'document has', 'documents have')} no token to score")
            counts["empty"] = empty
        read = {"input": name, "input_sha256": file.rows.sha256}
        return Result(self._scores(file), file.count, counts, about={**read, **about}, examples=tuple(file.examples))

    def _scores(self, file: Measured) -> tuple[Score, ...]:
        tokenizer, protocol = str(self.engine.identity.tokenizer_sha256 or "server")[:8], self.protocol()
        single = file.blocks if len(file.documents) == 1 else []
        figures = perplexity.scores(file.documents, blocks=single, protocol=protocol, tokenizer=tokenizer)
        if self.reference is None:
            return figures
        theirs = self.reference.identity
        against = signature(against=str(theirs.weights_sha256)[:8], dtype=theirs.dtype, tok=tokenizer)
        return figures + divergence.scores(file.compared, file.token_kl, protocol=f"{protocol}|{against}")


def windows_of(engine: Engine, context: int | None, stride: int | None) -> Windows:
    """The windows of a model; None is its context, without overlap. Raises UsageError for windows that the model can't read."""
    most = engine.context
    if context is not None and most is not None and context > most:
        raise UsageError(f"`context` {context}: the model reads at most {counted(most, 'token')} at once")
    chosen = (most or 1024) if context is None else context
    return Windows(chosen, chosen if stride is None else stride)


def _together(files: Sequence[Measured]) -> Measured:
    """All documents of several files; the id of each begins with its file's number, so that files may have rows of one id."""
    whole = Measured(files[0].rows, count=sum(each.count for each in files))
    for number, each in enumerate(files, 1):
        whole.documents += each.documents
        whole.compared += each.compared
        whole.token_kl += each.token_kl
        whole.examples += [replace(example, id=f"{number}:{example.id}") for example in each.examples]
    return whole
