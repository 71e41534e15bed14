"""`llmkit evaluate bleu` and `evaluate score`: saved outputs, or a model's answers, against references.

llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl
llmkit evaluate score --metrics bleu,chrf -m builtin:en-fr -i pairs.jsonl -o translated.jsonl
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, identity, options_set_by_user, refuse
from llmkit.cli.commands.evaluate.paired import PLACES, paired_test, show_paired
from llmkit.cli.commands.evaluate.reporting import NEEDS_OUTPUT, NOT_THE_JOBS, rows_output
from llmkit.cli.help import Page
from llmkit.cli.jobs import JobOptions
from llmkit.cli.origin import on_command_line
from llmkit.cli.parsing import MODEL, option
from llmkit.cli.scoring import GateOptions, MetricOptions, PairedOptions, SavedOutputs, ScoreFields
from llmkit.errors import InputError, RowsFailedError, UsageError
from llmkit.metrics.base import Example, Result, row_digest
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.fields import SHOWN_SOURCES, Prompt, SourceFields, first_text, prediction, references, row_id

if TYPE_CHECKING:
    from llmkit.jobs.run import JobSettings
    from llmkit.models.settings import ModelSettings


#: What each form of the command would ignore.
_ABOUT_MODELS = (
    "adapter", "device", "dtype", "quantize", "max_new_tokens", "num_beams", "stop", "chat_template", "system", "batch_size",
    "batch_tokens", "max_time", "max_tokens_total", "restart", "output", "overwrite", "source_field", "api_base", "concurrency",
    "request_timeout", "max_retries",
)  # fmt: skip
_ABOUT_ROWS = ("input", "model", "input_format", "prediction_field", "reference_field", "source_field", "offline")
_ABOUT_PAIRS = ("fail_if", "baseline", "max_regression", "test", "report", "confidence", "confidence_n")


#: What the short pages list.
_COMMON = ("predictions", "references", "input", "model", "metrics", "fail_if", "report", "json_output")
_BLEU = Page(
    ("llmkit evaluate bleu -p outputs.txt -r references.txt", "llmkit evaluate bleu -i rows.jsonl --fail-if 'bleu < 30'"),
    _COMMON, "evaluate",
)  # fmt: skip
_SCORE = Page(
    (
        "llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl --report r.json",
        "llmkit evaluate score --metrics chrf -m builtin:en-fr -i pairs.jsonl",
    ),
    _COMMON, "evaluate",
)  # fmt: skip
#: Options of other metrics than BLEU.
_NOT_BLEU = ("metrics", "chrf_char_order", "chrf_word_order", "chrf_beta", "normalize")


def register(app: typer.Typer) -> None:
    """Adds `bleu` and `score` to the commands of `app`."""
    add(app, "bleu", help="BLEU by sacrebleu: of saved outputs, or of a model's answers.", page=_BLEU, without=_NOT_BLEU)(score)
    add(app, "score", help="BLEU, chrF, TER, exact match, F1: of saved outputs, or of a model's answers.", page=_SCORE)(score)


def score(
    ctx: typer.Context,
    *,
    saved: SavedOutputs,
    rows_in: opt.RowsIn,
    row_fields: ScoreFields,
    rows_out: opt.RowsOut,
    model: Annotated[
        str | None,
        option("--model", "-m", help="Score this model's answers, not saved outputs.", panel=MODEL, metavar="REF"),
    ] = None,
    placement: opt.Placement,
    answers: opt.AnswerOptions,
    stop: opt.Stop = None,
    chat: opt.ChatOptions,
    metric: MetricOptions,
    pairs: PairedOptions,
    gates: GateOptions,
    job: JobOptions,
    display: opt.Display,
) -> int:
    """Scores saved outputs, or a model's answers, against references."""
    from llmkit.metrics.answers import steps
    from llmkit.metrics.registry import TextSettings, chosen, compute, score_names

    out, input, output = display.console, rows_in.input, rows_out.output
    predictions, references = saved.predictions, saved.references
    _check_forms(ctx, saved, pairs, scores_a_model=model is not None and not predictions)
    trust_remote_code = placement.trust_remote_code
    metric_names = chosen(metric.metrics, trust_remote_code=trust_remote_code)
    names = score_names(metric_names)
    against_first = paired_test({n: v for n, v in ctx.params.items() if n not in PLACES or on_command_line(ctx, n)})
    overlap = metric.overlap
    settings = TextSettings(overlap, steps(metric.normalize), trust_remote_code)
    end = gates.ending(names, json_output=display.json_output)
    about: dict[str, Any] = {}
    if predictions:
        systems = _saved_systems(predictions, references, rows_in)
        if against_first:
            from llmkit.metrics.paired import paired

            samples = pairs.paired_bs_n if pairs.paired_bs else pairs.paired_ar_n
            show_paired(paired(systems, names, overlap, against_first, samples), as_json=display.json_output)
            return 0
        examples = _only_one(systems)
    elif input is None or references:
        what = "no input given" if input is None else "--references needs --predictions"
        raise UsageError(what, hint="-p FILE -r FILE, or -i ROWS")
    else:
        rows = open_rows(input, **rows_in.reading, offline=placement.offline)
        fields = _Fields(row_fields.source_field, row_fields.reference_field)
        if model is None:
            examples = _from_rows(rows, row_fields.prediction_field, fields)
        else:
            if output is None:
                refuse(ctx, NEEDS_OUTPUT, "needs --output", hint="remove it, or add -o FILE")
            decoding = {"max_new_tokens": answers.max_new_tokens, "num_beams": answers.num_beams, "stop": tuple(stop or ())}
            run = _Answers(
                placement.settings_of(model), placement.engine, rows, job.settings(), fields, decoding,
                (chat.chat_template, chat.system), out,
            )  # fmt: skip
            options = options_set_by_user(ctx, leave=NOT_THE_JOBS)
            answered, about = run.to(output, input, rows_out.overwrite, job.restart, options, identity(ctx, "evaluate score"))
            examples = [_example(Row(i, i + 1, row), row["prediction"], rows.name, fields) for i, row in enumerate(answered)]
    _check_examples(examples, predictions[0] if predictions else str(input))
    hypotheses, expected = [e.prediction for e in examples], [e.references for e in examples]
    scores = tuple(score for name in metric_names for score in compute(name, hypotheses, expected, settings))
    end.finish(Result(scores, len(examples), about=about, examples=tuple(examples)), out)
    return 0


