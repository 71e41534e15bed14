"""The options of `llmkit finetune`: data, adapter, optimization, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from llmkit.cli.jobs import MaxErrors, RunOptions
from llmkit.cli.options import Adapter, ChatTemplate, ChatTemplateKwargs, PromptField, RowFormat, Template, TextField
from llmkit.cli.parsing import (
    DATA,
    LORA,
    RUN,
    SHOW,
    TRAINING,
    choice_option,
    count_option,
    field_option,
    fraction,
    group,
    number_option,
    option,
    share,
)
from llmkit.cli.parsing import language as language_name
from llmkit.rows.samples import SampleFields
from llmkit.training.settings import (
    FULL_RATE,
    LORA_RATE,
    AnswerSettings,
    CheckpointSettings,
    DataSettings,
    LanguageSettings,
    LoraSettings,
    LossSettings,
    Optimization,
)


@group
class DataOptions(RowFormat):
    """The rows of a fine-tuning run, and what of them is trained."""

    train: Annotated[
        list[str] | None,
        option(
            "--train", help="Training rows (repeatable); FILE:2 uses each row twice per epoch, FILE:0.5 uses half of the rows.", panel=DATA,
            metavar="FILE[:N]",
        ),
    ] = None  # fmt: skip
    valid: Annotated[list[str] | None, option("--valid", help="Validation rows (repeatable).", panel=DATA, metavar="FILE")] = None
    valid_split: Annotated[
        str | None,
        option("--valid-split", help="Share of the rows for validation only: 5%.", panel=DATA, metavar="SHARE", parser=share),
    ] = None
    template: Template = None
    text_field: TextField = None
    prompt_field: PromptField = None
    completion_field: Annotated[str | None, field_option("--completion-field", help="The field with the completion.", panel=DATA)] = None
    max_errors: MaxErrors = None
    max_length: Annotated[
        int | None,
        count_option("--max-length", help="Longer rows are cut to N tokens. [default: the context, at most 2048]", panel=DATA),
    ] = None
    full_loss: Annotated[bool, option("--full-loss/--completion-only-loss", help="Also train on prompts.", panel=DATA)] = False
    dpo: Annotated[
        bool, option("--dpo", help="Train with DPO on 'chosen' and 'rejected', even if the rows have other fields.", panel=DATA)
    ] = False
    dpo_beta: Annotated[
        float | None, number_option("--dpo-beta", help="DPO: higher values stay closer to the initial model. [default: 0.1]", panel=DATA)
    ] = None
    packing: Annotated[
        str, choice_option("--packing", help="auto packs several rows into one where the model allows.", panel=DATA, values=("auto", "off"))
    ] = "auto"
    chat_template: ChatTemplate = "auto"
    chat_template_kwargs: ChatTemplateKwargs = None
    source_language: Annotated[
        str | None,
        option(
            "--from", help="Source language of translation rows that name none.", panel=DATA, metavar="LANGUAGE",
            parser=language_name,
        ),
    ] = None  # fmt: skip
    target_language: Annotated[
        str | None,
        option("--to", help="Target language of translation rows that name none.", panel=DATA, metavar="LANGUAGE", parser=language_name),
    ] = None

    def settings(self, train: Sequence[str]) -> DataSettings:
        """train: the files with the training rows, perhaps with weights. Raises UsageError."""
        files = [weighted(name) for name in train]
        return DataSettings(
            tuple(name for name, _ in files), tuple(self.valid or ()) or None, fraction(self.valid_split),
            SampleFields(self.text_field, self.prompt_field, self.completion_field, self.template, self.dpo),
            self.input_format, self.encoding, self.limit, self.max_errors or 0, self.chat_template,
            LanguageSettings(self.source_language, self.target_language), tuple(weight for _, weight in files), self.chat_template_kwargs,
        )  # fmt: skip

    @property
    def loss(self) -> LossSettings:
        """Settings of the loss."""
        return LossSettings(self.max_length, self.full_loss, self.packing, self.dpo_beta)


@group
class LoraOptions:
    """Which weights an adapter changes, and with how many parameters."""

    adapter: Adapter = None
    lora_r: Annotated[int, count_option("--lora-r", "--r", help="LoRA rank.", panel=LORA)] = 16
    lora_alpha: Annotated[
        float | None,
        number_option("--lora-alpha", help="LoRA alpha: the update is scaled by alpha / r. [default: twice the rank]", panel=LORA),
    ] = None
    lora_dropout: Annotated[float, number_option("--lora-dropout", help="Dropout on the adapter's input.", panel=LORA)] = 0.0
    target_modules: Annotated[
        str | None,
        option(
            "--target-modules",
            help="Layers to adapt, comma-separated. [default: all linear layers of the blocks]",
            panel=LORA,
            metavar="NAMES",
        ),
    ] = None
    target_parameters: Annotated[
        str | None,
        option(
            "--target-parameters",
            help="Expert weights to adapt (mixture of experts), comma-separated, or all.",
            panel=LORA,
            metavar="NAMES",
        ),
    ] = None
    rslora: Annotated[bool, option("--rslora", help="Rank-stabilized LoRA: scale alpha / sqrt(r).", panel=LORA)] = False
    dora: Annotated[bool, option("--dora", help="Weight-decomposed adaptation (DoRA).", panel=LORA)] = False
    full: Annotated[bool, option("--full", help="Train all weights; the result is a model.", panel=LORA)] = False

    @property
    def settings(self) -> LoraSettings | None:
        """None where all weights are trained. Raises UsageError."""
        if self.full:
            return None
        alpha = 2.0 * self.lora_r if self.lora_alpha is None else self.lora_alpha
        return LoraSettings(
            self.lora_r, alpha, self.lora_dropout, names(self.target_modules), self.rslora, self.dora, names(self.target_parameters)
        )


def weighted(name: str) -> tuple[str, float]:
    """A file and its weight: 'b.jsonl:2' is b.jsonl twice an epoch, unless there is a file of that whole name."""
    match = re.fullmatch(r"(.+):([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf)", name)
    return (name, 1.0) if match is None or Path(name).exists() else (match[1], float(match[2]))


def names(text: str | None) -> tuple[str, ...]:
    """Those of a comma-separated list."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


