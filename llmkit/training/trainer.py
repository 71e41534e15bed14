"""The training loop: transformers' Trainer, with our batches, loss, watch and checkpoints in the places it leaves for them.

Written against transformers 5. It leans on private parts: `_get_grad_norm` (the only way to see a gradient norm before the
optimizer moves), `_save_checkpoint` and `_get_output_dir` (to make a checkpoint appear complete), `_save`, `args._n_gpu`, and on
`loss_is_scaled_for_ga` and `get_batch_samples`, which have no documented contract.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from llmkit.engines.torch.devices import is_out_of_memory
from llmkit.engines.torch.scoring import Head
from llmkit.errors import LlmkitError, ModelError, OutOfMemoryError
from llmkit.private_parts import require
from llmkit.training.adapter import save_weights
from llmkit.training.batches import IGNORED, Collator, Stream
from llmkit.training.checkpoints import RunFolder, unwritable
from llmkit.training.examples import Example
from llmkit.training.history import best_step, metrics_line, stops_early
from llmkit.training.loss import summed_loss
from llmkit.training.preference import batch_loss, log_probs, preference_loss
from llmkit.training.settings import CheckpointSettings, Optimization
from llmkit.training.validation import likelihoods, mean_loss
from llmkit.training.watch import Watch

#: What the watch remembers, in a checkpoint.
WATCH_FILE = "watch.json"


@dataclass(frozen=True)
class Hooks:
    """Callbacks: progress, stop requests, validation loss, answers to the run's prompts, warnings.

    step: after each, (number, loss, learning rate, trained tokens). due: why the run has to end now, None to go on.
    """

    step: Callable[[int, float, float, int], None] = lambda *_: None
    due: Callable[[], LlmkitError | None] = lambda: None
    evaluated: Callable[[int, float], None] = lambda *_: None
    answered: Callable[[int, list[dict[str, str]]], None] = lambda *_: None
    warn: Callable[[str], None] = lambda _: None


@dataclass
class TrainerContext:
    """What the trainer works with, and why it was ended.

    valid_sets: name and number of examples of each validation file. answers: to the run's prompts, by the model as it is.
    embeddings: these are saved with the adapter. beta: of DPO, None for other rows; valid_references: of the validation rows before the
    training. rates: of each step, in place of a schedule. sharded: the frozen weights are, so all processes run the model alike.
    """

    folder: RunFolder | None
    stream: Stream
    collate: Collator
    head: Head | None
    validation: Sequence[Example]
    optimization: Optimization
    hooks: Hooks
    checkpoints: CheckpointSettings
    valid_sets: tuple[tuple[str, int], ...] = ()
    answers: Callable[[], list[dict[str, str]]] | None = None
    embeddings: bool = False
    beta: float | None = None
    valid_references: dict[int, tuple[float, float]] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    sharded: bool = False
    reason: LlmkitError | None = field(default=None, init=False)

    @property
    def evaluates(self) -> bool:
        """Whether an evaluation has something to do: validation rows to score, or prompts to answer."""
        return bool(self.validation) or self.answers is not None

    @property
    def scored_sets(self) -> tuple[tuple[str, int], ...]:
        """The validation files that get a figure of their own: those with an example, where there are several files."""
        return tuple((name, count) for name, count in self.valid_sets if count) if len(self.valid_sets) > 1 else ()


class FineTuner(Trainer):  # type: ignore[misc]
    """Trains `model` on a stream of batches whose position is the number of the step."""

    lr_scheduler: Any

    def __init__(self, model: Any, args: Any, context: TrainerContext) -> None:
        require("training")
        if context.sharded:
            require("sharded training")
        self.context, self.watch = context, Watch(context.hooks.warn, on=context.optimization.watch, steps=context.stream.steps)
        self._step_loss = 0.0
        self._batch_tokens = 0
        self._margins: list[float] = []
        self._begun = time.monotonic()
        self._seconds_before = context.folder.known.seconds if context.folder is not None else 0.0
        super().__init__(model=model, args=args, train_dataset=context.stream, eval_dataset=context.validation)
        # the model has its place, and its adapter's gradients are averaged; said only now, because transformers takes it for a reason to
        # write no optimizer state, but that is the adapter's, which every process has whole
        self.is_distributed_loading_by_transformers = context.sharded
        self.remove_callback(PrinterCallback)
        self.add_callback(_Steps(self))
        self._file = _MetricsFile(context.folder.metrics_path) if context.folder is not None and context.folder.writes else None
        if self._file is not None:
            self.add_callback(self._file)
        self.loss_is_scaled_for_ga = True

    @property
    def epoch(self) -> float:
        """How often each example has been seen."""
        stream = self.context.stream
        return stream.rows_before(self.state.global_step) / stream.mixture.size

    def create_optimizer(self, *arguments: Any, **more: Any) -> Any:
        """transformers' optimizer; with LoRA+ the adapter's B matrices in groups of their own, whose rate is higher."""
        made = self.optimizer is None
        optimizer, ratio = super().create_optimizer(*arguments, **more), self.context.optimization.lora_plus
        if made and ratio is not None:
            second = {id(p) for name, p in self.model.named_parameters() if ".lora_B." in name or ".lora_embedding_B." in name}
            groups = []
            for group in self.optimizer.param_groups:
                for chosen, rate in ((False, group["lr"]), (True, group["lr"] * ratio)):
                    if parameters := [p for p in group["params"] if (id(p) in second) == chosen]:
                        groups.append({**group, "params": parameters, "lr": rate})
            self.optimizer.param_groups[:] = groups
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """transformers' schedule, but that the first step of a warm-up is at 1/warm-up of the peak, not at 0."""
        made, rates = self.lr_scheduler is None, self.context.rates
        if made and rates:
            peak = self.args.learning_rate
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rates[min(step, len(rates) - 1)] / peak)
            return self.lr_scheduler
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        warmup = self.args.warmup_steps
        if made and warmup and self.context.optimization.schedule != "constant":
            scheduler.lr_lambdas = [_warmed(factor, warmup) for factor in scheduler.lr_lambdas]
            for group, factor in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * factor(0)
            scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]  # what is logged of the first step
        return scheduler

    def get_train_dataloader(self) -> Any:
        """The stream's items in their order, a whole batch each; each process gets every Nth."""
        loader = torch.utils.data.DataLoader(
            self.context.stream, batch_size=1, shuffle=False, collate_fn=lambda items: self.context.collate(items[0])
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and how many trained tokens (of preferences: pairs) all processes have in it."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        tokens = sum(int((b["labels"] != IGNORED).sum()) for b in batches)
        pairs = sum(len(b["reference"]) // 2 for b in batches if "reference" in b)
        counts = torch.tensor([tokens, pairs], device=device)
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.gather(counts[None]).sum(0)
        self._batch_tokens = int(counts[0])
        if batches:
            self.watch.tokens(self._batch_tokens, self.state.global_step + 1)
        return batches, counts[0 if self.context.beta is None else 1]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """A scalar with a gradient: this micro-batch's part of the step's mean loss, in nats a trained token (or a pair)."""
        # a mean over the tokens (of preferences the pairs) of the whole step, wherever they are; DistributedDataParallel averages over
        # processes
        if self.context.beta is not None and "reference" in inputs:
            total, margins = batch_loss(model, self.context.head, inputs, self.context.beta)
            self._margins += margins.tolist()
        else:
            total = summed_loss(model, self.context.head, inputs)
        return total * (self.accelerator.num_processes / num_items_in_batch)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """As transformers': the loss of a micro-batch, a scalar. Raises OutOfMemoryError, and TrainingError for NaN or infinity."""
        try:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        except (MemoryError, RuntimeError) as exc:
            if not is_out_of_memory(exc):
                raise
            raise OutOfMemoryError(
                f"out of memory at step {self.state.global_step + 1}",
                hint="a smaller `batch_size` with a larger `grad_accum`, a smaller `max_length`, or `gradient_checkpointing`",
            ) from exc
        if self.accelerator.num_processes == 1:  # a process that ended inside a step would leave the others waiting
            self.watch.finite(float(loss), self.state.global_step + 1)
        self._step_loss += float(loss)
        return loss

    def _defer_fsdp_gradient_reduction(self) -> AbstractContextManager[None]:
        return nullcontext()  # no sharded weight has a gradient; those of the adapter are averaged after the last micro-batch alone

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.num_processes > 1:  # of all rows: a process may have none of a step's, and all have to come to one verdict
            self._step_loss = float(self.accelerator.gather(torch.tensor([self._step_loss], device=self.args.device)).mean())
        self.watch.loss(self._step_loss, self.state.global_step + 1)
        self._step_loss = 0.0
        self.watch.gradient(float(norm), self.state.global_step + 1)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As transformers', with our count of epochs and DPO's margins, and without the summary of a process."""
        if "train_runtime" in logs:
            return  # the summary of a process, not of the run
        self.state.epoch = self.epoch
        if self._margins and "loss" in logs:
            logs["reward_margin"] = sum(self._margins) / len(self._margins)
            logs["reward_accuracy"] = sum(margin > 0 for margin in self._margins) / len(self._margins)
            self._margins = []
        super().log(logs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Scores the validation rows and answers the prompts. {'eval_loss': nats a token, ...}; empty without validation rows."""
        metrics = self._validate() if self.context.validation else {}
        if metrics:
            self.log(metrics)
        self.answer()
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validate(self) -> dict[str, float]:
        """The loss on all validation rows, and with several files on those of each."""
        if self.context.beta is not None:
            return self._validate_pairs(self.context.beta)
        examples, rank, ranks = self.context.validation, self.accelerator.process_index, self.accelerator.num_processes
        if self.context.sharded:  # a process that ran the model more often than the others would wait for them forever
            rank, ranks = 0, 1
        try:
            own = likelihoods(self.model, examples, pad=self.context.collate.pad, chosen=range(rank, len(examples), ranks))
        except ModelError as exc:
            raise self.watch.gone_wrong(f"on the validation rows {exc.message}", self.state.global_step) from exc
        if ranks > 1:
            from accelerate.utils import gather_object

            parts = gather_object([own])  # every process has scored each of its examples
            own = [parts[i % ranks][i // ranks] for i in range(len(examples))]
        metrics, first = {"eval_loss": mean_loss(own)}, 0
        for name, count in self.context.scored_sets:
            metrics[f"eval_{name}_loss"] = mean_loss(own[first : first + count])
            first += count
        return metrics

    def _validate_pairs(self, beta: float) -> dict[str, float]:
        """The loss of preferences and the share of pairs whose margin is above that of the reference."""
        examples, known = self.context.validation, self.context.valid_references
        scored = log_probs(self.model, examples, pad=self.context.collate.pad, chosen=range(len(examples)))
        policy, reference = (torch.tensor([value for i in range(len(examples)) for value in each[i]]) for each in (scored, known))
        metrics: dict[str, float] = {}
        first = 0
        for name, count in [("eval", len(examples)), *((f"eval_{name}", count) for name, count in self.context.scored_sets)]:
            part = slice(2 * first, 2 * (first + count))
            loss, margins = preference_loss(policy[part], reference[part], beta)
            metrics |= {f"{name}_loss": float(loss) / len(margins), f"{name}_reward_accuracy": float((margins > 0).float().mean())}
            first += 0 if name == "eval" else count
        return metrics

    def answer(self) -> None:
        """Answers the run's prompts. The answers go into the log that the checkpoints keep, but not to trackers, which take numbers."""
        if self.context.answers is None:
            return
        entry = {"step": self.state.global_step, "answers": self.context.answers()}
        self.state.log_history.append(entry)
        if self._file is not None:
            self._file.write(entry)
        self.context.hooks.answered(entry["step"], entry["answers"])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            save_weights(self.model, Path(output_dir or ""), embeddings=self.context.embeddings)

    def _get_output_dir(self, trial: Any) -> str:
        folder = self.context.folder
        return str(folder.staging) if folder is not None else str(self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = self.context.folder
        if folder is None:
            return
        step = self.state.global_step
        if f"checkpoint-{step}" in folder.known.checkpoints:
            return
        folder.stage()
        self.accelerator.wait_for_everyone()
        with unwritable(folder.name):
            super()._save_checkpoint(model, trial)
            if folder.writes:
                place = folder.staging / f"checkpoint-{step}" / WATCH_FILE
                place.write_text(json.dumps(self.watch.state()), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if folder.writes:
            best = best_step(self.state.log_history) if self.context.checkpoints.result == "best" else None
            seconds = self._seconds_before + time.monotonic() - self._begun
            folder.commit(step, keep=self.context.checkpoints.keep, best=best, seconds=seconds)
        self.accelerator.wait_for_everyone()


class _Steps(TrainerCallback):  # type: ignore[misc]
    """After each step: is there a reason to end? Before that, a checkpoint is written."""

    def __init__(self, trainer: FineTuner) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.trainer.answer()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        context = self.trainer.context
        if logs and "loss" in logs:
            context.hooks.step(state.global_step, logs["loss"], logs.get("learning_rate", 0.0), self.trainer._batch_tokens)
        elif logs and "eval_loss" in logs:
            context.hooks.evaluated(state.global_step, logs["eval_loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        reason = self.trainer.context.hooks.due()
        accelerator = self.trainer.accelerator
        if accelerator.num_processes > 1:  # all end at the same step, or those that go on would wait for ever
            from accelerate.utils import gather_object

            reason = next((r for r in gather_object([reason]) if r is not None), None)
        if reason is not None:
            self.trainer.context.reason = reason
            control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps and self.trainer.context.evaluates:
            control.should_evaluate = True  # the last weights, too, are compared with the best

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if best_step(state.log_history) == state.global_step:
            control.should_save = True  # the best is what is kept at the end
        if stops_early(state.log_history, self.trainer.context.optimization.early_stopping):
            control.should_training_stop = control.should_save = True


class _MetricsFile(TrainerCallback):  # type: ignore[misc]
    """metrics.jsonl: a line for each log, begun again from the checkpoint's own when a run resumes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.path.write_text("".join(metrics_line(entry) for entry in state.log_history), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.write(state.log_history[-1])

    def write(self, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(metrics_line(entry))


def _warmed(factor: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / warmup if step < warmup else factor(step)
