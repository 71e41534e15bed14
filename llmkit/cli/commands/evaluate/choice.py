"""`llmkit evaluate choice`: multiple choice and classification by log-likelihood.

llmkit evaluate choice -m gpt2 -i questions.jsonl
llmkit evaluate choice -m gpt2 -i reviews.csv --labels "positive,negative" --template "Review: {text}\\nSentiment:" --answer-field label
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from llmkit.cli import options as opt
from llmkit.cli.command import identity, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS, rows_output
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions
from llmkit.cli.parsing import INPUT, field_option, option
from llmkit.cli.running import model_identity, models_open, summarize
from llmkit.cli.scoring import CacheOptions, GateOptions
from llmkit.cli.servers import refuse_without_server
from llmkit.cli.session import session_of
from llmkit.engines.utilization import measured
from llmkit.errors import InputError, RowsFailedError, UsageError, counted
from llmkit.metrics.base import Example, Result, signature
from llmkit.rows import open_rows
from llmkit.rows.fields import QUESTIONS, first_text, row_id
from llmkit.version import __version__

NAMES = ("accuracy", "accuracy_normalized")
#: Questions are plain text, unless a template is asked for.
_PLAIN = opt.TemplateOptions("none")

PAGE = Page(
    (
        "llmkit evaluate choice -m gpt2 -i questions.jsonl",
        "llmkit evaluate choice -i reviews.csv --labels good,bad --answer-field label",
    ),
    ("model", "input", "output", "template", "labels", "fail_if", "baseline", "report", "json_output"),
    "evaluate",
)  # fmt: skip


def choice(
    ctx: typer.Context,
    *,
    model: opt.ModelOptions,
    rows_in: opt.RowsIn,
    template: opt.Template = None,
    labels: Annotated[
        str | None, option("--labels", help="The choices for every row: positive,negative.", panel=INPUT, metavar="A,B,...")
    ] = None,
    answer_field: Annotated[str | None, field_option("--answer-field", help="The field with the right choice.", panel=INPUT)] = None,
    rows_out: opt.RowsOut,
    chat: opt.TemplateOptions = _PLAIN,
    gates: GateOptions,
    job: JobOptions,
    cache: CacheOptions,
    display: opt.Display,
) -> int:
    """Reads questions, scores their choices with the model, and reports accuracies."""
    out, input, output, batch_tokens = display.console, rows_in.input, rows_out.output, job.batch_tokens
    end = gates.ending(ctx, NAMES, json_output=display.json_output)
    if input is None:
        raise UsageError("no input given", hint="name questions with --input FILE")
    refuse_without_server(ctx, model.model)
    if output is None:
        refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
    cache.check()
    from llmkit.engines.registry import Model
    from llmkit.jobs.run import RunName, answer_rows
    from llmkit.metrics.perplexity import Windows
    from llmkit.rows.fields import PromptFields
    from llmkit.tasks.choose import DEFAULT_TEMPLATE, ChoiceFields, Choosing, TextChoosing

    pattern = (template or DEFAULT_TEMPLATE).replace("\\n", "\n")
    same = None if labels is None else tuple(part.strip() for part in labels.split(","))
    fields = ChoiceFields(PromptFields(pattern), same, answer_field)
    rows = open_rows(input, **rows_in.reading, offline=model.offline)
    known = identity(ctx, "evaluate choice")
    scored: list[dict[str, Any]] = []
    opened = Model(model.settings, model.engine, chat=chat.settings)
    with (
        rows_output(output, input, known, overwrite=rows_out.overwrite, restart=job.restart) as target,
        models_open([opened], job.crew, out, kept=session_of(ctx)) as (engine,),
    ):
        most = engine.context or 1024
        task: Choosing | TextChoosing = TextChoosing(engine, fields, rows.name)
        if engine.token_ids:
            task = Choosing(engine, Windows(most, most), fields, rows.name, batch_tokens=batch_tokens)
        run = RunName(
            "evaluate choice", options_set_by_user(ctx, leave=NOT_THE_JOBS), known | model_identity(engine), partial(measured, engine)
        )
        with cache.over(task, engine, run.identity, out) as asked:
            tally = answer_rows(rows, asked, job.settings().for_engine(engine), target, out, run, lambda row, _: scored.append(row))
    summarize(tally, engine, out, target)
    if tally.failed:
        raise RowsFailedError(f"{counted(tally.failed, 'row')} could not be scored, so there is no accuracy; {tally.first_error}")
    if not scored:
        raise InputError("there are no rows to score", path=rows.name)
    about = {"input": rows.name, "input_sha256": rows.sha256, **engine.identity.as_dict()}
    end.finish(_result(scored, task.protocol(pattern), about), out)
    return 0


def _result(rows: list[dict[str, Any]], sign: str, about: dict[str, Any]) -> Result:
    from llmkit.metrics.accuracy import accuracy

    version = signature(version=f"llmkit-{__version__}")
    scores = (
        accuracy("accuracy", [row["correct"] for row in rows], f"{sign}|norm:none|{version}"),
        accuracy("accuracy_normalized", [row["correct_normalized"] for row in rows], f"{sign}|norm:characters|{version}"),
    )
    examples = []
    for number, row in enumerate(rows, 1):
        question = first_text(row, QUESTIONS)
        examples.append(Example(row_id(row, number), row["digest"], question, row["choice"], (row["right"],)))
    return Result(scores, len(rows), about=about, examples=tuple(examples))
