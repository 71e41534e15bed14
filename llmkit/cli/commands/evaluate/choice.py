"""`llmkit evaluate choice`: multiple choice and classification by log-likelihood.

llmkit evaluate choice -m gpt2 -i questions.jsonl
llmkit evaluate choice -m gpt2 -i reviews.csv --labels "positive,negative" --template "Review: {text}\\nSentiment:" --answer-field label
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmkit import __version__
from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.commands.evaluate.reporting import NOT_THE_JOBS, ending, rows_output
from llmkit.cli.running import model_identity, open_model, summarise
from llmkit.errors import RowsFailedError, UsageError
from llmkit.metrics.base import Example, Result, signature
from llmkit.models.builtin import DEFAULT
from llmkit.rows import open_rows
from llmkit.rows.fields import QUESTIONS, first_text, row_id

NAMES = ("accuracy", "accuracy_normalized")


def register(app: typer.Typer) -> None:
    app.command("choice", help="Multiple choice and classification: is the right answer the likeliest?")(choice)


def choice(
    ctx: typer.Context,
    model: opt.Model = DEFAULT,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = "none",
    offline: opt.Offline = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    input: opt.Input = None,
    output: opt.Output = None,
    input_format: opt.InputFormat = "auto",
    encoding: opt.Encoding = "utf-8",
    limit: opt.Limit = None,
    template: opt.Template = None,
    labels: Annotated[
        str | None, opt.option("--labels", help="Choices of every row: positive,negative.", panel=opt.INPUT, metavar="A,B,...")
    ] = None,
    answer_field: Annotated[str | None, opt.option("--answer-field", help="The right one.", panel=opt.INPUT, metavar="NAME")] = None,
    overwrite: opt.Overwrite = False,
    chat_template: opt.ChatTemplate = "none",
    fail_if: opt.FailIf = None,
    baseline: opt.Baseline = None,
    max_regression: opt.MaxRegression = None,
    test: opt.Test = "auto",
    batch_size: opt.BatchSize = "auto",
    batch_tokens: opt.BatchTokens = 16_384,
    restart: opt.Restart = False,
    max_time: opt.MaxTime = None,
    json_output: opt.Json = False,
    report: opt.Report = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    config: opt.Config = None,
) -> int:
    out = console.Console(quiet, verbose)
    end = ending(
        NAMES, fail_if=fail_if, reports=report, json_output=json_output, baseline=baseline, max_regression=max_regression, test=test
    )
    if input is None:
        raise UsageError("there is nothing to score", hint="name questions with --input FILE")
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.torch.loading import ModelSettings
    from llmkit.jobs.outcome import Tally
    from llmkit.jobs.run import JobSettings, RunName, answered, check_finished, file_job
    from llmkit.metrics.perplexity import Windows
    from llmkit.rows.fields import PromptFields
    from llmkit.tasks.choose import DEFAULT_TEMPLATE, ChoiceFields, Choosing

    pattern = (template or DEFAULT_TEMPLATE).replace("\\n", "\n")
    fields = ChoiceFields(PromptFields(pattern), tuple(part.strip() for part in labels.split(",")) if labels else None, answer_field)
    rows = open_rows(input, format=input_format, encoding=encoding, max_rows=limit, offline=offline)
    settings = JobSettings(opt.batch_size(batch_size), batch_tokens, 0, False, opt.duration(max_time))
    target = rows_output(output, input, overwrite=overwrite, restart=restart)
    known = opt.identity(ctx, "evaluate choice")
    try:
        if target is not None:
            check_finished(target, known)
        engine = open_model(
            ModelSettings(model, adapter, device, dtype, offline, trust_remote_code, quantize), out, chat=ChatSettings(chat_template)
        )
        most = engine.context or 1024
        task = Choosing(engine, Windows(most, most), fields, rows.name, batch_tokens=batch_tokens)
        if target is None:
            tally = Tally()
            found = [outcome.line() for outcome in answered(rows, task, settings, out, tally)]
        else:
            run = RunName("evaluate choice", opt.given(ctx, leave=NOT_THE_JOBS), known | model_identity(engine))
            tally = file_job(rows, task, settings, target, out, run)
            found = [row for row, _ in target.read_rows(tally.failed_rows)]
    finally:
        if target is not None:
            target.release()
    summarise(tally, engine, out)
    if tally.failed or not found:
        first = tally.first_error or f"no rows in {rows.name}"
        raise RowsFailedError(f"{tally.failed:,} rows could not be scored, so there is no accuracy; {first}")
    about = {"input": rows.name, "input_sha256": rows.sha256, **engine.description}
    end.finish(_result(found, task.protocol(pattern), about), out)
    return 0


def _result(found: list[dict[str, Any]], sign: str, about: dict[str, Any]) -> Result:
    from llmkit.metrics.accuracy import accuracy

    version = signature(version=f"llmkit-{__version__}")
    scores = (
        accuracy("accuracy", [row["correct"] for row in found], f"{sign}|norm:none|{version}"),
        accuracy("accuracy_normalized", [row["correct_normalized"] for row in found], f"{sign}|norm:characters|{version}"),
    )
    examples = []
    for number, row in enumerate(found, 1):
        asked = first_text(row, QUESTIONS)
        examples.append(Example(row_id(row, number), row["digest"], asked, row["choice"], (row["right"],)))
    return Result(scores, len(found), about=about, examples=tuple(examples))
