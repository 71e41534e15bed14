"""One fine-tuning run from checked data to trained weights: plan, build, try, train.

The order is that of what may go wrong: data before weights, memory before loading, a look at two steps before a night.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import records
from llmkit.engines.torch.devices import free_bytes
from llmkit.engines.torch.loading import LoadedModel, Prepared, read_weights, tokenizer_sha256
from llmkit.errors import InputError, LlmkitError, OutputError, counted
from llmkit.models import memory
from llmkit.models.memory import matrices
from llmkit.rows.samples import PREFERENCE
from llmkit.training.checkpoints import RunFolder, Saved
from llmkit.training.distributed import Processes
from llmkit.training.examples import Encoder, Examples
from llmkit.training.file_mixture import FileMixture
from llmkit.training.settings import CheckpointSettings, DataSettings, LoraSettings, LossSettings, Optimization, record
from llmkit.training.sharding import shard, sharded_numbers
from llmkit.training.state import read_json

if TYPE_CHECKING:
    from llmkit.training.batches import Collator, Stream
    from llmkit.training.eval_prompts import EvalPrompts
    from llmkit.training.footprint import Shape
    from llmkit.training.targets import Targets
    from llmkit.training.trainer import TrainerContext
    from llmkit.training.watch import Watch

#: What to do about a run that does not fit.
_SMALLER = "a smaller `batch_size` or `max_length`, `gradient_checkpointing`, or a smaller model"


@dataclass(frozen=True)
class RunPlan:
    """What a run is to be, before any weight is read. lora: None trains all weights.

    mixture: of the training files. valid_sets: name and number of examples of each validation file, in the order of `valid`.
    fsdp: the frozen weights are sharded over the processes, which then all have to run the model the same number of times.
    """

    prepared: Prepared
    encoder: Encoder
    train: Examples
    valid: Examples
    lora: LoraSettings | None
    optimization: Optimization
    loss: LossSettings
    checkpoints: CheckpointSettings
    data: DataSettings
    processes: Processes
    format: str
    train_sha256: str
    valid_sha256: str | None
    mixture: FileMixture
    valid_sets: tuple[tuple[str, int], ...] = ()
    prompts: EvalPrompts | None = None
    fsdp: bool = False

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.optimization.steps(self.mixture.size, self.processes.count)

    @property
    def preference(self) -> bool:
        """Whether the rows are preferences, trained by DPO."""
        return self.format == PREFERENCE

    @property
    def embeddings(self) -> bool:
        """Whether the adapter that is gone on with brought embeddings of its own, which then go with it."""
        adapter = self.prepared.adapter
        return adapter is not None and adapter.vocabulary is not None and not adapter.config.get("modules_to_save")

    @property
    def pad(self) -> int:
        """Id of the padding token."""
        tokenizer = self.prepared.tokenizer
        return int(next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None))

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on: every setting but those that can't change what is trained."""
        tokenizer = self.prepared.tokenizer
        model = {
            "model": self.prepared.location.reference,
            "revision": self.prepared.location.revision,
            "weights_sha256": self.prepared.checkpoint.sha256,
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "chat_template_sha256": self.encoder.chat.sha256(tokenizer),
            "device": self.prepared.device.kind,
            "dtype": self.prepared.device.dtype,
            "quantize": self.prepared.settings.quantize,
            "adapter_sha256": None if self.prepared.adapter is None else self.prepared.adapter.sha256,
        }
        options = record(self.lora, self.optimization, self.loss, self.checkpoints, self.data)
        return records.identity(
            "finetune",
            options,
            model=model,
            processes=self.processes.count,
            fsdp=self.fsdp or None,
            threads=self.prepared.settings.threads,
            train_sha256=self.train_sha256,
            valid_sha256=self.valid_sha256,
            prompts_sha256=self.prompts and self.prompts.sha256,
            eval_max_new_tokens=self.prompts and self.prompts.max_new_tokens,
        )

    def memory(self) -> memory.MemoryEstimate:
        """Bytes that training would take, against those that are free."""
        checkpoint = self.prepared.checkpoint
        trained = checkpoint.parameters
        if self.lora is not None:
            on = [shape for shape in matrices(checkpoint, experts=bool(self.lora.parameters)) if min(shape) >= self.lora.r]  # see `targets`
            trained = self.lora.r * sum(map(sum, on))
        return memory.estimate_training(
            checkpoint,
            dtype=self.prepared.device.dtype,
            quantize=self.prepared.settings.quantize,
            trained=trained,
            positions=min(self.optimization.batch_size, self.mixture.size) * self.train.width * (2 if self.preference else 1),
            recompute=self.optimization.gradient_checkpointing,
            free=free_bytes(self.prepared.device.name),
            held=self.held,
        )

    @property
    def held(self) -> int | None:
        """How many numbers of the weights a process holds, where that is not all of them."""
        return sharded_numbers(self.prepared.checkpoint, self.processes.count) if self.fsdp else None

    def stream(self, steps: int, packed: bool) -> Stream:
        """The batches of the run's first `steps` steps. packed: whether a row holds several examples."""
        from llmkit.training.batches import Stream

        optimization = self.optimization
        parts = optimization.grad_accum * self.processes.count
        return Stream(
            self.train, size=optimization.batch_size, parts=parts, steps=steps, seed=optimization.seed, grouped=not packed,
            mixture=self.mixture,
        )  # fmt: skip


