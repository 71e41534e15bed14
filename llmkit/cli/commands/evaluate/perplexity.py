"""`llmkit evaluate perplexity`: how well a model predicts texts, and how far it is from another model.

llmkit evaluate perplexity -m gpt2 -i book.txt
llmkit evaluate perplexity -m builtin:en-fr -i pairs.jsonl --json
llmkit evaluate perplexity -i documents.jsonl -o per-document.jsonl --stride 256
llmkit evaluate perplexity -m gpt2 -i news.txt -i novels.jsonl --fail-if "macro_bits_per_byte > 1.1"
llmkit evaluate perplexity -m gpt2 --quantize int8 --against gpt2 -i book.txt --fail-if "kl_divergence > 0.01"
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli import options as opt
from llmkit.cli.command import identity, option_names, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS, rows_output
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions, MaxErrors
from llmkit.cli.parsing import INPUT, MODEL, SCORING, count_option, option
from llmkit.cli.running import model_identity, models_open, summarize
from llmkit.cli.scoring import CacheOptions, GateOptions
from llmkit.cli.servers import refuse_without_server
from llmkit.cli.session import session_of
from llmkit.engines.utilization import measured
from llmkit.errors import UsageError
from llmkit.rows import open_rows

if TYPE_CHECKING:
    from llmkit.engines.base import Engine

#: Options about single documents, which do not apply to one joined text.
_ABOUT_EACH = (
    *option_names(opt.RowsOut, JobOptions, CacheOptions, but=("batch_tokens",)), "completion_only", "max_errors", "against",
)  # fmt: skip
#: ... and what counts a model's tokens, or compares them.
_ABOUT_TOKENS = ("against", "concatenate", "context", "stride")
NAMES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mean_log_likelihood")
#: Scores that several files have a macro average of: a mean log-likelihood is the logarithm of one of them.
AVERAGED = NAMES[:4]


def names(inputs: int, against: str | None) -> tuple[str, ...]:
    """The scores of a run over `inputs` files."""
    from llmkit.metrics import divergence

    macro = tuple(f"macro_{name}" for name in AVERAGED) if inputs > 1 else ()
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
    _check_forms(ctx, inputs, output, concatenate=concatenate, completion_only=completion_only)
    if concatenate:  # values of the environment that are about single documents
        output, completion_only, against, cache = None, False, None, CacheOptions()
        job = replace(job, workers=None, ray=None, cpus_per_worker=None, gpus_per_worker=None)
    _check_windows(context, stride)
    refuse_without_server(ctx, model.model)
    cache.check()
    reading = row_format.reading | {"offline": model.offline, "whole_text": not by_line, "text_field": text_field or "text"}
    files = [open_rows(path, **reading) for path in inputs]
    if not any(rows.plain for rows in files):
        refuse(ctx, ("by_line",), "applies to plain text, and the input has rows", hint="remove it")
    from llmkit.engines.registry import Model
    from llmkit.jobs.run import RunName, answer_rows
    from llmkit.tasks.perplexity import Measurement, windows_of

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
        measurement = Measurement(
            engine, reference, windows_of(engine, context, stride), text_field, completion_only, concatenate, settings.batch_tokens
        )
        identity_of_run = {**known, **model_identity(engine), **measurement.facts()}
        run = RunName("evaluate perplexity", options_set_by_user(ctx, leave=NOT_THE_JOBS), identity_of_run, partial(measured, engine))
        code, done = 0, []
        for rows in files:
            if concatenate:
                done.append(measurement.joined_text(rows))
                continue
            done.append(measurement.measured(rows))
            with cache.over(measurement.task(rows.name), engine, run.identity, out) as task:
                tally = answer_rows(rows, task, settings.for_engine(engine), target, out, run, done[-1].add)
            code = max(code, summarize(tally, engine, out, target))
    end.finish(measurement.result(done, AVERAGED, out.warn), out)
    return code


def _check_forms(ctx: typer.Context, inputs: list[str], output: str | None, *, concatenate: bool, completion_only: bool) -> None:
    """Refuses what this form of the command would ignore. Raises UsageError."""
    _check_inputs(inputs)
    if concatenate:
        refuse(ctx, _ABOUT_EACH, "cannot be combined with --concatenate", hint="use only one of them")
    elif output is not None and len(inputs) > 1:
        raise UsageError(f"--output with {len(inputs)} inputs", hint="one output holds the rows of one input")
    if output is None or concatenate:
        refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
    if completion_only and not concatenate:
        refuse(ctx, ("text_field",), "cannot be combined with --completion-only", hint="use only one of them")
    else:
        why = "needs --completion-only: a text by itself goes through no chat template"
        refuse(ctx, ("chat_template_kwargs", "chat_template"), why, hint="remove it")


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