def _check_examples(examples: Sequence[Example], path: str) -> None:
    """Raises InputError for a file without a row, or with two of one id."""
    if not examples:
        raise InputError("there are no rows to score", path=path)
    _check_ids(examples, path)


def _check_forms(ctx: typer.Context, saved: SavedOutputs, pairs: PairedOptions, *, scores_a_model: bool) -> None:
    """Refuses what this form of the command would ignore. Raises UsageError."""
    paired = pairs.paired_bs or pairs.paired_ar
    if saved.predictions:
        refuse(ctx, _ABOUT_ROWS, "cannot be combined with --predictions", hint="use only one of them")
    if not scores_a_model:
        refuse(ctx, _ABOUT_MODELS, "needs --model", hint="remove it, or name a model with -m")
    else:
        refuse(ctx, ("prediction_field",), "cannot be combined with --model", hint="use only one of them")
    if pairs.paired_bs and pairs.paired_ar:
        refuse(ctx, ("paired_ar",), "cannot be combined with --paired-bs", hint="use only one of them")
    if not saved.predictions:
        refuse(ctx, ("paired_bs", "paired_ar"), "needs --predictions", hint="give at least two -p FILE")
    if paired:
        refuse(ctx, _ABOUT_PAIRS, "cannot be combined with a paired test", hint="remove it")
    for switch, number in (("paired_bs", "paired_bs_n"), ("paired_ar", "paired_ar_n"), ("confidence", "confidence_n")):
        if not ctx.params[switch]:
            refuse(ctx, (number,), f"needs --{switch.replace('_', '-')}")


def _saved_systems(predictions: Sequence[str], references: Sequence[str] | None, rows_in: opt.RowsIn) -> list[tuple[str, list[Example]]]:
    """The saved outputs of each file with the references. Raises UsageError or InputError."""
    if not references:
        raise UsageError("--predictions needs --references", hint="add -r FILE, one line per prediction")
    return [(path, _from_files(path, references, rows_in.encoding, rows_in.limit)) for path in predictions]


def _only_one(systems: list[tuple[str, list[Example]]]) -> list[Example]:
    """The examples of the only system. Raises UsageError for several."""
    if len(systems) > 1:
        raise UsageError(
            f"{len(systems)} files of predictions", hint="--paired-bs or --paired-ar compares them; several references are -r FILE -r FILE"
        )
    return systems[0][1]


