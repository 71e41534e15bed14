"""Fine-tuning as a function: settings in, a folder and its record out. `llmkit finetune` is a few lines around it.

In the order of what may go wrong: settings, data, the place for the result, the model's files, memory, weights; then training,
and the result in its place. Nothing that is in the place already is touched before all of that has passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmkit.errors import UsageError, counted, one_line
from llmkit.jobs.reporter import Reporter, Silent
from llmkit.models.libraries import check_hub
from llmkit.rows.samples import PREFERENCE, listed
from llmkit.training.data import File, TrainingRows, read_data, set_names, sha256
from llmkit.training.distributed import Processes, from_environment
from llmkit.training.file_mixture import FileMixture
from llmkit.training.settings import BETA, FinetuneSettings, LoraSettings, LossSettings
from llmkit.training.trackers import check_trackers

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import Prepared
    from llmkit.errors import LlmkitError
    from llmkit.training.checkpoints import RunFolder, Saved
    from llmkit.training.examples import Encoder, Examples
    from llmkit.training.lr_finder import LrFinderResult
    from llmkit.training.results import Improvement
    from llmkit.training.run import Ready, RunPlan


@dataclass(frozen=True)
class Finetuned:
    """A finished run. record: as in run.json; trained: False when the folder has this very result already."""

    folder: str
    record: dict[str, Any]
    trained: bool = True


def finetune(
    settings: FinetuneSettings,
    output: str,
    *,
    overwrite: bool = False,
    restart: bool = False,
    extend: bool = False,
    max_time: float | None = None,
    report_to: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    report: Reporter | None = None,
) -> Finetuned:
    """Trains what `settings` say into the folder `output`, or goes on with the run there.

    overwrite: replace a finished result, once the new one is complete. restart: drop an unfinished run's checkpoints. extend: go on with
    a finished run for more epochs or steps. max_time: in seconds. report_to: trackers that transformers knows. options: for the
    record, so that it can be run again.
    Raises UsageError, InputError, OutputError, JobChangedError, UnavailableError or ModelError before any training; TrainingError for
    a run that went wrong; StoppedError or TimeUpError for one that was ended, which the same call goes on with.
    """
    from llmkit.training.checkpoints import RunFolder

    report, processes = report or Silent(), from_environment()
    if extend and (overwrite or restart):
        other = "overwrite" if overwrite else "restart"
        raise UsageError(f"`extend` and `{other}` cannot be combined", hint="use only one of them")
    check_trackers(report_to)
    folder = RunFolder(output, writes=processes.writes)
    with folder.locked():
        if extend and folder.writes:
            folder.check_extendable()
        with report.phase("loading libraries"):
            rows = read_data(settings.data, offline=settings.model.offline)
            plan = make_plan(settings, rows, processes, report)
        if "tensorboard" in report_to:  # it is told by this name alone; its default is in a folder that does not stay
            os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.path / "runs"))
        with processes.meeting():
            plan.processes.join(cpu=plan.prepared.device.kind == "cpu")
            processes.agree(plan.train_sha256 + str(plan.valid_sha256), "data")
            relation = processes.first_value(_relation(folder, plan, overwrite, restart, extend))
            if relation == "finished" and folder.record is not None:
                report.notice(f"{folder.name} is already trained")
                return Finetuned(folder.name, folder.record, trained=False)
            return _run(plan, rows, folder, relation, max_time, tuple(report_to), options or {}, report)


def dry_run(settings: FinetuneSettings, *, report: Reporter | None = None) -> dict[str, Any]:
    """What the run would be, with two steps timed; nothing is written. Keys: see `llmkit.training.dry_run.facts`.

    Raises what `finetune` raises before any training, and TrainingError for a first step that goes wrong.
    """
    from llmkit.training.dry_run import facts
    from llmkit.training.timing import timed

    report = report or Silent()
    with report.phase("loading libraries") as phase:
        rows, ready = _built(settings, report, phase)
        phase("timing two steps")
        pace = timed(ready)
    _tell_frozen(ready, report)
    return facts(ready, rows.checked, rows.file_names, pace)


def find_rate(settings: FinetuneSettings, *, report: Reporter | None = None) -> LrFinderResult:
    """A learning rate for the run, by steps at rising rates that are thrown away; nothing is written.

    Raises what `finetune` raises before any training, and UsageError where no rate can be found.
    """
    from llmkit.training.lr_finder import try_rates

    report = report or Silent()
    with report.phase("loading libraries") as phase:
        _, ready = _built(settings, report, phase)
        phase("trying learning rates")
        return try_rates(ready)


def _built(settings: FinetuneSettings, report: Reporter, phase: Callable[[str], None]) -> tuple[TrainingRows, Ready]:
    """A run that is not to be kept, with its model in memory. phase: called with what goes on next."""
    from llmkit.training.run import build

    rows = read_data(settings.data, offline=settings.model.offline)
    plan = make_plan(settings, rows, from_environment(), report)
    plan.processes.join(cpu=plan.prepared.device.kind == "cpu")
    phase("loading weights")
    return rows, build(plan)


def _relation(folder: RunFolder, plan: RunPlan, overwrite: bool, restart: bool, extend: bool) -> str:
    """What this run is to the folder, see `RunFolder.check`."""
    if extend:
        return folder.check_extension(plan.identity(), plan.steps)
    return folder.check(plan.identity(), overwrite=overwrite, restart=restart)


def make_plan(settings: FinetuneSettings, rows: TrainingRows, processes: Processes, report: Reporter) -> RunPlan:
    """The run as it will be, its rows tokenized and its memory checked; no weight is read.

    Raises InputError, UsageError, ModelError, UnavailableError or OutOfMemoryError.
    """
    from dataclasses import replace

    check_hub()
    from llmkit.engines.torch.devices import slow_precision
    from llmkit.engines.torch.loading import locate, prepare
    from llmkit.training.eval_prompts import encode_prompts, read_prompts
    from llmkit.training.refusals import check, ignored

    loss = _loss(settings, rows.checked.formats, report)
    located = locate(settings.model, report.notice)
    check(settings, located, rows, processes)
    if (unused := ignored(settings, rows)) is not None:
        report.warn(unused)
    prompts = read_prompts(settings.answers, offline=settings.model.offline)
    from llmkit.training.run import RunPlan, check_examples, check_memory

    device = processes.device(settings.model.device)
    dtype = "float32" if settings.lora is None and settings.model.dtype == "auto" else settings.model.dtype  # see Micikevicius et al. 2018
    prepared = prepare(replace(settings.model, device=device, dtype=dtype), located)
    if (slow := slow_precision(prepared.device)) is not None:
        report.warn(f"`dtype` {prepared.device.dtype}: {slow}")
    encoder = _encoder(prepared, settings, rows.checked.format)
    for remark in encoder.chat.check(prepared.tokenizer):
        report.warn(remark)
    train, counts = _examples(encoder, rows.train, settings.data.max_errors - len(rows.checked.bad))
    rows.checked.bad += train.bad
    check_examples(train, rows.file_names, report.warn)
    valid, valid_counts = _examples(encoder, rows.valid, settings.data.max_errors)
    if bad := [exc for file in rows.valid for exc in file.bad] + valid.bad:
        report.warn(f"{counted(len(bad), 'validation row')} skipped as not usable: {listed(bad)}")
    _tell_unused(rows, encoder, train, report)
    plan = RunPlan(
        prepared, encoder, train, valid, settings.lora if prepared.adapter is None else LoraSettings.of(prepared.adapter.config),
        settings.optimization, loss, settings.checkpoints, settings.data, processes, rows.checked.format,
        sha256(rows.train) or "", sha256(rows.valid), FileMixture(counts, settings.data.weights),
        tuple(zip(set_names(rows.valid), valid_counts, strict=True)),
        None if prompts is None else encode_prompts(prompts, encoder, rows.checked.format, settings.data.fields),
        settings.fsdp or processes.fsdp,
    )  # fmt: skip
    rows.close()
    check_memory(plan)
    return plan


def _loss(settings: FinetuneSettings, formats: Collection[str], report: Reporter) -> LossSettings:
    """The settings with DPO's beta where the rows are preferences. Raises UsageError for what does not go with the rows."""
    from dataclasses import replace

    loss = settings.loss
    if PREFERENCE not in formats:
        if loss.beta is not None and "dpo_beta" not in settings.shared:
            raise UsageError("`dpo_beta` applies to rows with 'chosen' and 'rejected'", hint="remove it")
        return replace(loss, beta=None)
    if len(formats) > 1:
        raise UsageError(
            f"preference rows cannot be combined with rows of {', '.join(f for f in formats if f != PREFERENCE)}", hint="use two runs"
        )
    if loss.full_loss:
        raise UsageError("`full_loss` and preferences cannot be combined", hint="remove it")
    beta = BETA if loss.beta is None else loss.beta
    report.notice(f"preferences are trained with DPO, beta {beta:g}")
    return replace(loss, beta=beta)


