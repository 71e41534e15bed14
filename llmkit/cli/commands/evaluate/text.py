"""`llmkit evaluate bleu` and `evaluate score`: saved outputs, or a model's answers, against references.

llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl
llmkit evaluate score --metrics bleu,chrf -m builtin:en-fr -i pairs.jsonl -o translated.jsonl
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import identity, option_names, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.answering import Answers, Target
from llmkit.cli.commands.evaluate.paired import PLACES, paired_test, show_paired
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS
from llmkit.cli.decoding import AnswerOptions
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions
from llmkit.cli.parameter_source import on_command_line
from llmkit.cli.parsing import MODEL, option
from llmkit.cli.scoring import (
    CacheOptions,
    GateOptions,
    MetricOptions,
    PairedOptions,
    SamplingOptions,
    SavedOutputs,
    ScoreFields,
    refuse_unread,
)
from llmkit.cli.servers import refuse_without_server
from llmkit.cli.session import session_of
from llmkit.errors import UsageError, counted
from llmkit.metrics.base import Example, Result, Score
from llmkit.metrics.examples import ReferencedFields, Saved, check_examples, example_of, read_examples, read_saved
from llmkit.rows import Row, open_rows

if TYPE_CHECKING:
    from llmkit.metrics.registry import TextSettings

#: What each form of the command would ignore.
_ABOUT_MODELS = (
    # a module of a metric may run code that comes with it, and rows may lie on a hub
    *option_names(opt.Placement, but=("trust_remote_code", "offline")),
    *option_names(AnswerOptions, opt.ChatOptions, SamplingOptions, JobOptions, CacheOptions, opt.RowsOut), "stop", "source_field",
)  # fmt: skip
_ABOUT_ROWS = ("input", "model", "input_format", "prediction_field", "reference_field", "source_field", "offline")
_ABOUT_PAIRS = ("fail_if", "baseline", "max_regression", "test", "report", "confidence", "confidence_n")


#: What the short pages list.
_COMMON = ("predictions", "references", "input", "model", "metrics", "fail_if", "report", "json_output")
BLEU_PAGE = Page(
    ("llmkit evaluate bleu -p outputs.txt -r references.txt", "llmkit evaluate bleu -i rows.jsonl --fail-if 'bleu < 30'"),
    _COMMON, "evaluate",
)  # fmt: skip
SCORE_PAGE = Page(
    (
        "llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl --report r.json",
        "llmkit evaluate score --metrics chrf -m builtin:en-fr -i pairs.jsonl",
    ),
    _COMMON, "evaluate",
)  # fmt: skip
#: Options of other metrics than BLEU.
NOT_BLEU = (
    "metrics", "chrf_char_order", "chrf_word_order", "chrf_beta", "chrf_whitespace", "chrf_eps_smoothing", "ter_normalized", "ter_no_punct",
    "ter_asian_support", "ter_case_sensitive", "normalize",
)  # fmt: skip


def score(
    ctx: typer.Context,
    *,
    saved: SavedOutputs,
    rows_in: opt.RowsIn,
    row_fields: ScoreFields,
    rows_out: opt.RowsOut,
    model: Annotated[
        str | None,
        option("--model", "-m", help="Score this model's answers instead of saved outputs.", panel=MODEL, metavar="REF"),
    ] = None,
    placement: opt.Placement,
    answers: AnswerOptions,
    stop: opt.Stop = None,
    chat: opt.ChatOptions,
    metric: MetricOptions,
    sampling: SamplingOptions,
    pairs: PairedOptions,
    gates: GateOptions,
    job: JobOptions,
    cache: CacheOptions,
    display: opt.Display,
) -> int:
    """Scores saved outputs, or a model's answers, against references."""
    from llmkit.metrics.answers import steps
    from llmkit.metrics.paired import paired
    from llmkit.metrics.registry import TextSettings, chosen, module_names

    out, input, output = display.console, rows_in.input, rows_out.output
    predictions, references = saved.predictions, saved.references
    _check_forms(ctx, saved, pairs, None if predictions else model)
    metric_names = chosen(metric.metrics, trust_remote_code=placement.trust_remote_code)
    against_first = paired_test({n: v for n, v in ctx.params.items() if n not in PLACES or on_command_line(ctx, n)})
    settings = TextSettings(metric.overlap, steps(metric.normalize), placement.trust_remote_code)
    refuse_unread(ctx, metric_names)
    score_names = names(metric_names, sampling.repeat if model and not predictions else 1)
    end = gates.ending(ctx, score_names, json_output=display.json_output, modules=module_names(metric_names))
    about: dict[str, Any] = {}
    samples: list[list[str]] | None = None
    if predictions:
        saved_outputs = _saved_systems(predictions, references, rows_in, out)
        if against_first:
            count = pairs.paired_bs_n if pairs.paired_bs else pairs.paired_ar_n
            systems = [(each.name, each.examples) for each in saved_outputs]
            show_paired(paired(systems, metric_names, settings.overlap, against_first, count), out, as_json=display.json_output)
            return 0
        examples, about = _only_one(saved_outputs)
    elif input is None or references:
        what = "no input given" if input is None else "--references needs --predictions"
        raise UsageError(what, hint="-p FILE -r FILE, or -i ROWS")
    else:
        rows = open_rows(input, **rows_in.reading, offline=placement.offline)
        fields = ReferencedFields(row_fields.source_field, row_fields.reference_field)
        if model is None:
            examples = read_examples(rows, row_fields.prediction_field, fields)
            about = {"input": rows.name} | ({} if rows.sha256 is None else {"input_sha256": rows.sha256})
        else:
            if output is None:
                refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
            cache.check()
            decoding = sampling.decoding(ctx) | {"max_new_tokens": answers.max_new_tokens, "num_beams": answers.num_beams}
            decoding["stop"] = tuple(stop or ())
            run = Answers(
                placement.settings_of(model), placement.engine, rows, job.settings(), fields, decoding,
                chat.settings, cache, out, session_of(ctx), job.crew,
            )  # fmt: skip
            options = options_set_by_user(ctx, leave=NOT_THE_JOBS)
            known = identity(ctx, "evaluate score")
            target = Target(output, input, rows_out.overwrite, job.restart, options, known)
            examples, samples, about = _answered(run, target, repeated=sampling.repeat > 1)
    check_examples(examples, predictions[0] if predictions else str(input), metric_names)
    scores = _scores(metric_names, examples, samples or [[e.prediction] for e in examples], settings, out)
    end.finish(Result(scores, len(examples), about=about, examples=tuple(examples)), out)
    return 0


