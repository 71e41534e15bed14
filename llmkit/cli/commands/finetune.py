"""`llmkit finetune`: a LoRA adapter from a data file.

llmkit finetune train.jsonl -m gpt2 -o adapters/mine --dry-run
llmkit finetune train.jsonl -m gpt2 -o adapters/mine --valid-split 5%
llmkit generate -m gpt2 --adapter adapters/mine "..."
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, options_set_by_user, refuse
from llmkit.cli.training import DataOptions, LoraOptions, OptimizationOptions, TrainingRunOptions
from llmkit.errors import JobChangedError, LlmkitError, UnavailableError, UsageError
from llmkit.models.builtin import DEFAULT
from llmkit.rows import Row, open_rows
from llmkit.rows.samples import CheckedRows, SampleFields, Samples, check_rows
from llmkit.training.processes import Processes, from_environment
from llmkit.training.settings import CheckpointSettings, LoraSettings, LossSettings, Optimization

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import Prepared
    from llmkit.training.checkpoints import RunFolder
    from llmkit.training.examples import Encoder
    from llmkit.training.run import Ready, RunPlan

app = typer.Typer(add_completion=False)

#: Options of an adapter.
_ONLY_LORA = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "rslora", "dora")
#: Options that say nothing of what is trained.
_NOT_THE_RUNS = ("data", "output", "overwrite", "restart", "max_time", "dry_run", "json_output")


@add(app, "finetune", help="A LoRA adapter from a data file. The same command again continues a run that was stopped.")
def finetune(
    ctx: typer.Context,
    *,
    data: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Training rows: any row format; each line of a text file is a row.", show_default=False),
    ] = None,
    output: opt.Output = None,
    overwrite: opt.Overwrite = False,
    reference: opt.Reference,
    precision: opt.Precision,
    access: opt.Access,
    rows_in: DataOptions,
    adapter: LoraOptions,
    optimization: OptimizationOptions,
    run: TrainingRunOptions,
    display: opt.Display,
) -> int:
    processes = from_environment()
    out = display.console if processes.writes else console.Console(True, display.verbose)
    source = _source(data, rows_in.train)
    full, dry_run, json_output, device = adapter.full, run.dry_run, display.json_output, precision.device
    if full:
        refuse(ctx, _ONLY_LORA, "cannot be combined with --full", hint="use only one of them")
    lora, course = adapter.settings, optimization.settings(full=full)
    lesson, keeping, held = rows_in.loss, run.checkpoints, rows_in.held
    valid, early_stopping = rows_in.valid, optimization.early_stopping
    _check_validation(valid, held, early_stopping)
    if output is None and not dry_run:
        raise UsageError("no output folder given", hint="name a folder with --output DIR, or look first with --dry-run")
    if not dry_run:
        refuse(ctx, ("json_output",), "needs --dry-run; a run writes run.json beside its result", hint="remove it")
    else:
        refuse(ctx, ("output", "overwrite", "restart", "max_time", "report_to"), "cannot be combined with --dry-run", hint="remove it")
    end_by = run.max_seconds
    folder = None
    if not dry_run and output is not None:
        from llmkit.training.checkpoints import RunFolder

        folder = RunFolder(output, writes=processes.writes, overwrite=overwrite, restart=run.restart)
    try:
        fields = SampleFields(rows_in.text_field, rows_in.prompt_field, rows_in.completion_field)
        reading = {"format": rows_in.input_format, "encoding": rows_in.encoding, "offline": access.offline}
        rows = _Data.read(source, valid, held, fields, rows_in.limit, rows_in.max_errors or 0, reading)
        from llmkit.engines.torch.devices import slow_precision
        from llmkit.engines.torch.loading import prepare
        from llmkit.models.settings import ModelSettings

        asked = ModelSettings(
            reference.model, None, processes.device(device), _dtype(precision.dtype, full, processes.device(device)), access.offline,
            access.trust_remote_code, precision.quantize,
        )  # fmt: skip
        found = prepare(asked)
        if (slow := slow_precision(found.device)) is not None:
            out.warn(f"--dtype {found.device.dtype}: {slow}")
        plan = _plan(found, rows, lora, course, lesson, keeping, processes, rows_in.chat_template, out)
        if folder is None:
            return _look(plan, rows, json_output, out)
        options = options_set_by_user(ctx, leave=_NOT_THE_RUNS) | {"train": source}
        return _run(plan, rows, folder, options, end_by, tuple(run.report_to or ()), out)
    finally:
        if folder is not None:
            folder.release()


def _source(data: str | None, train: str | None) -> str:
    if (data is None) == (train is None):
        what = "no training file given" if data is None else "training file given twice"
        raise UsageError(what, hint="llmkit finetune train.jsonl -m REF -o DIR")
    return str(data if data is not None else train)


def _check_validation(valid: str | None, held: float, early_stopping: int | None) -> None:
    if valid is not None and held:
        raise UsageError("--valid and --valid-split cannot be combined", hint="use only one of them")
    if early_stopping is not None and valid is None and not held:
        raise UsageError("--early-stopping needs validation rows", hint="--valid FILE, or --valid-split 5%")


def _dtype(asked: str, full: bool, device: str) -> str:
    """All weights are trained in float32; under a frozen base the device's own choice is right."""
    return "float32" if full and asked == "auto" else asked


