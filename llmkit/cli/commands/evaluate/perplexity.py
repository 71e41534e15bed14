"""`llmkit evaluate perplexity`: how well a model predicts texts.

llmkit evaluate perplexity -m gpt2 -i book.txt
llmkit evaluate perplexity -m builtin:en-fr -i pairs.jsonl --json
llmkit evaluate perplexity -i documents.jsonl -o per-document.jsonl --stride 256
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, identity, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS, rows_output
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions, MaxErrors
from llmkit.cli.parsing import INPUT, SCORING, count_option, option
from llmkit.cli.running import job_for, model_identity, open_model, summarize
from llmkit.cli.scoring import GateOptions
from llmkit.errors import UsageError
from llmkit.metrics.base import Example, Result, digest, signature
from llmkit.rows import Rows, open_rows
from llmkit.rows.fields import SCORED, first_text, row_id

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.jobs.output import Output
    from llmkit.jobs.run import JobSettings, RunName
    from llmkit.metrics.perplexity import Likelihood, Windows
    from llmkit.rows.fields import DocumentFields
    from llmkit.tasks.score import Scoring, TextScoring

#: Characters of a document that a report shows.
_SHOWN = 300
#: Options about single documents, which do not apply to one joined text.
_ABOUT_EACH = ("output", "completion_only", "batch_size", "max_errors", "max_time", "restart", "overwrite")
NAMES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mean_log_likelihood")


_PAGE = Page(
    ("llmkit evaluate perplexity -m gpt2 -i book.txt", "llmkit evaluate perplexity -i docs.jsonl --fail-if 'perplexity > 30'"),
    ("model", "input", "output", "text_field", "context", "fail_if", "baseline", "report", "json_output"),
    "evaluate",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds `perplexity` to the commands of `app`."""
    add(app, "perplexity", help="How well a model predicts texts: perplexity and bits per byte.", page=_PAGE)(perplexity)


def perplexity(
    ctx: typer.Context,
    *,
    model: opt.ModelOptions,
    rows_in: opt.RowsIn,
    text_field: opt.TextField = None,
    by_line: Annotated[bool, option("--by-line", help="Each line of a .txt file is a document, instead of the file.", panel=INPUT)] = False,
    rows_out: opt.RowsOut,
    concatenate: Annotated[bool, option("--concatenate", help="Join the documents with the model's separator.", panel=SCORING)] = False,
    completion_only: Annotated[
        bool, option("--completion-only", help="Score completions (assistant turns) given what comes before.", panel=SCORING)
    ] = False,
    context: Annotated[
        int | None, count_option("--context", help="Tokens per window. [default: the model's context]", panel=SCORING)
    ] = None,
    stride: Annotated[
        int | None, count_option("--stride", help="New tokens that each later window scores. [default: the context]", panel=SCORING)
    ] = None,
    chat_template: opt.ChatTemplate = "auto",
    gates: GateOptions,
    job: JobOptions,
    max_errors: MaxErrors = None,
    display: opt.Display,
) -> int:
    """Reads texts, scores their tokens with the model, and reports perplexities."""
    out, input, output = display.console, rows_in.input, rows_out.output
    end = gates.ending(NAMES, json_output=display.json_output)
    if input is None:
        raise UsageError("no input given", hint="name texts with --input FILE")
    if concatenate:
        refuse(ctx, _ABOUT_EACH, "cannot be combined with --concatenate", hint="use only one of them")
        output, completion_only = None, False
    if output is None:
        refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
    rows = open_rows(input, **rows_in.reading, offline=model.offline, whole_text=not by_line, text_field=text_field or "text")
    from llmkit.engines.chat import ChatSettings
    from llmkit.jobs.run import RunName

    settings = job.settings(max_errors=max_errors)
    known = identity(ctx, "evaluate perplexity")
    with rows_output(output, input, known, overwrite=rows_out.overwrite, restart=job.restart) as target:
        engine = open_model(model.settings, out, engine=model.engine, chat=ChatSettings(chat_template))
        if not engine.token_ids:
            names = ("concatenate", "context", "stride")
            refuse(ctx, names, f"needs a model's tokens, which the engine {engine.name} does not show", hint="remove it")
        run = _Run(
            engine,
            rows,
            settings,
            out,
            _windows(engine, context, stride),
            text_field,
            completion_only,
            "separator" if concatenate else "no",
        )
        if concatenate:
            measured = run.concatenated()
        else:
            measured = run.each(target, RunName("evaluate perplexity", options_set_by_user(ctx, leave=NOT_THE_JOBS), known))
    end.finish(run.result(measured), out)
    return measured.code