def _examples(encoder: Encoder, files: Sequence[File], max_errors: int) -> tuple[Examples, tuple[int, ...]]:
    """The examples of all files, and how many each has. max_errors: rows that may be skipped."""
    from llmkit.training.examples import Examples

    out, counts = Examples(), []
    for file in files:
        before = len(out)
        encoder.examples(file.samples, file.name, out, max_errors)
        counts.append(len(out) - before)
    return out, tuple(counts)


def _encoder(prepared: Prepared, settings: FinetuneSettings, format: str) -> Encoder:
    from llmkit.engines.torch.loading import context_of
    from llmkit.training.examples import Encoder
    from llmkit.training.languages import decoder_begin, directions
    from llmkit.training.refusals import check_languages

    context, asked = context_of(prepared.checkpoint.config), settings.loss.max_length
    begin = decoder_begin(prepared) if prepared.checkpoint.is_encoder_decoder else ()
    chat = settings.data.chat
    known = directions(prepared, chat, settings.data.languages)
    if not known.by_tokens:
        check_languages(settings, format)
    return Encoder(prepared.tokenizer, chat, asked or min(context or 2048, 2048), begin, settings.loss.full_loss, known)


def _tell_unused(rows: TrainingRows, encoder: Encoder, examples: Examples, report: Reporter) -> None:
    if telling := rows.checked.telling:
        report.warn(f"{rows.file_names}: columns that are not used: {', '.join(sorted(telling))}")
    if unwritten := examples.unwritten:
        parts = ", ".join(f"{part} ({counted(count, 'row')})" for part, count in unwritten.items())
        report.warn(f"{rows.file_names}: the chat template does not write {parts}")
    if encoder.directions is not None and encoder.directions.silent:
        report.warn("the rows name no languages, so they are trained without the prompt of llmkit translate")


