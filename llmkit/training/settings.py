"""What a fine-tuning run is told, each concern in a small frozen dataclass that checks itself.

Knows options and their bounds; not models or data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmkit.errors import UsageError, counted
from llmkit.models.settings import ModelSettings
from llmkit.rows.samples import SampleFields

if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings

#: transformers' names of schedules that need nothing but a number of steps.
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
_SCHEDULE_NAMES = {"constant-with-warmup": "constant_with_warmup", "inverse-sqrt": "inverse_sqrt"}
#: Strength of DPO's tie to the reference where none is given, as in its paper and in TRL.
BETA = 0.1
#: Learning rates for AdamW where none is given.
LORA_RATE, FULL_RATE = 2e-4, 2e-5


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (Hu et al. 2021; rsLoRA: Kalajdzievski 2023; DoRA: Liu et al. 2024).

    targets: names of the modules it goes on, empty for every linear layer of the blocks. parameters: names of weights of a mixture's
    experts, or 'all' of them.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    rslora: bool = False
    dora: bool = False
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.parameters and (self.dropout or self.dora):  # peft 0.21 has neither for parameters
            other = "`dora`" if self.dora else "`lora_dropout`"
            raise UsageError(f"`target_parameters` and {other} cannot be combined", hint="use only one of them")
        if self.r < 1:
            raise UsageError(f"`lora_r` {self.r}: it must be 1 or more")
        if not self.alpha > 0:
            raise UsageError(f"`lora_alpha` {self.alpha:g}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"`lora_dropout` {self.dropout:g}: it must be from 0 up to below 1")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LoraSettings:
        """Those of an adapter, by its adapter_config.json."""
        targets = config.get("target_modules") or ()
        return cls(
            r=config.get("r", 8),
            alpha=float(config.get("lora_alpha", 8)),
            dropout=float(config.get("lora_dropout") or 0),
            targets=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
            rslora=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
            parameters=tuple(sorted(config.get("target_parameters") or ())),
        )


@dataclass(frozen=True)
class Optimization:
    """How long and how fast: steps, rates, batches.

    batch_size: rows a process takes at once; grad_accum: such batches a step. warmup: a share of the steps. watch: False goes on
    with a loss of 0 or one that diverges; NaN stops a run in any case. lora_plus: the learning rate of the adapter's B matrices is this
    many times that of A (LoRA+, Hayou et al. 2024); None for the same.
    """

    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 8
    grad_accum: int = 1
    learning_rate: float = LORA_RATE
    schedule: str = "linear"
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    neftune: float | None = None
    early_stopping: int | None = None
    gradient_checkpointing: bool = False
    seed: int = 0
    watch: bool = True
    lora_plus: float | None = None

    def __post_init__(self) -> None:
        if self.lora_plus is not None and not 0 < self.lora_plus < math.inf:
            raise UsageError(f"`lora_plus_ratio` {self.lora_plus:g}: it must be above 0", hint="16 is usual")
        object.__setattr__(self, "schedule", _SCHEDULE_NAMES.get(self.schedule, self.schedule))
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"`learning_rate` {self.learning_rate:g}: it must be above 0", hint="2e-4 is usual for LoRA")
        if not 0 < self.epochs < math.inf:
            raise UsageError(f"`epochs` {self.epochs:g}: it must be above 0")
        for name in ("batch_size", "grad_accum", "max_steps", "early_stopping"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"`{name}` {value}: it must be 1 or more")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"unknown schedule '{self.schedule}'", hint=f"`lr_scheduler` one of {', '.join(SCHEDULES)}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"`warmup_ratio` {self.warmup:g}: it is a share of the steps, from 0 up to below 1")
        for name, value in (("weight_decay", self.weight_decay), ("max_grad_norm", self.max_grad_norm), ("neftune", self.neftune or 0.0)):
            if not 0 <= value < math.inf:
                raise UsageError(f"`{name}` {value:g}: it must be 0 or more")
        if not 0 <= self.seed < 1 << 32:
            raise UsageError(f"`seed` {self.seed}: it must be from 0 to 2^32 - 1")

    def steps(self, examples: int, processes: int = 1) -> int:
        """Optimizer steps that `examples` make in the epochs asked for. The last step of an epoch takes the rows that are left."""
        if self.max_steps is not None:
            return self.max_steps
        rows = self.rows_a_step(processes)
        whole = math.floor(self.epochs)
        return max(1, whole * math.ceil(examples / rows) + math.ceil(round(examples * (self.epochs - whole), 6) / rows))

    def warmup_steps(self, steps: int) -> int:
        """Steps over which the rate rises; none where that would be all of the run."""
        warmup = math.ceil(self.warmup * steps)
        return warmup if warmup < steps else 0

    def rows_a_step(self, processes: int = 1) -> int:
        """Rows per optimizer step."""
        return self.batch_size * self.grad_accum * processes


@dataclass(frozen=True)
class LossSettings:
    """Which tokens of the rows are trained. full_loss: prompts too; packing: auto, or off.

    beta: of preferences (DPO), how strongly the model is tied to what it was; None for 0.1, and for other rows.
    """

    max_length: int | None = None
    full_loss: bool = False
    packing: str = "auto"
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise UsageError(f"`dpo_beta` {self.beta:g}: it must be above 0", hint="0.1 is usual")
        if self.max_length is not None and self.max_length < 2:
            raise UsageError(f"`max_length` {self.max_length}: it must be 2 or more")
        if self.packing not in ("auto", "off"):
            raise UsageError(f"unknown packing '{self.packing}'", hint="auto or off")


@dataclass(frozen=True)
class CheckpointSettings:
    """Checkpoints: one every `steps` (None: a tenth of the run, at most 500), the newest `keep` stay.

    result: whose weights the result has: 'best' by validation loss where there are validation rows, or 'last'.
    """

    steps: int | None = None
    keep: int = 2
    evaluate_steps: int | None = None
    result: str = "best"

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UsageError(f"`keep_checkpoints` {self.keep}: it must be 1 or more", hint="a run resumes from a checkpoint")
        if self.result not in ("best", "last"):
            raise UsageError(f"unknown result '{self.result}'", hint="best or last")
        for name, value in (("save_steps", self.steps), ("eval_steps", self.evaluate_steps)):
            if value is not None and value < 1:
                raise UsageError(f"`{name}` {value}: it must be 1 or more")

    def every(self, total: int) -> int:
        """Steps between checkpoints of a run of `total` steps."""
        return self.steps or max(1, min(500, math.ceil(total / 10)))

    def evaluate_every(self, total: int) -> int:
        """Steps between evaluations on the validation rows."""
        return self.evaluate_steps or self.every(total)


@dataclass(frozen=True)
class LanguageSettings:
    """The languages of rows with a source and a target, for rows that don't name theirs: names or codes as `translate` takes them."""

    source: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """Which rows are trained on and which validate.

    train, valid: one file or several; valid_share: else a share of the training rows, not trained on. weights: how often an epoch sees
    each row of each training file, empty for once. limit: rows read of a training file. max_errors: bad rows that are skipped.
    chat_template: auto, none or a Jinja file. chat_template_kwargs: what else the template is shown, as a JSON object.
    Raises UsageError for settings that do not go together, InputError for a chat template that can't be read.
    """

    train: str | Sequence[str]
    valid: str | Sequence[str] | None = None
    valid_share: float = 0.0
    fields: SampleFields = field(default_factory=SampleFields)
    format: str = "auto"
    encoding: str = "utf-8"
    limit: int | None = None
    max_errors: int = 0
    chat_template: str = "auto"
    languages: LanguageSettings = field(default_factory=LanguageSettings)
    weights: tuple[float, ...] = ()
    chat_template_kwargs: str | None = None

    def __post_init__(self) -> None:
        if self.valid_files and self.valid_share:
            raise UsageError("`valid` and `valid_split` both say which rows validate", hint="use only one of them")
        if self.weights and len(self.weights) != len(self.train_files):
            both = f"{counted(len(self.train_files), 'training file')} and {counted(len(self.weights), 'weight')}"
            raise UsageError(both, hint="a weight for each file")
        for weight in self.weights:
            if not 0 < weight < math.inf:
                hint = "leave the file out" if weight == 0 else "2 for twice in each epoch, 0.5 for half of the rows"
                raise UsageError(f"the weight {weight:g} of a training file: it must be above 0", hint=hint)
        if all(weight == 1 for weight in self.weights):  # the same run as one without weights
            object.__setattr__(self, "weights", ())
        _ = self.chat  # a file that can't be read is told before any row

    @cached_property
    def chat(self) -> ChatSettings:
        """The chat template as the engines take it."""
        from llmkit.engines.chat import ChatSettings

        return ChatSettings(self.chat_template, values=json.loads(self.chat_template_kwargs or "{}"))

    @property
    def train_files(self) -> tuple[str, ...]:
        """The names of the training files."""
        return _files(self.train)

    @property
    def valid_files(self) -> tuple[str, ...]:
        """The names of the validation files; empty without any."""
        return _files(self.valid)