@group
class OptimizationOptions:
    """How long and how fast a run trains."""

    epochs: Annotated[float, number_option("--epochs", help="Passes over the training rows.", panel=TRAINING)] = 3.0
    max_steps: Annotated[int | None, count_option("--max-steps", help="Train for N steps, instead of epochs.", panel=TRAINING)] = None
    batch_size: Annotated[int, count_option("--batch-size", help="Rows per micro-batch.", panel=TRAINING)] = 8
    grad_accum: Annotated[int, count_option("--grad-accum", help="Micro-batches per optimizer step.", panel=TRAINING)] = 1
    learning_rate: Annotated[
        float | None, number_option("--learning-rate", help="Peak learning rate. [default: 2e-4; --full 2e-5]", panel=TRAINING)
    ] = None
    lr_scheduler: Annotated[
        str,
        choice_option(
            "--lr-scheduler", help="Learning rate schedule.", panel=TRAINING,
            values=("linear", "cosine", "constant", "constant-with-warmup", "inverse-sqrt"),
            aliases={"constant_with_warmup": "constant-with-warmup", "inverse_sqrt": "inverse-sqrt"},
        ),
    ] = "linear"  # fmt: skip
    warmup_ratio: Annotated[
        float, number_option("--warmup-ratio", help="Fraction of the steps in which the learning rate rises.", panel=TRAINING)
    ] = 0.03
    weight_decay: Annotated[float, number_option("--weight-decay", help="Weight decay of AdamW.", panel=TRAINING)] = 0.0
    max_grad_norm: Annotated[
        float, number_option("--max-grad-norm", help="Clip gradients to this norm; 0 does not clip.", panel=TRAINING)
    ] = 1.0
    neftune: Annotated[
        float | None, number_option("--neftune", help="Noise on the embeddings (NEFTune alpha; 5 is usual).", panel=TRAINING)
    ] = None
    early_stopping: Annotated[
        int | None,
        count_option("--early-stopping", help="Stop after N evaluations without improvement.", panel=TRAINING),
    ] = None
    gradient_checkpointing: Annotated[
        bool, option("--gradient-checkpointing", help="Recompute activations: less memory, more time.", panel=TRAINING)
    ] = False
    seed: Annotated[int, count_option("--seed", help="Random seed for row order and initial weights.", panel=TRAINING)] = 0
    lora_plus_ratio: Annotated[
        float | None,
        number_option("--lora-plus-ratio", help="LoRA+: learning rate of B divided by that of A (16 is usual).", panel=TRAINING),
    ] = None
    fsdp: Annotated[
        bool, option("--fsdp", help="Shard the frozen weights over the processes that torchrun started (FSDP2).", panel=TRAINING)
    ] = False
    watch: Annotated[bool, option("--watch/--no-watch", help="Stop when the loss stays at exactly 0 or has diverged.", panel=TRAINING)] = (
        True
    )

    def settings(self, *, full: bool) -> Optimization:
        """Raises UsageError."""
        rate = self.learning_rate if self.learning_rate is not None else FULL_RATE if full else LORA_RATE
        return Optimization(
            self.epochs, self.max_steps, self.batch_size, self.grad_accum, rate, self.lr_scheduler, self.warmup_ratio, self.weight_decay,
            self.max_grad_norm, self.neftune, self.early_stopping, self.gradient_checkpointing, self.seed, self.watch,
            self.lora_plus_ratio,
        )  # fmt: skip