@dataclass(frozen=True)
class _Data:
    """The rows of a run, judged, and where they came from."""

    source: str
    valid_source: str | None
    judged: CheckedRows
    train: Samples
    valid: Samples

    @classmethod
    def read(
        cls, source: str, valid: str | None, held: float, fields: SampleFields, limit: int | None, max_errors: int, reading: dict[str, Any]
    ) -> _Data:
        """Raises InputError for rows that can't be used."""
        rows = open_rows(source, max_rows=limit, text_field=fields.text or "text", **reading)
        judged = check_rows(_written(rows, source, reading["format"]), fields, rows.name, max_errors=max_errors, share=held)
        if valid is None:
            train, kept = judged.samples, judged.held
            if held and not (train and kept):
                raise UsageError(f"--valid-split leaves {len(train)} rows to train on and {len(kept)} to validate", hint="another share")
            return cls(rows.name, rows.name if held else None, judged, train, kept)
        others = open_rows(valid, text_field=fields.text or "text", **reading)
        checked = check_rows(_written(others, valid, reading["format"]), fields, others.name, max_errors=max_errors)
        return cls(rows.name, others.name, judged, judged.samples, checked.samples)


def _written(rows: Iterable[Row], path: str, format: str) -> Iterator[Row]:
    """The rows; of plain text the lines that hold something."""
    plain = format == "txt" or (format == "auto" and path.removesuffix(".gz").endswith((".txt", ".text", ".md")))
    return (row for row in rows if not plain or row.error is not None or any(str(v).strip() for v in row.fields.values()))


def _plan(
    found: Prepared, rows: _Data, lora: LoraSettings | None, course: Optimization, lesson: LossSettings, keeping: CheckpointSettings,
    processes: Processes, chat_template: str, out: console.Console,
) -> RunPlan:  # fmt: skip
    from llmkit.training.run import RunPlan, check_examples, check_weights

    encoder = _encoder(found, lesson, chat_template)
    train = encoder.examples(rows.train, rows.source)
    check_examples(train, rows.source, out.warn)
    valid = encoder.examples(rows.valid, rows.valid_source or "")
    for samples in (rows.train, rows.valid):
        samples.close()
    plan = RunPlan(
        found, encoder, train, valid, lora, course, lesson, keeping, processes, rows.judged.format, rows.train.sha256,
        rows.valid.sha256 if rows.valid else None,
    )  # fmt: skip
    check_weights(plan)
    return plan


def _encoder(found: Prepared, lesson: LossSettings, chat_template: str) -> Encoder:
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.torch.loading import context_of
    from llmkit.training.examples import Encoder

    context = context_of(found.checkpoint.config)
    if lesson.max_length is not None and context is not None and lesson.max_length > context:
        raise UsageError(f"--max-length {lesson.max_length}: the model reads at most {context} tokens at once")
    start = None
    if found.checkpoint.is_encoder_decoder:
        start = found.checkpoint.config.get("decoder_start_token_id", found.tokenizer.pad_token_id)
    length = lesson.max_length or min(context or 2048, 2048)
    return Encoder(found.tokenizer, ChatSettings(chat_template), length, start, lesson.full_loss)


def _look(plan: RunPlan, rows: _Data, as_json: bool, out: console.Console) -> int:
    """What the run would be: on stdout, for that is what was asked for."""
    from llmkit.training.preflight import facts, lines
    from llmkit.training.run import build, timed_steps

    ready = build(plan)
    found = facts(ready, rows.judged, rows.source, timed_steps(ready))
    console.write(json.dumps(found, ensure_ascii=False) + "\n" if as_json else "".join(line + "\n" for line in lines(found)))
    return 0