def _tell_frozen(ready: Ready, report: Reporter) -> None:
    reach = ready.targets
    if reach is not None and reach.narrow:
        layers = ", ".join(reach.narrow)
        report.notice(f"no adapter on {layers} (narrower than the rank); a smaller `lora_r` includes them")
    if reach is not None and reach.frozen_experts:
        report.warn(
            f"the adapter does not cover the experts: {reach.frozen_experts:,} of {ready.parameters:,} parameters stay frozen; "
            "`target_parameters` all includes them"
        )


def _run(
    plan: RunPlan, rows: TrainingRows, folder: RunFolder, relation: str, max_time: float | None, report_to: tuple[str, ...],
    options: dict[str, Any], report: Reporter,
) -> Finetuned:  # fmt: skip
    from llmkit.jobs.stopping import ECHO, LAUNCHED_ECHO, Stopping
    from llmkit.models.builtin import demonstration
    from llmkit.training.dry_run import summary
    from llmkit.training.run import build

    if (notice := demonstration(plan.prepared.location.reference)) is not None:
        report.notice(notice)
    with Stopping(max_time, report.notice, echo=LAUNCHED_ECHO if plan.processes.count > 1 else ECHO) as stopping:
        with report.phase("loading weights"):
            ready = build(plan)
        _tell_frozen(ready, report)
        begun = _begin(plan, folder, relation, report)
        for line in summary(ready, rows.checked):
            report.notice(line)
        if begun is not None:
            report.notice(f"resuming at step {begun.step:,} of {plan.steps:,}")
        if plan.valid and folder.known.before is None and (plan.processes.writes or plan.fsdp):
            from llmkit.training.results import measure

            folder.keep(before=measure(ready))
        with folder.kept_is_told():
            reason = _train(ready, folder, begun, stopping, report_to, report)
    if reason is not None:
        raise reason
    if not plan.processes.writes:
        if plan.fsdp:
            folder.read()
            _restore_kept(ready, folder, report)
        return Finetuned(folder.name, {})
    with folder.kept_is_told():
        return Finetuned(folder.name, _finish(ready, rows, folder, options, report))


