"""The arguments of transformers' Trainer for a run. Knows settings; not models or rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from llmkit.models.devices import Device
from llmkit.training.settings import CheckpointSettings, Optimization

#: Lines of metrics.jsonl for a whole run, about.
_LINES = 2000


def arguments(
    optimization: Optimization,
    checkpoints: CheckpointSettings,
    device: Device,
    *,
    steps: int,
    output: Path,
    evaluates: bool,
    report_to: Sequence[str],
) -> Any:
    """The Trainer's arguments for a run of `steps` steps."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    out = _Arguments(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the stream is a whole batch
        gradient_accumulation_steps=optimization.grad_accum,
        learning_rate=optimization.learning_rate,
        lr_scheduler_type=optimization.schedule,
        warmup_steps=optimization.warmup_steps(steps),
        weight_decay=optimization.weight_decay,
        max_grad_norm=optimization.max_grad_norm,
        neftune_noise_alpha=optimization.neftune,
        seed=optimization.seed,
        use_cpu=device.kind == "cpu",
        fp16=device.dtype == "float16",
        logging_strategy="steps",
        logging_steps=max(1, math.ceil(steps / _LINES)),
        logging_nan_inf_filter=False,  # the watch wants to see them
        save_strategy="steps",
        save_steps=checkpoints.every(steps),
        eval_strategy="steps" if evaluates else "no",
        eval_steps=checkpoints.evaluate_every(steps) if evaluates else None,
        disable_tqdm=True,
        report_to=list(report_to) or "none",
        remove_unused_columns=False,
        dataloader_pin_memory=device.kind == "cuda",
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # they are the same everywhere, and Marian's bias can't be written to
    )
    out._n_gpu = min(1, out.n_gpu)  # several devices are for torchrun; never threads over devices that were not asked for
    return out


class _Arguments(TrainingArguments):  # type: ignore[misc]
    """transformers' arguments, but that the model is where it belongs already."""

    @property
    def place_model_on_device(self) -> bool:
        """False: `to` fails for a model whose weights are sharded."""
        return False