def _answered(run: Answers, target: Target, *, repeated: bool) -> tuple[list[Example], list[list[str]], dict[str, Any]]:
    """A model's answers as examples (each row's first answer), all answers to each row, and what the report says of the run."""
    answered, about = run.to(target)
    samples = [row["predictions"] if repeated else [row["prediction"]] for row in answered]
    examples = [example_of(Row(i, i + 1, row), samples[i][0], run.rows.name, run.fields) for i, row in enumerate(answered)]
    return examples, samples, about


def names(metrics: Sequence[str], repeat: int) -> tuple[str, ...]:
    """The scores of a run, as far as they are known beforehand."""
    from llmkit.metrics.registry import score_names
    from llmkit.metrics.repeated import PASS_NAMES

    return (*score_names(metrics), *(PASS_NAMES if repeat > 1 and {"exact_match", "accuracy"} & set(metrics) else ()))


def _scores(
    metrics: Sequence[str], examples: Sequence[Example], samples: Sequence[Sequence[str]], settings: TextSettings, out: console.Console
) -> tuple[Score, ...]:
    """samples: the answers to each row, as many to each."""
    from llmkit.metrics.overlap import BOOTSTRAP_ROWS
    from llmkit.metrics.registry import compute
    from llmkit.metrics.repeated import over_samples, pass_rates

    if settings.overlap.confidence_n and len(examples) < BOOTSTRAP_ROWS:
        out.warn(f"--confidence: sacreBLEU's interval is too narrow over fewer than {BOOTSTRAP_ROWS} rows; without --confidence it is not")
    _warn_of_unread(metrics, [example.references for example in examples], settings, out)
    hypotheses = [answer for own in samples for answer in own]
    expected = [example.references for example, own in zip(examples, samples, strict=True) for _ in own]
    scored = tuple(score for name in metrics for score in compute(name, hypotheses, expected, settings))
    repeat = len(samples[0])
    return scored if repeat == 1 else (*(over_samples(score, repeat) for score in scored), *pass_rates(scored, repeat))