@dataclass(frozen=True)
class Ready:
    """A run with its model in memory. packed: whether a row holds several examples.

    memory: of the whole run, measured on the model. positions: of the batches of each of the first steps, padding included.
    targets: what the adapter goes on; None without one.
    """

    plan: RunPlan
    loaded: LoadedModel
    model: Any
    head: Any
    packed: bool
    trained: int
    parameters: int
    memory: memory.MemoryEstimate
    positions: tuple[int, ...]
    targets: Targets | None = None

    def stream(self, steps: int) -> Stream:
        """The batches of the run's first `steps` steps."""
        return self.plan.stream(steps, self.packed)


def check_memory(plan: RunPlan) -> None:
    """Raises OutOfMemoryError with the arithmetic for a run that does not fit, before weights are read."""
    plan.memory().check(f"training {plan.prepared.location.reference}", hint=_SMALLER)


def build(plan: RunPlan) -> Ready:
    """Reads the weights and puts the adapter on. Raises ModelError, UsageError, InputError, UnavailableError or OutOfMemoryError."""
    from llmkit.engines.torch import wide_products
    from llmkit.training.adapter import keep_differentiable, trainable
    from llmkit.training.batches import Collator
    from llmkit.training.eval_answers import check_prompts
    from llmkit.training.footprint import shapes, widest
    from llmkit.training.preference import without_dropout

    free = plan.memory().free
    loaded = _read(plan)
    keep_differentiable(loaded.model)
    packed = _packs(plan, loaded.model)
    model, reach = _with_trained_parts(plan, loaded)
    if plan.preference:
        without_dropout(model)
    if wide_products.pays_off() and not plan.fsdp:
        wide_products.use_wide_products(model)
    model.config.use_cache = False
    collate = Collator(plan.pad, packed, plan.encoder.encoder_decoder)
    head = _head(plan, model, collate)
    trained, parameters = trainable(model)
    batches = shapes(plan.stream(plan.steps, packed), collate)
    needed = _memory(plan, model, head, collate, widest(batches), trained, free)
    if plan.optimization.gradient_checkpointing:
        recompute = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        recompute({"use_reentrant": False})
    parts = plan.optimization.grad_accum * plan.processes.count
    positions = tuple(sum(shape.positions for shape in batches[i : i + parts]) for i in range(0, len(batches), parts))
    if plan.fsdp:
        shard(model, plan.prepared.device, plan.processes.count)
    ready = Ready(plan, replace(loaded, device=plan.prepared.device), model, head, packed, trained, parameters, needed, positions, reach)
    check_prompts(ready)
    return ready


def _read(plan: RunPlan) -> LoadedModel:
    """The model on the run's device. One whose weights are to be sharded is read and measured on the CPU: the device has no room for it."""
    prepared = plan.prepared
    if plan.fsdp:
        prepared = replace(prepared, device=replace(prepared.device, name="cpu"))
    return read_weights(prepared, trained=True)


def _packs(plan: RunPlan, model: Any) -> bool:
    """Whether a row of the run's batches holds several examples: where that is wanted, and the model was shown to keep them apart."""
    from llmkit.training.batches import allows_packing

    if plan.loss.packing != "auto" or plan.encoder.encoder_decoder:
        return False
    return allows_packing(model, min(len(plan.prepared.tokenizer), model.get_input_embeddings().weight.shape[0]))


def _with_trained_parts(plan: RunPlan, loaded: LoadedModel) -> tuple[Any, Targets | None]:
    """The model with what is trained: all weights, a new adapter, or the one to go on with; and what a new adapter goes on."""
    from llmkit.training.adapter import name_base, unfrozen, with_adapter
    from llmkit.training.targets import targets

    if plan.lora is None:
        return unfrozen(loaded), None
    if plan.prepared.adapter is not None:
        name_base(loaded.model, loaded)
        return loaded.model, None
    reach = targets(loaded, plan.lora)
    quantized = plan.prepared.settings.quantize != "none"
    return with_adapter(loaded, plan.lora, reach, quantized=quantized, seed=plan.optimization.seed), reach


def _head(plan: RunPlan, model: Any, collate: Collator) -> Any:
    """The model's output layer, where scores are its product alone: found with the first four tokens of an example."""
    import torch

    from llmkit.engines.torch.batch import running
    from llmkit.engines.torch.scoring import plain_head
    from llmkit.training.batches import INPUTS

    few = {name: value[:, :4].to(model.device) for name, value in collate(plan.train[:1]).items() if name in INPUTS}
    model.eval()
    with running(plan.prepared.location.reference, 1), torch.inference_mode():
        head = plain_head(model, few | {"use_cache": False})
    model.train()
    return head


