"""`llmkit evaluate bleu` and `evaluate score`: saved outputs, or a model's answers, against references.

llmkit evaluate bleu -p hypotheses.txt -r references.txt
llmkit evaluate score --metrics bleu,chrf -i outputs.jsonl
llmkit evaluate score --metrics bleu,chrf -m builtin:en-fr -i pairs.jsonl -o translated.jsonl
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.commands.evaluate.paired import paired_test, show_paired
from llmkit.cli.commands.evaluate.reporting import NOT_THE_JOBS, ending, rows_output
from llmkit.errors import InputError, RowsFailedError, UsageError
from llmkit.metrics.base import Example, Result, row_digest
from llmkit.rows import Row, Rows, open_rows
from llmkit.rows.fields import SHOWN_SOURCES, Prompt, SourceFields, first_text, prediction, references, row_id

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import ModelSettings
    from llmkit.jobs.run import JobSettings


def register(app: typer.Typer) -> None:
    app.command("bleu", help="BLEU by sacrebleu: of saved outputs, or of a model's answers.")(score)
    app.command("score", help="BLEU, chrF, TER, exact match, F1: of saved outputs, or of a model's answers.")(score)


def score(
    ctx: typer.Context,
    predictions: opt.Predictions = None,
    references: opt.References = None,
    input: opt.Input = None,
    output: opt.Output = None,
    input_format: opt.InputFormat = "auto",
    encoding: opt.Encoding = "utf-8",
    limit: opt.Limit = None,
    prediction_field: opt.PredictionField = None,
    reference_field: opt.ReferenceField = None,
    source_field: opt.SourceField = None,
    overwrite: opt.Overwrite = False,
    model: opt.OptionalModel = None,
    adapter: opt.Adapter = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = "none",
    offline: opt.Offline = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    max_new_tokens: opt.MaxNewTokens = None,
    num_beams: opt.OptionalNumBeams = None,
    stop: opt.Stop = None,
    chat_template: opt.ChatTemplate = "auto",
    system: opt.System = None,
    metrics: opt.Metrics = "bleu",
    tokenize: opt.Tokenize = None,
    lowercase: opt.Lowercase = False,
    smooth_method: opt.SmoothMethod = "exp",
    smooth_value: opt.SmoothValue = None,
    chrf_char_order: opt.ChrfCharOrder = 6,
    chrf_word_order: opt.ChrfWordOrder = 0,
    chrf_beta: opt.ChrfBeta = 2,
    confidence: opt.Confidence = False,
    confidence_n: opt.ConfidenceN = 1000,
    paired_bs: opt.PairedBs = False,
    paired_ar: opt.PairedAr = False,
    paired_bs_n: opt.PairedBsN = 1000,
    paired_ar_n: opt.PairedArN = 10_000,
    normalize: opt.Normalize = "none",
    fail_if: opt.FailIf = None,
    baseline: opt.Baseline = None,
    max_regression: opt.MaxRegression = None,
    test: opt.Test = "auto",
    batch_size: opt.BatchSize = "auto",
    batch_tokens: opt.BatchTokens = 16_384,
    max_time: opt.MaxTime = None,
    restart: opt.Restart = False,
    json_output: opt.Json = False,
    report: opt.Report = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    config: opt.Config = None,
) -> int:
    from llmkit.metrics.answers import steps
    from llmkit.metrics.overlap import OverlapSettings
    from llmkit.metrics.registry import TextSettings, chosen, compute, score_names

    out = console.Console(quiet, verbose)
    asked = chosen(metrics, trust_remote_code=trust_remote_code)
    names = score_names(asked)
    against_first = paired_test(ctx.params)
    overlap = OverlapSettings(
        tokenize, lowercase, smooth_method, smooth_value, chrf_char_order, chrf_word_order, chrf_beta, confidence_n if confidence else 0
    )
    settings = TextSettings(overlap, steps(normalize), trust_remote_code)
    end = ending(
        names, fail_if=fail_if, reports=report, json_output=json_output, baseline=baseline, max_regression=max_regression, test=test
    )
    about: dict[str, Any] = {}
    if predictions:
        if input is not None or model is not None or not references:
            what = "--input" if input is not None else "--model" if model is not None else None
            raise UsageError(
                f"--predictions and {what} cannot be combined" if what else "--predictions needs references to be held against",
                hint="use only one of them" if what else "add -r FILE, a line a prediction",
            )
        systems = [(path, _from_files(path, references, encoding, limit)) for path in predictions]
        if against_first:
            from llmkit.metrics.paired import paired

            samples = paired_bs_n if paired_bs else paired_ar_n
            show_paired(paired(systems, names, overlap, against_first, samples), as_json=json_output)
            return 0
        if len(systems) > 1:
            raise UsageError(
                f"{len(systems)} files of predictions",
                hint="--paired-bs or --paired-ar compares them; several references are -r FILE -r FILE",
            )
        ((_, examples),) = systems
    elif input is None or references:
        what = "there is nothing to score" if input is None else "--references goes with --predictions"
        raise UsageError(what, hint="-p FILE -r FILE, or -i ROWS")
    else:
        rows = open_rows(input, format=input_format, encoding=encoding, max_rows=limit, offline=offline)
        fields = _Fields(source_field, reference_field)
        if model is None:
            examples = _from_rows(rows, prediction_field, fields)
        else:
            from llmkit.engines.torch.loading import ModelSettings
            from llmkit.jobs.run import JobSettings

            run = _Answers(
                ModelSettings(model, adapter, device, dtype, offline, trust_remote_code, quantize),
                rows,
                JobSettings(opt.batch_size(batch_size), batch_tokens, 0, False, opt.duration(max_time)),
                fields,
                {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "stop": tuple(stop or ())},
                (chat_template, system),
                out,
            )
            answered, about = run.to(
                output, input, overwrite, restart, opt.given(ctx, leave=NOT_THE_JOBS), opt.identity(ctx, "evaluate score")
            )
            examples = [_example(Row(i, i + 1, row), row["prediction"], rows.name, fields) for i, row in enumerate(answered)]
    if not examples:
        raise InputError("there is no row to score", path=predictions[0] if predictions else input)
    _unique(examples, predictions[0] if predictions else str(input))
    hypotheses, expected = [e.prediction for e in examples], [e.references for e in examples]
    found = tuple(score for name in asked for score in compute(name, hypotheses, expected, settings))
    end.finish(Result(found, len(examples), about=about, examples=tuple(examples)), out)
    return 0


def _from_files(path: str, others: Sequence[str], encoding: str, limit: int | None) -> list[Example]:
    """Line N of each file belongs together. Raises InputError for files of different length and empty references."""
    names = [path, *others]
    streams = [open_rows(name, format="txt", encoding=encoding, max_rows=limit) for name in names]
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


def _example(row: Row, answer: str, source: str, fields: _Fields) -> Example:
    expected = fields.expected(row, source)
    asked = _asked(row, fields)
    shown = first_text(row.fields, SHOWN_SOURCES)
    return Example(row_id(row.fields, row.index + 1), row_digest(expected, asked), shown, answer, expected)


def _asked(row: Row, fields: _Fields) -> Any:
    """What a model was asked, as far as the row tells: a text, messages, or None. `text` may be an answer as well."""
    both = row.fields.get("translation")
    if fields.field is None and isinstance(both, dict):
        return next(iter(both.values()), None)
    names = (fields.field,) if fields.field else ("source", "src", "prompt", "instruction", "question", "messages")
    name = next((n for n in names if n in row.fields), None)
    if name == "instruction" and row.fields.get("input"):
        return [row.fields[name], row.fields["input"]]
    return row.fields.get(name or "")


def _unique(examples: Sequence[Example], source: str) -> None:
    """Rows are paired by id, so an id may occur once. Raises InputError naming both rows."""
    seen: dict[str, int] = {}
    for number, example in enumerate(examples, 1):
        if example.id in seen:
            raise InputError(f"rows {seen[example.id]} and {number} have the same id '{example.id[:80]}'", path=source)
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
    """A row's prompt; a row without references is an error before the model is asked."""

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
        from llmkit.cli.running import model_identity, open_model, summarise
        from llmkit.engines.chat import ChatSettings
        from llmkit.engines.decoding import Decoding
        from llmkit.jobs.outcome import Tally
        from llmkit.jobs.run import RunName, answered, check_finished, file_job
        from llmkit.tasks.generate import Answering

        target = rows_output(output, input, overwrite=overwrite, restart=restart)
        try:
            if target is not None:
                check_finished(target, known)
            engine = open_model(self.model, self.out, chat=ChatSettings(*self.chat))
            beams = self.decoding["num_beams"] or (4 if engine.encoder_decoder else 1)
            decoding = Decoding(**self.decoding | {"num_beams": beams})
            task = Answering(engine, decoding, self.fields, "prediction", self.rows.name)
            if target is None:
                tally = Tally()
                found = [outcome.line() for outcome in answered(self.rows, task, self.settings, self.out, tally)]
            else:
                run = RunName("evaluate score", options, known | model_identity(engine))
                tally = file_job(self.rows, task, self.settings, target, self.out, run)
                found = [row for row, _ in target.read_rows(tally.failed_rows)]
        finally:
            if target is not None:
                target.release()
        summarise(tally, engine, self.out)
        if tally.failed:
            raise RowsFailedError(f"{tally.failed:,} rows have no answer, so there is no score; the first: {tally.first_error}")
        return found, {"input": self.rows.name, "input_sha256": self.rows.sha256, **engine.description, "decoding": decoding.record()}
