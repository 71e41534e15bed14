"""`llmkit evaluate perplexity`: how well a model predicts texts, and how far it is from another model.

llmkit evaluate perplexity -m gpt2 -i book.txt
llmkit evaluate perplexity -m builtin:en-fr -i pairs.jsonl --json
llmkit evaluate perplexity -i documents.jsonl -o per-document.jsonl --stride 256
llmkit evaluate perplexity -m gpt2 -i news.txt -i novels.jsonl --fail-if "macro_bits_per_byte > 1.1"
llmkit evaluate perplexity -m gpt2 --quantize int8 --against gpt2 -i book.txt --fail-if "kl_divergence > 0.01"
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import identity, option_names, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS, rows_output
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions, MaxErrors
from llmkit.cli.parsing import INPUT, MODEL, SCORING, count_option, option
from llmkit.cli.running import job_for, model_identity, models_open, summarize
from llmkit.cli.scoring import CacheOptions, GateOptions
from llmkit.cli.servers import refuse_without_server
from llmkit.cli.session import session_of
from llmkit.engines import utilization
from llmkit.errors import InputError, UsageError, counted
from llmkit.metrics.base import Example, Result, Score, digest, signature
from llmkit.rows import Rows, open_rows
from llmkit.rows.fields import SCORED, first_text, row_id

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.jobs.output import Output
    from llmkit.jobs.run import RunName
    from llmkit.jobs.settings import JobSettings
    from llmkit.metrics.divergence import Window
    from llmkit.metrics.perplexity import Likelihood, Windows
    from llmkit.rows.fields import DocumentFields
    from llmkit.tasks.score import Scoring, TextScoring

#: Characters of a document that a report shows.
_SHOWN = 300
#: Options about single documents, which do not apply to one joined text.
_ABOUT_EACH = (
    *option_names(opt.RowsOut, JobOptions, CacheOptions, but=("batch_tokens",)), "completion_only", "max_errors", "against",
)  # fmt: skip
#: ... and what counts a model's tokens, or compares them.
_ABOUT_TOKENS = ("against", "concatenate", "context", "stride")
NAMES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mean_log_likelihood")
#: Scores that several files have a macro average of: a mean log-likelihood is the logarithm of one of them.
_AVERAGED = NAMES[:4]


def names(inputs: int, against: str | None) -> tuple[str, ...]:
    """The scores of a run over `inputs` files."""
    from llmkit.metrics import divergence

    macro = tuple(f"macro_{name}" for name in _AVERAGED) if inputs > 1 else ()
    return (*NAMES, *macro, *(divergence.NAMES if against else ()))


PAGE = Page(
    ("llmkit evaluate perplexity -m gpt2 -i book.txt", "llmkit evaluate perplexity -i docs.jsonl --fail-if 'perplexity > 30'"),
    ("model", "inputs", "output", "text_field", "context", "fail_if", "baseline", "report", "json_output"),
    "evaluate",
)  # fmt: skip


def perplexity(
    ctx: typer.Context,
    *,
    model: opt.ModelOptions,
    against: Annotated[
        str | None,
        option("--against", help="Also compare each token's distribution with this model's, for example before quantization.", panel=MODEL,
               metavar="REF"),
    ] = None,
    inputs: opt.Inputs = None,
    row_format: opt.RowFormat,
    text_field: opt.TextField = None,
    by_line: Annotated[bool, option("--by-line", help="In a .txt file, each line is a document.", panel=INPUT)] = False,
    rows_out: opt.RowsOut,
    concatenate: Annotated[bool, option("--concatenate", help="Join the documents with the model's separator.", panel=SCORING)] = False,
    completion_only: Annotated[
        bool, option("--completion-only", help="Score completions (assistant turns) given what comes before.", panel=SCORING)
    ] = False,
    context: Annotated[
        int | None, count_option("--context", help="Tokens per window. [default: the model's context]", panel=SCORING)
    ] = None,
    stride: Annotated[
        int | None, count_option("--stride", help="New tokens scored by each window after the first. [default: the context]", panel=SCORING)
    ] = None,
    chat: opt.TemplateOptions,
    gates: GateOptions,
    job: JobOptions,
    cache: CacheOptions,
    max_errors: MaxErrors = None,
    display: opt.Display,
) -> int:  # fmt: skip
    """Reads texts, scores their tokens with the model, and reports perplexities."""
    out, output = display.console, rows_out.output
    inputs = inputs or []
    end = gates.ending(ctx, names(len(inputs), against), json_output=display.json_output)
    _check_inputs(inputs)
    if concatenate:
        refuse(ctx, _ABOUT_EACH, "cannot be combined with --concatenate", hint="use only one of them")
        output, completion_only, against, cache = None, False, None, CacheOptions()
        job = replace(job, workers=None, ray=None, cpus_per_worker=None, gpus_per_worker=None)
    _check_windows(context, stride)
    refuse_without_server(ctx, model.model)
    if output is None:
        refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
    elif len(inputs) > 1:
        raise UsageError(f"--output with {len(inputs)} inputs", hint="one output holds the rows of one input")
    if not completion_only:
        why = "needs --completion-only: a text by itself goes through no chat template"
        refuse(ctx, ("chat_template_kwargs", "chat_template"), why, hint="remove it")
    else:
        refuse(ctx, ("text_field",), "cannot be combined with --completion-only", hint="use only one of them")
    cache.check()
    reading = row_format.reading | {"offline": model.offline, "whole_text": not by_line, "text_field": text_field or "text"}
    files = [open_rows(path, **reading) for path in inputs]
    if not any(rows.plain for rows in files):
        refuse(ctx, ("by_line",), "applies to plain text, and the input has rows", hint="remove it")
    from llmkit.jobs.run import RunName
    from llmkit.jobs.worker import Model

    settings = job.settings(max_errors=max_errors)
    known = identity(ctx, "evaluate perplexity")
    name = "torch" if against and model.engine == "auto" else model.engine
    models = [Model(model.settings, name, chat=chat.settings)]
    if against is not None:
        own = replace(model.settings, reference=against, adapter=None, dtype="auto", quantize="none")
        models.append(Model(own, name, chat=chat.settings))
    with (
        rows_output(output, inputs[0], known, overwrite=rows_out.overwrite, restart=job.restart) as target,
        models_open(models, job.crew, out, kept=session_of(ctx)) as engines,
    ):
        engine, reference = engines[0], engines[1] if against is not None else None
        _check_engine(ctx, engine)
        run = _Run(
            engine, reference, settings, out, _windows(engine, context, stride), text_field, completion_only,
            "separator" if concatenate else "no", cache,
        )  # fmt: skip
        command = RunName("evaluate perplexity", options_set_by_user(ctx, leave=NOT_THE_JOBS), known)
        measured = [run.concatenated(rows) if concatenate else run.each(rows, target, command) for rows in files]
    end.finish(run.result(measured), out)
    return max(each.code for each in measured)


def _check_engine(ctx: typer.Context, engine: Engine) -> None:
    """Refuses what this model can't do. Raises UsageError."""
    if engine.encoder_decoder:
        refuse(ctx, ("text_field",), "applies to whole texts; this model's targets are scored", hint="remove it")
    if not engine.token_ids:
        refuse(ctx, _ABOUT_TOKENS, f"needs a model's tokens, which the engine {engine.name} does not expose", hint="remove it")