def _warn_of_unread(metrics: Sequence[str], references: Sequence[Sequence[str]], settings: TextSettings, out: console.Console) -> None:
    """Says where a metric can't read the language of the references, so that its score says nothing."""
    from llmkit.metrics.overlap import unsplit_by_bleu
    from llmkit.metrics.words import unread_by_rouge

    if any(name.startswith("rouge") for name in metrics) and (count := unread_by_rouge(references)):
        out.warn(f"rouge: {counted(count, 'row scores', 'rows score')} 0, as ROUGE reads only letters from a to z and digits")
    if "bleu" in metrics and (count := unsplit_by_bleu(references, settings.overlap)) * 2 > len(references):
        out.warn(f"bleu: the tokenizer does not split Chinese and Japanese sentences ({count:,} of the rows)", hint="`tokenize` zh or char")


def _check_forms(ctx: typer.Context, saved: SavedOutputs, pairs: PairedOptions, model: str | None) -> None:
    """Refuses what this form of the command would ignore. model: whose answers are scored, None for saved ones. Raises UsageError."""
    if saved.predictions:
        refuse(ctx, _ABOUT_ROWS, "cannot be combined with --predictions", hint="use only one of them")
    if model is None:
        refuse(ctx, _ABOUT_MODELS, "needs --model", hint="remove it, or name a model with -m")
    else:
        refuse_without_server(ctx, model)
        refuse(ctx, ("prediction_field",), "cannot be combined with --model", hint="use only one of them")
    if pairs.paired_bs and pairs.paired_ar:
        refuse(ctx, ("paired_ar",), "cannot be combined with --paired-bs", hint="use only one of them")
    if not saved.predictions:
        refuse(ctx, ("paired_bs", "paired_ar"), "needs --predictions", hint="give at least two -p FILE")
    if pairs.paired_bs or pairs.paired_ar:
        refuse(ctx, _ABOUT_PAIRS, "cannot be combined with a paired test", hint="remove it")
    if ctx.params["repeat"] > 1:
        # sacrebleu's bootstrap would take the samples of one row for rows of their own
        refuse(ctx, ("confidence", "confidence_n"), "cannot be combined with --repeat", hint="use only one of them")
    for switch, number in (("paired_bs", "paired_bs_n"), ("paired_ar", "paired_ar_n"), ("confidence", "confidence_n")):
        if not ctx.params[switch]:
            refuse(ctx, (number,), f"needs --{switch.replace('_', '-')}")
        elif ctx.params[number] < 2:
            raise UsageError(f"`{number}` {ctx.params[number]}: it must be 2 or more")


def _saved_systems(predictions: Sequence[str], references: Sequence[str] | None, rows_in: opt.RowsIn, out: console.Console) -> list[Saved]:
    """The saved outputs of each file with the references. Raises UsageError or InputError."""
    if not references:
        raise UsageError("--predictions needs --references", hint="add -r FILE, one line per prediction")
    return [read_saved(path, references, encoding=rows_in.encoding, max_rows=rows_in.limit, warn=out.warn) for path in predictions]


def _only_one(systems: list[Saved]) -> tuple[list[Example], dict[str, Any]]:
    """The examples of the only system, and what is known of its files. Raises UsageError for several."""
    if len(systems) > 1:
        raise UsageError(
            f"{len(systems)} files of predictions", hint="--paired-bs or --paired-ar compares them; several references are -r FILE -r FILE"
        )
    return systems[0].examples, systems[0].about
