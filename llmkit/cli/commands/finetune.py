"""`llmkit finetune`: a LoRA adapter from a data file.

llmkit finetune train.jsonl -m gpt2 -o adapters/mine --dry-run
llmkit finetune train.jsonl -m gpt2 -o adapters/mine --valid-split 5%
llmkit generate -m gpt2 --adapter adapters/mine "..."
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add, option_names, options_set_by_user, refuse
from llmkit.cli.help import Page
from llmkit.cli.parameter_source import on_command_line
from llmkit.cli.training import DataOptions, LoraOptions, OptimizationOptions, TrainingRunOptions
from llmkit.errors import UsageError
from llmkit.training.distributed import from_environment

if TYPE_CHECKING:
    from llmkit.training.settings import FinetuneSettings

app = typer.Typer(add_completion=False)

#: Options of an adapter.
_ONLY_LORA = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters", "rslora", "dora")
#: Options that do not change what is trained.
_NOT_THE_RUNS = ("data", "output", "overwrite", "restart", "max_time", "dry_run", "json_output")
#: Options that apply to some rows only, by their parameter.
_OF_SOME_ROWS = {"from": "source_language", "to": "target_language", "dpo_beta": "dpo_beta"}
#: Options of a run that writes.
_ONLY_RUN = ("output", "overwrite", "restart", "extend", "max_time", "report_to")
#: What the search for a learning rate does not do: it has steps and rates of its own, and neither validates nor saves.
_NOT_WITH_FIND_LR = (
    *_ONLY_RUN, "valid", "epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "early_stopping", "watch",
    *option_names(TrainingRunOptions, but=("max_errors", "find_lr", "dry_run")),
)  # fmt: skip


_PAGE = Page(
    ("llmkit finetune train.jsonl -m gpt2 --dry-run", "llmkit finetune train.jsonl -m gpt2 -o adapters/mine --valid-split 5%"),
    ("output", "model", "valid_split", "lora_r", "epochs", "batch_size", "learning_rate", "dry_run"),
    "finetune",
)  # fmt: skip


@add(app, "finetune", help="Train a LoRA adapter on a data file. The same command continues a stopped run.", page=_PAGE)
def finetune(
    ctx: typer.Context,
    *,
    data: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Training rows: any row format; each line of a text file is a row.", show_default=False),
    ] = None,
    output: opt.Folder = None,
    overwrite: opt.Overwrite = False,
    reference: opt.Reference,
    precision: opt.Precision,
    access: opt.Access,
    rows_in: DataOptions,
    lora: LoraOptions,
    optimization: OptimizationOptions,
    run: TrainingRunOptions,
    display: opt.Display,
) -> int:
    """Trains an adapter, or continues the run whose folder `--output` names."""
    from llmkit.models.settings import ModelSettings
    from llmkit.training.settings import FinetuneSettings

    full, files = lora.full, _files(data, rows_in.train)
    if full:
        refuse(ctx, _ONLY_LORA, "cannot be combined with --full", hint="use only one of them")
    if lora.adapter is not None:
        refuse(ctx, _ONLY_LORA, "cannot be combined with --adapter, which has its own", hint="remove it")
    if not rows_in.valid and rows_in.valid_split is None:
        refuse(ctx, ("keep",), "needs validation rows", hint="--valid FILE, or --valid-split 5%")
        if run.eval_prompts is None:
            refuse(ctx, ("eval_steps",), "needs validation rows, or --eval-prompts", hint="--valid FILE, or --valid-split 5%")
    if run.eval_prompts is None:
        refuse(ctx, ("eval_max_new_tokens",), "needs --eval-prompts FILE", hint="remove it")
    settings = FinetuneSettings(
        data=rows_in.settings(files),
        model=ModelSettings(
            reference.model, adapter=lora.adapter, device=precision.device, dtype=precision.dtype, offline=access.offline,
            trust_remote_code=access.trust_remote_code, quantize=precision.quantize, threads=precision.threads,
        ),
        lora=lora.settings, optimization=optimization.settings(full=full), loss=rows_in.loss, checkpoints=run.checkpoints,
        answers=run.answers, fsdp=optimization.fsdp,
        shared=tuple(name for name, parameter in _OF_SOME_ROWS.items() if not on_command_line(ctx, parameter)),
    )  # fmt: skip
    out = display.console if from_environment().writes else console.Console(True, display.verbose)
    if run.dry_run:
        refuse(ctx, (*_ONLY_RUN, "find_lr"), "cannot be combined with --dry-run", hint="remove it")
        return _dry_run(settings, display.json_output, out)
    if run.find_lr:
        refuse(ctx, _NOT_WITH_FIND_LR, "cannot be combined with --find-lr", hint="remove it")
        return _find_rate(settings, display.json_output, out)
    if output is None:
        raise UsageError("no output folder given", hint="name a folder with --output DIR, or check the data first with --dry-run")
    refuse(ctx, ("json_output",), "needs --dry-run or --find-lr; a run writes run.json beside its result", hint="remove it")
    from llmkit.training.finetune import finetune as train

    train(
        settings, output, overwrite=overwrite, restart=run.restart, extend=run.extend, max_time=run.max_seconds,
        report_to=tuple(run.report_to or ()), options=options_set_by_user(ctx, leave=_NOT_THE_RUNS) | {"train": list(files)}, report=out,
    )  # fmt: skip
    return 0


def _dry_run(settings: FinetuneSettings, as_json: bool, out: console.Console) -> int:
    """Prints the dry-run report."""
    from llmkit.training.dry_run import lines
    from llmkit.training.finetune import dry_run

    report = dry_run(settings, report=out)
    if not from_environment().writes:
        return 0
    console.write(json.dumps(report, ensure_ascii=False) + "\n" if as_json else "".join(line + "\n" for line in lines(report)))
    return 0


def _find_rate(settings: FinetuneSettings, as_json: bool, out: console.Console) -> int:
    """Prints what each rate gave, and the one that is suggested."""
    from llmkit.training.finetune import find_rate

    tried = find_rate(settings, report=out)
    if not from_environment().writes:
        return 0
    if as_json:
        console.write(json.dumps({"rates": tried.rates, "losses": tried.losses, "suggested": tried.suggested}) + "\n")
        return 0
    console.table(("rate", "loss"), [(f"{r:.2g}", f"{loss:.4f}") for r, loss in zip(tried.rates, tried.losses, strict=True)])
    if tried.suggested is None:
        out.notice("no clear suggestion: no rate lowered the loss by more than it differs between steps; a larger --batch-size may help")
    else:
        out.notice(f"suggested: --learning-rate {tried.suggested:.1e}")
    return 0


def _files(data: str | None, train: list[str] | None) -> list[str]:
    if (data is None) == (not train):
        what = "no training file given" if data is None else "training file given twice"
        raise UsageError(what, hint="llmkit finetune train.jsonl -m REF -o DIR, or --train FILE for each of several")
    return list(train or ()) if data is None else [data]