def _check_inputs(inputs: list[str]) -> None:
    """Raises UsageError for no file, and for one that is named twice."""
    if not inputs:
        raise UsageError("no input given", hint="name texts with --input FILE")
    places = [os.path.realpath(path) for path in inputs]
    twice = next((path for path, place in zip(inputs, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"--input {twice} is given twice", hint="name each file once: its texts would count twice")


def _check_windows(context: int | None, stride: int | None) -> None:
    """Raises UsageError for windows that no model could read."""
    if context is not None:
        from llmkit.metrics.perplexity import Windows

        Windows(context, context if stride is None else stride)
    elif stride is not None and stride < 1:
        raise UsageError(f"`stride` {stride}: it must be 1 or more")


def _windows(engine: Engine, context: int | None, stride: int | None) -> Windows:
    """Raises UsageError for windows that the model can't read."""
    from llmkit.metrics.perplexity import Windows

    most = engine.context
    if context is not None and most is not None and context > most:
        raise UsageError(f"--context {context}: the model reads at most {counted(most, 'token')} at once")
    chosen = (most or 1024) if context is None else context
    return Windows(chosen, chosen if stride is None else stride)


@dataclass
class _Measured:
    """What one file gave: likelihoods of the documents, the windows of the last one, and what a reference model says of each."""

    source: Rows
    documents: list[Likelihood] = field(default_factory=list)
    blocks: list[tuple[float, int]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    compared: list[list[Window]] = field(default_factory=list)
    token_kl: array[float] = field(default_factory=lambda: array("d"))
    rows: int = 0
    code: int = 0
    #: The field whose text a report shows.
    shown: str = "text"

    def add(self, row: Mapping[str, Any], failed: bool) -> None:
        """Counts an output row."""
        from llmkit.tasks.score import likelihood

        self.rows += 1
        if failed:
            return
        self.documents.append(likelihood(row))
        text = first_text(row, (self.shown, *SCORED))
        self.examples.append(Example(row_id(row, self.rows), row["digest"], text[:_SHOWN]))
        self.blocks = [(v, n) for v, n in row.get("blocks", ())]
        if "token_kl" in row:
            from llmkit.tasks.diverge import compared

            windows, token_kl = compared(row)
            self.compared.append(windows)
            self.token_kl.extend(token_kl)


@dataclass(frozen=True)
class _Run:
    engine: Engine
    reference: Engine | None
    settings: JobSettings
    out: console.Console
    windows: Windows
    text_field: str | None
    completion_only: bool
    join: str
    cache: CacheOptions

    def each(self, rows: Rows, output: Output | None, run: RunName) -> _Measured:
        """Each document by itself, its scores in `output` where there is one."""
        from llmkit.jobs.run import answer_rows

        known = {**run.identity, **model_identity(self.engine), "resolved.protocol": self._protocol()}
        if self.reference is not None:
            known |= {name.replace("model.", "model.against.", 1): value for name, value in model_identity(self.reference).items()}
        run = replace(run, identity=known, measured=partial(utilization.measured, self.engine))
        measured = _Measured(rows, shown=self.text_field or "text")
        with self.cache.over(self._task(rows.name), self.engine, known, self.out) as task:
            tally = answer_rows(rows, task, job_for(self.engine, self.settings), output, self.out, run, measured.add)
        measured.code = summarize(tally, self.engine, self.out, output)
        return measured

    def concatenated(self, rows: Rows) -> _Measured:
        from llmkit.metrics.perplexity import Likelihood
        from llmkit.tasks.score import concatenated

        task = self._scoring(rows.name)
        joined, documents, words, size = concatenated(rows, task.fields, self.engine, rows.name)
        (blocks,) = task.score([joined])
        return _Measured(
            rows,
            [Likelihood(sum(v for v, _ in blocks), sum(n for _, n in blocks), words, size)],
            blocks,
            [Example("1", digest(*map(str, joined.tokens)))],
            rows=documents,
        )

    def result(self, measured: list[_Measured]) -> Result:
        """One file's scores; of several those of all documents, the macro averages, and each file's own as a part."""
        if self.engine.token_ids and (remark := self.engine.bos_remark()):
            self.out.warn(remark)
        about: dict[str, Any] = self.engine.identity.as_dict()
        if self.reference is not None:
            about["against"] = self.reference.identity.as_dict()
        results = [self._of_file(each, about) for each in measured]
        if len(results) == 1:
            return results[0]
        from llmkit.metrics.macro import macro_average

        whole = _together(measured)
        averages = [macro_average([next(s for s in r.scores if s.name == name) for r in results]) for name in _AVERAGED]
        counts = {name: sum(result.counts.get(name, 0) for result in results) for name in results[0].counts}
        return Result(
            (*self._scores(whole), *(score for score in averages if score is not None)), sum(result.rows for result in results), counts,
            about=about | {"inputs": [result.about["input"] for result in results]}, examples=tuple(whole.examples),
            parts={f"{number}: {result.about['input']}": result for number, result in enumerate(results, 1)},
        )  # fmt: skip

    def _of_file(self, measured: _Measured, about: Mapping[str, Any]) -> Result:
        counts = {"documents": len(measured.documents), "tokens": sum(d.tokens for d in measured.documents)}
        counts |= {"words": sum(d.words for d in measured.documents), "bytes": sum(d.bytes for d in measured.documents)}
        if measured.rows and not measured.documents:
            raise InputError(f"none of its {counted(measured.rows, 'row')} could be scored", path=measured.source.name)
        if not counts["tokens"]:
            hint = "every document is empty, or one token long for a model without BOS"
            raise InputError("there is no token to score", path=measured.source.name, hint=hint)
        if empty := sum(d.tokens == 0 for d in measured.documents):
            self.out.warn(f"{measured.source.name}: {counted(empty, 'document has', 'documents have')} no token to score")
            counts["empty"] = empty
        read = {"input": measured.source.name, "input_sha256": measured.source.sha256}
        return Result(self._scores(measured), measured.rows, counts, about={**read, **about}, examples=tuple(measured.examples))

    def _scores(self, measured: _Measured) -> tuple[Score, ...]:
        from llmkit.metrics import divergence, perplexity

        tokenizer = str(self.engine.identity.tokenizer_sha256 or "server")[:8]
        single = measured.blocks if len(measured.documents) == 1 else []
        figures = perplexity.scores(measured.documents, blocks=single, protocol=self._protocol(), tokenizer=tokenizer)
        if self.reference is None:
            return figures
        theirs = self.reference.identity
        against = signature(against=str(theirs.weights_sha256)[:8], dtype=theirs.dtype, tok=tokenizer)
        return figures + divergence.scores(measured.compared, measured.token_kl, protocol=f"{self._protocol()}|{against}")

    def _task(self, name: str) -> Scoring | TextScoring:
        if self.reference is None and not self.engine.token_ids:
            from llmkit.tasks.score import TextScoring

            return TextScoring(self.engine, self._fields(), name)
        return self._scoring(name)

    def _scoring(self, name: str) -> Scoring:
        from llmkit.tasks.score import Scoring

        fields, tokens = self._fields(), self.settings.batch_tokens
        if self.reference is not None:
            from llmkit.tasks.diverge import Diverging

            return Diverging(self.engine, self.reference, self.windows, fields, name, batch_tokens=tokens)
        return Scoring(self.engine, self.windows, fields, name, batch_tokens=tokens)

    def _fields(self) -> DocumentFields:
        from llmkit.rows.fields import DocumentFields

        return DocumentFields(self.text_field, self.engine.encoder_decoder, self.completion_only)

    def _protocol(self) -> str:
        engine = self.engine
        target = "target" if engine.encoder_decoder else "completion" if self.completion_only else "text"
        if not engine.token_ids:
            return signature(target=target, context="server", stride="server", bos="server", join=self.join)
        bos = "no" if engine.bos is None or engine.encoder_decoder else "yes"
        sign = {"target": target, "context": self.windows.context, "stride": self.windows.stride, "bos": bos, "join": self.join}
        if target != "text":  # scored after a prompt, which the tokenizer or a chat template begins
            from llmkit.tasks.choose import begins_with_bos, chat_signature

            sign["bos"] = begins_with_bos(engine)
            if (chat := chat_signature(engine)) != "none":
                sign["chat"] = chat
        return signature(**sign)


def _together(measured: list[_Measured]) -> _Measured:
    """All documents of several files; the id of each begins with its file's number, so that files may have rows of one id."""
    whole = _Measured(measured[0].source, rows=sum(each.rows for each in measured))
    for number, each in enumerate(measured, 1):
        whole.documents += each.documents
        whole.compared += each.compared
        whole.token_kl += each.token_kl
        whole.examples += [replace(example, id=f"{number}:{example.id}") for example in each.examples]
    return whole