def _begin(plan: RunPlan, folder: RunFolder, relation: str, report: Reporter) -> Saved | None:
    """Takes the folder for this run; the checkpoint to go on from, None for a run from the first step on."""
    with plan.processes.first_one_first():
        if not folder.writes:
            folder.read()
        elif relation == "fresh":
            folder.begin(plan.identity())
        elif relation == "extend":
            folder.extend(plan.identity())
        else:
            folder.clear()
    return folder.newest(report.warn)


#: Seconds of training after which the time that is left is told.
_TIMED = 2.0


def _train(
    ready: Ready, folder: RunFolder, begun: Saved | None, stopping: Any, report_to: tuple[str, ...], report: Reporter
) -> LlmkitError | None:
    from llmkit.training.run import train
    from llmkit.training.trainer import Hooks

    steps, first = ready.plan.steps, begun.step if begun is not None else 0
    started = time.monotonic()
    tokens = 0
    warm = 0.0  # when the first step was done, which takes longer than the others; 0 when the time that is left has been told

    with report.steps(steps, first) as progress:

        def step(number: int, loss: float, rate: float, count: int) -> None:
            nonlocal tokens, warm
            tokens += count
            seconds = time.monotonic() - started
            progress(number, f"loss {loss:.3f}, rate {rate:.1e}, {tokens / seconds:,.0f} trained tokens/s")
            timed = number - first - 1
            if timed == 0:
                warm = seconds
            elif warm and seconds - warm >= _TIMED and steps > number:
                report.notice(f"about {duration((seconds - warm) / timed * (steps - number))} left")
                warm = 0.0

        def evaluated(number: int, loss: float) -> None:
            report.detail(f"step {number:,}: validation loss {loss:.4f}")

        def answered(number: int, answers: list[dict[str, str]]) -> None:
            for answer in answers:
                report.notice(f"step {number:,}: {one_line(answer['prompt'], 60)} → {one_line(answer['text'], 200)}")

        hooks = Hooks(step, stopping.due, evaluated, answered, report.warn)
        return train(ready, folder, steps=steps, begun=begun, hooks=hooks, report_to=report_to)


def _finish(ready: Ready, rows: TrainingRows, folder: RunFolder, options: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """The result in its place; its record."""
    from llmkit.reports.curve import sparkline
    from llmkit.training.results import finish, improvement_line

    plan = ready.plan
    last, improvement = _restore_kept(ready, folder, report)
    about = {"input": rows.file_names, "format": plan.format, "bad_rows": len(rows.checked.bad)}
    about |= {"valid": rows.valid_file_names, "valid_rows": len(plan.valid)}
    record = finish(ready, folder, improvement, last, options, about)
    losses = [entry["loss"] for entry in last.history if "loss" in entry]
    if losses:
        report.notice(f"loss {losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}")
    if improvement is not None:
        report.notice(improvement_line(improvement))
    else:
        report.notice("no validation rows: `valid` FILE or `valid_split` 5% measures the improvement")
    result, device = record["result"], ready.loaded.device
    report.notice(
        f"{folder.name}: {counted(result['steps'], 'step')}, {counted(result['trained_tokens'], 'trained token')} "
        f"in {duration(result['seconds'])}, "
        f"{result['tokens_per_second'] or 0:,.0f} tokens/s; {plan.prepared.location.reference} on {device.name}, {device.dtype}"
    )
    if "limit" in result:
        report.detail(f"{100 * result['limit']['share']:.0f}% of this machine's limit (matrix products)")
    return record


def _restore_kept(ready: Ready, folder: RunFolder, report: Reporter) -> tuple[Saved, Improvement | None]:
    """Puts the weights of the result into the model; the run's newest checkpoint, and what the validation rows say of the result."""
    from llmkit.training.adapter import put_weights
    from llmkit.training.results import improved, kept_step, measure

    last = folder.newest(report.warn)
    if last is None:
        raise RuntimeError("a run has ended without a checkpoint")
    kept = kept_step(ready.plan, last)
    if kept != last.step:
        report.notice(f"the best validation loss was at step {kept:,}; the result has the weights of that step")
        put_weights(ready.model, folder.saved(kept).path)
    if not ready.plan.valid or folder.known.before is None:
        return last, None
    return last, improved(ready.plan, folder.known.before, measure(ready))


def duration(seconds: float) -> str:
    """A time for people: 2 h 5 min, 3 min 20 s, or 4.2 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