@group
class TrainingRunOptions(RunOptions):
    """When a training run saves, evaluates and stops."""

    save_steps: Annotated[
        int | None, count_option("--save-steps", help="Steps between checkpoints. [default: a tenth of the run, at most 500]", panel=RUN)
    ] = None
    eval_steps: Annotated[
        int | None, count_option("--eval-steps", help="Steps between evaluations. [default: as checkpoints]", panel=RUN)
    ] = None
    keep_checkpoints: Annotated[int, count_option("--keep-checkpoints", help="Keep the newest N checkpoints.", panel=RUN)] = 2
    keep: Annotated[
        str,
        choice_option(
            "--keep", help="Weights to keep: those with the best validation loss, or the last.", panel=RUN, values=("best", "last")
        ),
    ] = "best"
    eval_prompts: Annotated[
        str | None,
        option(
            "--eval-prompts",
            help="Answer the prompts of this file at each evaluation, for the log and the model card.",
            panel=RUN,
            metavar="FILE",
        ),
    ] = None
    eval_max_new_tokens: Annotated[int, count_option("--eval-max-new-tokens", help="Maximum length of these answers.", panel=RUN)] = 64
    extend: Annotated[bool, option("--extend", help="Continue a finished run with more --epochs or --max-steps.", panel=RUN)] = False
    find_lr: Annotated[
        bool, option("--find-lr", help="Try rising learning rates for 100 steps, suggest one, and write nothing.", panel=RUN)
    ] = False
    dry_run: Annotated[bool, option("--dry-run", help="Check the data, time two steps, and write nothing.", panel=RUN)] = False
    report_to: Annotated[
        list[str] | None,
        option("--report-to", help="A tracker that transformers knows: tensorboard, wandb, ... (repeatable).", panel=SHOW),
    ] = None

    @property
    def checkpoints(self) -> CheckpointSettings:
        """Settings of the checkpoints."""
        return CheckpointSettings(self.save_steps, self.keep_checkpoints, self.eval_steps, self.keep)

    @property
    def answers(self) -> AnswerSettings:
        """Raises UsageError."""
        return AnswerSettings(self.eval_prompts, self.eval_max_new_tokens)
