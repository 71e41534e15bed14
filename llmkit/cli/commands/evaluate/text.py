"""`llmkit evaluate bleu` and `evaluate score`: saved outputs, or a model's answers, against references.

llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl
llmkit evaluate score --metrics bleu,chrf -m builtin:en-fr -i pairs.jsonl -o translated.jsonl
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import identity, option_names, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.answering import Answers, Fields, Target
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
from llmkit.errors import InputError, UsageError, counted
from llmkit.metrics.base import Example, Result, Score, row_digest
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.fields import SHOWN_SOURCES, first_text, row_id
from llmkit.rows.saved import prediction

if TYPE_CHECKING:
    from llmkit.metrics.registry import TextSettings

#: What each form of the command would ignore.
_ABOUT_MODELS = (
    # a module of a metric may run code that comes with it, and rows may lie on a hub
    *option_names(opt.Placement, but=("trust_remote_code", "offline")),
    *option_names(AnswerOptions, opt.ChatOptions, SamplingOptions, JobOptions, CacheOptions, opt.RowsOut), "stop", "source_field",
)  # fmt: skip
_ABOUT_ROWS = ("input", "model", "input_format", "prediction_field", "reference_field", "source_field", "offline")
#: Metrics for which a reference may be the empty text.
MAY_BE_EMPTY = ("exact_match", "accuracy", "f1")
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
        fields = Fields(row_fields.source_field, row_fields.reference_field)
        if model is None:
            examples = _from_rows(rows, row_fields.prediction_field, fields)
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
    _check_examples(examples, predictions[0] if predictions else str(input), metric_names)
    scores = _scores(metric_names, examples, samples or [[e.prediction] for e in examples], settings, out)
    end.finish(Result(scores, len(examples), about=about, examples=tuple(examples)), out)
    return 0


def _answered(run: Answers, target: Target, *, repeated: bool) -> tuple[list[Example], list[list[str]], dict[str, Any]]:
    """A model's answers as examples (each row's first answer), all answers to each row, and what the report says of the run."""
    answered, about = run.to(target)
    samples = [row["predictions"] if repeated else [row["prediction"]] for row in answered]
    examples = [_example(Row(i, i + 1, row), samples[i][0], run.rows.name, run.fields) for i, row in enumerate(answered)]
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


def _check_examples(examples: Sequence[Example], path: str, metrics: Sequence[str]) -> None:
    """Raises InputError for a file without a row, with two of one id, or with questions without an answer that a metric can't score."""
    if not examples:
        raise InputError("there are no rows to score", path=path)
    other = next((name for name in metrics if name not in MAY_BE_EMPTY), None)
    if other and (empty := next((number for number, each in enumerate(examples, 1) if "" in each.references), None)):
        raise InputError(f"row {empty} is a question without an answer, which {other} can't score", path=path)
    _check_ids(examples, path)


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


@dataclass(frozen=True)
class _Saved:
    """Saved outputs with their references. about: the files and their hashes."""

    name: str
    examples: list[Example]
    about: dict[str, Any]


def _saved_systems(predictions: Sequence[str], references: Sequence[str] | None, rows_in: opt.RowsIn, out: console.Console) -> list[_Saved]:
    """The saved outputs of each file with the references. Raises UsageError or InputError."""
    if not references:
        raise UsageError("--predictions needs --references", hint="add -r FILE, one line per prediction")
    return [_from_files(path, references, rows_in, out) for path in predictions]


def check_plain(path: str) -> None:
    """Raises UsageError for a file of rows where lines of text are compared: its lines would be scored as they are, with their names."""
    from llmkit.rows.reading import FORMATS, format_named

    if format_named(path) in FORMATS and format_named(path) != "txt":
        hint = "rows that hold predictions and references are read with `input`; a file of lines has another ending, as .txt"
        raise UsageError(f"{path} holds rows, and `predictions` and `references` are lines of text", hint=hint)


def _only_one(systems: list[_Saved]) -> tuple[list[Example], dict[str, Any]]:
    """The examples of the only system, and what is known of its files. Raises UsageError for several."""
    if len(systems) > 1:
        raise UsageError(
            f"{len(systems)} files of predictions", hint="--paired-bs or --paired-ar compares them; several references are -r FILE -r FILE"
        )
    return systems[0].examples, systems[0].about


