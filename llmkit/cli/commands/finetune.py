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
from llmkit.cli.command import add, options_set_by_user, refuse
from llmkit.cli.help import Page
from llmkit.cli.training import DataOptions, LoraOptions, OptimizationOptions, TrainingRunOptions
from llmkit.errors import UsageError
from llmkit.training.processes import from_environment

if TYPE_CHECKING:
    from llmkit.training.settings import FinetuneSettings

app = typer.Typer(add_completion=False)

#: Options of an adapter.
_ONLY_LORA = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "rslora", "dora")
#: Options that do not change what is trained.
_NOT_THE_RUNS = ("data", "output", "overwrite", "restart", "max_time", "dry_run", "json_output")


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
    """Trains an adapter, or continues the run whose folder `--output` names."""
    from llmkit.models.settings import ModelSettings
    from llmkit.training.settings import FinetuneSettings

    full, source = adapter.full, _source(data, rows_in.train)
    if full:
        refuse(ctx, _ONLY_LORA, "cannot be combined with --full", hint="use only one of them")
    if rows_in.valid is None and rows_in.valid_split is None:
        refuse(ctx, ("keep", "eval_steps"), "needs validation rows", hint="--valid FILE, or --valid-split 5%")
    settings = FinetuneSettings(
        data=rows_in.settings(source),
        model=ModelSettings(
            reference.model, None, precision.device, precision.dtype, access.offline, access.trust_remote_code, precision.quantize,
            precision.threads,
        ),
        lora=adapter.settings, optimization=optimization.settings(full=full), loss=rows_in.loss, checkpoints=run.checkpoints,
    )  # fmt: skip
    out = display.console if from_environment().writes else console.Console(True, display.verbose)
    if run.dry_run:
        refuse(ctx, ("output", "overwrite", "restart", "max_time", "report_to"), "cannot be combined with --dry-run", hint="remove it")
        return _dry_run(settings, display.json_output, out)
    if output is None:
        raise UsageError("no output folder given", hint="name a folder with --output DIR, or look first with --dry-run")
    refuse(ctx, ("json_output",), "needs --dry-run; a run writes run.json beside its result", hint="remove it")
    from llmkit.training.finetune import finetune as train

    train(
        settings, output, overwrite=overwrite, restart=run.restart, max_time=run.max_seconds, report_to=tuple(run.report_to or ()),
        options=options_set_by_user(ctx, leave=_NOT_THE_RUNS) | {"train": source}, report=out,
    )  # fmt: skip
    return 0


def _dry_run(settings: FinetuneSettings, as_json: bool, out: console.Console) -> int:
    """Prints the dry-run report."""
    from llmkit.training.finetune import dry_run
    from llmkit.training.preflight import lines

    preflight = dry_run(settings, report=out)
    console.write(json.dumps(preflight, ensure_ascii=False) + "\n" if as_json else "".join(line + "\n" for line in lines(preflight)))
    return 0


def _source(data: str | None, train: str | None) -> str:
    if (data is None) == (train is None):
        what = "no training file given" if data is None else "training file given twice"
        raise UsageError(what, hint="llmkit finetune train.jsonl -m REF -o DIR")
    return str(data if data is not None else train)