def _run(
    plan: RunPlan,
    rows: _Data,
    folder: RunFolder,
    options: dict[str, Any],
    end_by: float | None,
    report_to: tuple[str, ...],
    out: console.Console,
) -> int:
    from llmkit.jobs.stopping import Stopping
    from llmkit.training.preflight import summary
    from llmkit.training.run import build

    _check_trackers(report_to)
    if "tensorboard" in report_to:  # it is told by this name alone; its default is in a folder that does not stay
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.path / "runs"))
    plan.processes.join(cpu=plan.found.device.kind == "cpu")
    plan.processes.agree(plan.train_sha256 + str(plan.valid_sha256), "data")
    if folder.finished:
        return _already(plan, folder, out)
    with plan.processes.first_one_first():
        if not folder.writes:
            folder.state = folder.read()
        resumed = folder.begin(plan.identity())
    begun = folder.newest(out.warn) if resumed else None
    if plan.found.location.reference == DEFAULT:
        out.notice(f"{DEFAULT}: a small demonstration model; -m names a bigger one, for example -m Qwen/Qwen3-0.6B")
    with Stopping(end_by, out.notice) as stopping:
        ready = build(plan)
        for line in summary(ready, rows.judged):
            out.notice(line)
        if begun is not None:
            out.notice(f"going on from step {begun.step:,} of {plan.steps:,}")
        if plan.valid and "before" not in folder.state and plan.processes.writes:
            from llmkit.training.results import measure

            folder.keep(before=measure(ready))
        reason = _train(ready, folder, begun, stopping, report_to, out)
    if reason is not None:
        raise reason
    if plan.processes.writes:
        _finish(ready, rows, folder, options, out)
    return 0


def _check_trackers(names: tuple[str, ...]) -> None:
    """Raises UnavailableError for a tracker that is unknown to transformers, or not installed."""
    if names:
        from transformers.integrations import get_available_reporting_integrations

        there = sorted(get_available_reporting_integrations())
        for name in names:
            if name not in there:
                raise UnavailableError(f"--report-to {name}: no such tracker is installed", hint=f"there is: {', '.join(there) or 'none'}")


def _already(plan: RunPlan, folder: RunFolder, out: console.Console) -> int:
    """The same command after it has finished: says so, when it really is the same."""
    from llmkit.records import differences

    changes = differences(json.loads(folder.record_path.read_text(encoding="utf-8")).get("identity", {}), plan.identity())
    if changes:
        raise JobChangedError(f"{folder.name} holds another run: {'; '.join(changes)}", hint="--overwrite replaces it")
    out.notice(f"{folder.name} is already trained")
    return 0


def _train(
    ready: Ready, folder: RunFolder, begun: Any, stopping: Any, report_to: tuple[str, ...], out: console.Console
) -> LlmkitError | None:
    from llmkit.training.run import TIMED_STEPS, train
    from llmkit.training.trainer import Hooks

    steps, first = ready.plan.steps, begun.step if begun is not None else 0
    started = time.monotonic()
    tokens = 0

    with out.steps(steps, first) as progress:

        def step(number: int, loss: float, rate: float, count: int) -> None:
            nonlocal tokens
            tokens += count
            seconds = time.monotonic() - started
            progress(number, f"loss {loss:.3f}, rate {rate:.1e}, {tokens / seconds:,.0f} learnt tokens/s")
            if number - first == TIMED_STEPS and steps - number > TIMED_STEPS:
                out.notice(f"about {_duration(seconds / TIMED_STEPS * (steps - number))} to go")

        hooks = Hooks(step, stopping.due, lambda number, loss: out.detail(f"step {number:,}: validation loss {loss:.4f}"))
        return train(ready, folder, steps=steps, begun=begun, hooks=hooks, report_to=report_to)


def _finish(ready: Ready, rows: _Data, folder: RunFolder, options: dict[str, Any], out: console.Console) -> None:
    from llmkit.reports.curve import sparkline
    from llmkit.training.adapter import put_weights
    from llmkit.training.results import Improvement, figures, finish, improvement_line, measure
    from llmkit.training.trainer import best_step

    plan = ready.plan
    last = folder.newest(out.warn)
    history = last.history if last is not None else []
    if plan.course.early_stopping is not None and last is not None and (best := best_step(history)) not in (None, last.step):
        out.notice(f"the best validation loss was at step {best:,}; that is what is kept")
        put_weights(ready.model, folder.saved(best or 0).path)
    won = None
    if plan.valid:
        won = Improvement(figures(plan, folder.state["before"]), figures(plan, measure(ready)))
    about = {"input": rows.source, "format": plan.format, "bad_rows": len(rows.judged.bad)}
    about |= {"valid": rows.valid_source, "valid_rows": len(plan.valid)}
    record = finish(ready, folder, won, history, options, about)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    if losses:
        out.notice(f"loss {losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}")
    if won is not None:
        out.notice(improvement_line(won))
    else:
        out.notice("no validation rows: --valid FILE or --valid-split 5% tells how much was won")
    result = record["result"]
    device = ready.loaded.device
    out.notice(
        f"{folder.name}: {result['steps']:,} steps, {result['trained_tokens']:,} learnt tokens in {_duration(result['seconds'])}, "
        f"{result['tokens_per_second'] or 0:,.0f} tokens/s; {plan.found.location.reference} on {device.name}, {device.dtype}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