def _from_files(path: str, others: Sequence[str], encoding: str, max_rows: int | None) -> list[Example]:
    """Line N of each file belongs together. Raises InputError for files of different length and empty references."""
    names = [path, *others]
    streams = [open_rows(name, format="txt", encoding=encoding, max_rows=max_rows) for name in names]
    examples: list[Example] = []
    for number, rows in enumerate(itertools.zip_longest(*streams), 1):
        if None in rows:
            raise _lengths(names, streams, number, rows.index(None))
        texts = [row.fields["text"] for row in rows]
        if empty := next((i for i, text in enumerate(texts[1:], 1) if not text.strip()), None):
            raise InputError("an empty reference", path=names[empty], line=number)
        examples.append(Example(str(number), row_digest(texts[1:]), "", texts[0], tuple(texts[1:])))
    return examples


def _from_rows(rows: Rows, prediction_field: str | None, fields: _Fields) -> list[Example]:
    examples = []
    for row in rows:
        if row.error is not None:
            raise row.error
        examples.append(_example(row, prediction(row, rows.name, prediction_field, reference=fields.reference_field), rows.name, fields))
    return examples


def _example(row: Row, answer: str, file_name: str, fields: _Fields) -> Example:
    expected = fields.expected(row, file_name)
    shown = first_text(row.fields, SHOWN_SOURCES)
    return Example(row_id(row.fields, row.index + 1), row_digest(expected, _question(row, fields)), shown, answer, expected)


def _question(row: Row, fields: _Fields) -> Any:
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
            raise InputError(f"rows {seen[example.id]} and {number} have the same id '{example.id[:80]}'", path=file_name)
        seen[example.id] = number


def _lengths(names: Sequence[str], streams: Sequence[Rows], number: int, short: int) -> InputError:
    counts = []
    for name, rows in zip(names, streams, strict=True):
        for _ in rows:
            pass
        counts.append(f"{name} has {rows.count:,} lines")
    return InputError("; ".join(counts), path=names[short], line=number, hint="line N of each file must belong together")


@dataclass(frozen=True)
class _Fields(SourceFields):
    """A row's prompt; a row without references is an error before the model runs."""

    reference_field: str | None = None

    def prompt(self, row: Row, file_name: str) -> Prompt:
        prompt = super().prompt(row, file_name)
        self.expected(row, file_name)
        return prompt

    def expected(self, row: Row, file_name: str) -> tuple[str, ...]:
        return references(row, file_name, self.reference_field)


@dataclass(frozen=True)
class _Answers:
    """A model's answers to rows, by the job loop."""

    model: ModelSettings
    engine: str
    rows: Rows
    settings: JobSettings
    fields: _Fields
    decoding: dict[str, Any]
    chat: tuple[str, str | None]
    out: console.Console

    def to(
        self, output: str | None, input: str, overwrite: bool, restart: bool, options: dict[str, Any], known: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The answered rows, and what is known of the model. Raises RowsFailedError for a row that could not be answered."""
        from llmkit.cli.running import job_for, model_identity, open_model, summarize
        from llmkit.engines.chat import ChatSettings
        from llmkit.engines.decoding import Decoding
        from llmkit.jobs.run import RunName, answer_rows
        from llmkit.tasks.generate import Answering

        answered: list[dict[str, Any]] = []
        with rows_output(output, input, known, overwrite=overwrite, restart=restart) as target:
            engine = open_model(self.model, self.out, engine=self.engine, chat=ChatSettings(*self.chat))
            beams = self.decoding["num_beams"] or (4 if engine.encoder_decoder else 1)
            decoding = Decoding(**self.decoding | {"num_beams": beams})
            task = Answering(engine, decoding, self.fields, "prediction", self.rows.name)
            run = RunName("evaluate score", options, known | model_identity(engine))
            tally = answer_rows(self.rows, task, job_for(engine, self.settings), target, self.out, run, lambda row, _: answered.append(row))
        summarize(tally, engine, self.out)
        if tally.failed:
            raise RowsFailedError(f"{tally.failed:,} rows have no answer, so there is no score; the first: {tally.first_error}")
        return answered, {
            "input": self.rows.name,
            "input_sha256": self.rows.sha256,
            **engine.identity.as_dict(),
            "decoding": decoding.record(),
        }