def _from_files(path: str, others: Sequence[str], rows_in: opt.RowsIn, out: console.Console) -> _Saved:
    """Line N of each file belongs together. Raises InputError for files of different length and empty references."""
    names = [path, *others]
    for name in names:
        check_plain(name)
    streams = [open_rows(name, format="txt", encoding=rows_in.encoding, max_rows=rows_in.limit) for name in names]
    examples: list[Example] = []
    for number, rows in enumerate(itertools.zip_longest(*streams), 1):
        if None in rows:
            raise _lengths(names, streams, number, rows.index(None))
        texts = [row.fields["text"] for row in rows]
        if empty := next((i for i, text in enumerate(texts[1:], 1) if not text.strip()), None):
            raise InputError("an empty reference", path=names[empty], line=number)
        examples.append(Example(str(number), row_digest(texts[1:]), "", texts[0], tuple(texts[1:])))
    for stream in streams:
        if stream.mixed_line_ends:
            out.warn(
                f"{stream.name}, line {stream.first_cr}: this line ends with a carriage return (CR), other lines with a line feed (LF)"
            )
    hashes = [stream.sha256 for stream in streams]
    about = {"predictions": path, "predictions_sha256": hashes[0], "references": list(others), "references_sha256": hashes[1:]}
    return _Saved(path, examples, about)


def _from_rows(rows: Rows, prediction_field: str | None, fields: Fields) -> list[Example]:
    from llmkit.jobs.table import as_answered
    from llmkit.rows.reading import format_named

    examples, table = [], format_named(rows.name) in ("csv", "tsv")
    for row in rows:
        if row.error is not None:
            raise row.error
        if table:  # whose cells are no formulas
            row = replace(row, fields=dict(as_answered(row.fields)))
        examples.append(_example(row, prediction(row, rows.name, prediction_field, reference=fields.reference_field), rows.name, fields))
    return examples


def _example(row: Row, answer: str, file_name: str, fields: Fields) -> Example:
    expected = fields.expected(row, file_name)
    shown = first_text(row.fields, SHOWN_SOURCES)
    return Example(row_id(row.fields, row.index + 1), row_digest(expected, _question(row, fields)), shown, answer, expected)


def _question(row: Row, fields: Fields) -> Any:
    """The prompt of a model, as far as the row shows it: a text, messages, or None. `text` may be an answer as well."""
    both = row.fields.get("translation")
    if fields.field is None and isinstance(both, dict):
        return next(iter(both.values()), None)
    names = (fields.field,) if fields.field else ("source", "src", "prompt", "instruction", "question", "messages")
    name = next((n for n in names if n in row.fields), None)
    if name == "instruction" and row.fields.get("input"):
        return [row.fields[name], row.fields["input"]]
    return row.fields.get(name or "")


def _check_ids(examples: Sequence[Example], file_name: str) -> None:
    """Rows are paired by id, so an id may occur once. Raises InputError naming both rows."""
    seen: dict[str, int] = {}
    for number, example in enumerate(examples, 1):
        if example.id in seen:
            hint = "a row without an id is called by its number" if example.id in (str(seen[example.id]), str(number)) else None
            raise InputError(f"rows {seen[example.id]} and {number} have the same id '{example.id[:80]}'", path=file_name, hint=hint)
        seen[example.id] = number


def _lengths(names: Sequence[str], streams: Sequence[Rows], number: int, short: int) -> InputError:
    counts = []
    for name, rows in zip(names, streams, strict=True):
        for _ in rows:
            pass
        counts.append(f"{name} has {counted(rows.count, 'line')}")
    odd = next(((name, rows.first_cr) for name, rows in zip(names, streams, strict=True) if rows.first_cr is not None), None)
    hint = "line N of each file must belong together"
    if odd is not None:
        hint += f"; in {odd[0]} line {odd[1]} ends with a carriage return (CR) alone"
    return InputError("; ".join(counts), path=names[short], line=number, hint=hint)