@dataclass(frozen=True)
class AnswerSettings:
    """Prompts that are answered at every evaluation. prompts: a file of rows as `generate` reads them."""

    prompts: str | None = None
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"`eval_max_new_tokens` {self.max_new_tokens}: it must be 1 or more")


@dataclass(frozen=True)
class FinetuneSettings:
    """A whole run: data, model, and how it is trained.

    lora: None trains all weights. Where `model` names an adapter, training goes on with that one, whose own settings then count.
    fsdp: the frozen weights are sharded over the run's processes (see `llmkit.training.sharding`).
    shared: options (`to`, `dpo_beta`) that were set for many commands; rows that one does not apply to are trained without it.
    """

    data: DataSettings
    model: ModelSettings
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    optimization: Optimization = field(default_factory=Optimization)
    loss: LossSettings = field(default_factory=LossSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    fsdp: bool = False
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.optimization.early_stopping is not None and not self.data.valid_files and not self.data.valid_share:
            raise UsageError("`early_stopping` needs validation rows", hint="`valid` FILE, or `valid_split` 5%")
        only_lora = {"adapter": self.model.adapter, "lora_plus_ratio": self.optimization.lora_plus, "fsdp": self.fsdp}
        for name, given in only_lora.items():
            if self.lora is None and given not in (None, False):
                raise UsageError(f"`full` and `{name}` cannot be combined", hint="use only one of them")


def _files(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def record(*settings: Any) -> dict[str, Any]:
    """Settings by the names of their group and field ('lora.r', 'data.fields.text'), without those that are None."""
    out: dict[str, Any] = {}

    def add(prefix: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}.{name}", value)
            elif value is not None:
                out[f"{prefix}.{name}"] = list(value) if isinstance(value, tuple) else value

    for group in settings:
        if group is not None:
            add(type(group).__name__.lower().removesuffix("settings"), asdict(group))
    return out