def _windows(engine: Engine, context: int | None, stride: int | None) -> Windows:
    """Raises UsageError for windows that the model can't read."""
    from llmkit.metrics.perplexity import Windows

    most = engine.context
    if context is not None and most is not None and context > most:
        raise UsageError(f"--context {context}: the model reads at most {most} tokens at once")
    chosen = (most or 1024) if context is None else context
    return Windows(chosen, chosen if stride is None else stride)


@dataclass
class _Measured:
    """Likelihoods of the documents, and the windows of the last one."""

    documents: list[Likelihood] = field(default_factory=list)
    blocks: list[tuple[float, int]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rows: int = 0
    code: int = 0
    #: The field whose text a report shows.
    shown: str = "text"

    def add(self, row: Mapping[str, Any], failed: bool) -> None:
        """Counts an output row."""
        from llmkit.tasks.score import likelihood

        self.rows += 1
        if not failed:
            self.documents.append(likelihood(row))
            text = first_text(row, (self.shown, *SCORED))
            self.examples.append(Example(row_id(row, self.rows), row["digest"], text[:_SHOWN]))
            self.blocks = [(v, n) for v, n in row.get("blocks", ())]


@dataclass(frozen=True)
class _Run:
    engine: Engine
    rows: Rows
    settings: JobSettings
    out: console.Console
    windows: Windows
    text_field: str | None
    completion_only: bool
    join: str = "no"

    def each(self, output: Output | None, run: RunName) -> _Measured:
        """Each document by itself, its scores in `output` where there is one."""
        from llmkit.jobs.run import answer_rows

        run = replace(run, identity={**run.identity, **model_identity(self.engine), "resolved.protocol": self._protocol()})
        measured = _Measured(shown=self.text_field or "text")
        tally = answer_rows(self.rows, self._task(), job_for(self.engine, self.settings), output, self.out, run, measured.add)
        measured.code = summarize(tally, self.engine, self.out)
        return measured

    def concatenated(self) -> _Measured:
        from llmkit.metrics.perplexity import Likelihood
        from llmkit.tasks.score import concatenated

        task = self._scoring()
        joined, documents, words, size = concatenated(self.rows, task.fields, self.engine, self.rows.name)
        (blocks,) = task.score([joined])
        return _Measured(
            [Likelihood(sum(v for v, _ in blocks), sum(n for _, n in blocks), words, size)],
            blocks,
            [Example("1", digest(*map(str, joined.tokens)))],
            documents,
        )

    def result(self, measured: _Measured) -> Result:
        from llmkit.metrics.perplexity import scores

        if self.engine.token_ids and (remark := self.engine.bos_remark()):
            self.out.warn(remark)
        about = self.engine.identity.as_dict()
        single = measured.blocks if len(measured.documents) == 1 else []
        numbers = scores(
            measured.documents, blocks=single, protocol=self._protocol(), tokenizer=about.get("tokenizer_sha256", "server")[:8]
        )
        counts = {"documents": len(measured.documents), "tokens": sum(d.tokens for d in measured.documents)}
        counts |= {"words": sum(d.words for d in measured.documents), "bytes": sum(d.bytes for d in measured.documents)}
        if empty := sum(d.tokens == 0 for d in measured.documents):
            self.out.warn(f"{empty:,} documents have no token to score")
            counts["empty"] = empty
        return Result(
            numbers,
            measured.rows,
            counts,
            about={"input": self.rows.name, "input_sha256": self.rows.sha256, **about},
            examples=tuple(measured.examples),
        )

    def _task(self) -> Scoring | TextScoring:
        from llmkit.tasks.score import TextScoring

        return self._scoring() if self.engine.token_ids else TextScoring(self.engine, self._fields(), self.rows.name)

    def _scoring(self) -> Scoring:
        from llmkit.tasks.score import Scoring

        return Scoring(self.engine, self.windows, self._fields(), self.rows.name, batch_tokens=self.settings.batch_tokens)

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
            from llmkit.tasks.choose import begins_with_bos

            sign["bos"] = begins_with_bos(engine)
            if chat := engine.identity.as_dict().get("chat_template_sha256"):
                sign["chat"] = str(chat)[:8]
        return signature(**sign)