def _memory(plan: RunPlan, model: Any, head: Any, collate: Collator, batch: Shape, trained: int, free: int) -> memory.MemoryEstimate:
    """Memory of the run by what the model keeps for its widest batch. Raises OutOfMemoryError when it does not fit."""
    import torch

    from llmkit.training.footprint import kept, program_bytes, score_bytes

    checkpoint, device, full = plan.prepared.checkpoint, torch.device(plan.prepared.device.name), plan.lora is None
    activations = kept(model, head, collate, batch.rows).bytes(batch, cpu=device.type == "cpu")
    size = memory.bytes_of(plan.prepared.device.dtype)
    if plan.optimization.gradient_checkpointing:
        # far less is kept at a time, but what the blocks free lies scattered: half of the peak, measured on a Llama of 30 layers
        activations //= 2
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    needed = memory.MemoryEstimate(
        {
            "program": program_bytes(device),
            "weights": memory.weight_bytes(checkpoint, plan.prepared.settings.quantize, size, held=plan.held),
            # a gradient and two moments of AdamW; the parameters of an adapter are not among the weights
            "trained parameters": (12 if full else 16) * trained,
            "activations": activations,
            "scores": score_bytes(batch, vocabulary, device, whole=head is None),
        },
        free,
    )
    needed.check(f"training {plan.prepared.location.reference}", hint=_SMALLER)
    return needed


def train(
    ready: Ready,
    folder: RunFolder | None,
    *,
    steps: int,
    begun: Saved | None = None,
    hooks: Any = None,
    report_to: tuple[str, ...] = (),
    rates: tuple[float, ...] = (),
) -> LlmkitError | None:
    """Trains up to `steps`, from the checkpoint `begun` on; why it ended before, None when it did not.

    folder: None writes nothing. rates: of each step, in place of a schedule. Raises TrainingError for a run that goes wrong.
    """
    from llmkit.training.adapter import put_weights
    from llmkit.training.arguments import arguments
    from llmkit.training.batches import Collator
    from llmkit.training.eval_answers import answering
    from llmkit.training.history import stops_early
    from llmkit.training.trainer import WATCH_FILE, FineTuner, Hooks, TrainerContext

    plan, optimization = ready.plan, ready.plan.optimization
    validation = plan.valid if folder is not None else []
    collate = Collator(plan.pad, ready.packed, plan.encoder.encoder_decoder)
    context = TrainerContext(
        folder, ready.stream(steps), collate, ready.head, validation, optimization, hooks or Hooks(), plan.checkpoints,
        plan.valid_sets, answering(ready) if folder is not None else None, plan.embeddings, plan.loss.beta,
        rates=rates, sharded=plan.fsdp,
    )  # fmt: skip
    if plan.preference:
        _refer(ready, context, steps)
    if begun is not None and (begun.step >= steps or stops_early(begun.history, optimization.early_stopping)):
        put_weights(ready.model, begun.path)
        return None
    with tempfile.TemporaryDirectory(prefix="llmkit-") as scratch:
        args = arguments(
            optimization, plan.checkpoints, ready.loaded.device,
            steps=steps, output=Path(scratch), evaluates=context.evaluates, report_to=report_to,
        )  # fmt: skip
        tuner = FineTuner(ready.model, args, context)
        if begun is not None:
            _restore(tuner.watch, begun.path / WATCH_FILE)
        tuner.train(resume_from_checkpoint=str(begun.path) if begun is not None else None)
    return context.reason


def _refer(ready: Ready, context: TrainerContext, steps: int) -> None:
    """Finds out what the model gives the answers of a run of preferences before the training; on a resume, too, it is as it began.

    All of a run's examples are looked at together, so that a resumed run gets the very same numbers.
    """
    from llmkit.training.preference import log_probs

    stream, plan = context.stream, ready.plan
    used = sorted({i for step in range(steps) for i in stream.step(step)})
    stream.references = log_probs(ready.model, plan.train, pad=plan.pad, chosen=used)
    if context.validation:
        context.valid_references = log_probs(ready.model, plan.valid, pad=plan.pad, chosen=range(len(plan.valid)))


def _restore(watch: Watch, path: Path) -> None:
    """Gives the watch its memory again. Raises OutputError naming the file when it is none."""
    try:
        watch.restore(read_json(path))
    except ValueError as exc:
        raise OutputError(f"{path}: damaged: {exc}", hint="`restart` starts over") from exc


def check_examples(train: Examples, file_name: str, report: Callable[[str], None]) -> None:
    """Raises InputError when no example has a trained token; reports those that were cut or skipped."""
    if not train:
        cut = f"{counted(len(train.empty), 'row loses', 'rows lose')} every trained token when cut"
        what = cut if train.truncated else "no row has a trained token"
        raise InputError(what, path=file_name, hint="a larger `max_length`" if train.truncated else "look at the rows with `dry_run`")
    if train.truncated:
        cut = counted(train.truncated, "row longer than `max_length` was", "rows longer than `max_length` were")
        report(f"{cut} cut; the longest has {counted(train.longest, 'token')}")
    if train.empty:
        lines = ", ".join(str(line) for line in train.empty[:5])
        skipped = counted(len(train.empty), "row without a trained token was", "rows without a trained token were")
        report(f"{skipped} skipped (line {lines}{', ...' if len(train.empty) > 5 else ''})")
