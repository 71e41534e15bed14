"""peft with transformers' Trainer and its padding collator: the stock recipe for LoRA. options: `rows`, `batch`, `length`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.peers import ON_TORCH, Done, Job, Work

NEEDS = ("peft", "transformers", "datasets", "accelerate")
IMPORTS = (ON_TORCH, "datasets", "peft", "transformers.trainer")
TARGETS: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def lora(model: Any) -> Any:
    """Rank 16 on every linear layer."""
    from peft import LoraConfig

    return LoraConfig(**TARGETS, fan_in_fan_out=model.config.model_type == "gpt2")


def clock() -> tuple[Any, list[float]]:
    """A callback, and when each step ended."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

    return Clock(), ends


def counting(collate: Any) -> tuple[Any, list[int]]:
    """A collator, and the trained tokens of each batch: the first token of a row can't be."""
    counts: list[int] = []

    def counted(features: Any) -> Any:
        counts.append(sum(len(f["input_ids"]) - 1 for f in features))
        return collate(features)

    return counted, counts


def train(job: Job) -> Work:
    from datasets import load_dataset
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def work(job: Job) -> Done:
        model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.dtype)
        model = get_peft_model(model, lora(model))
        data = load_dataset("json", data_files=job.options["rows"], split="train")

        def encode(row: Any) -> Any:
            return tokenizer(row["text"] + tokenizer.eos_token, truncation=True, max_length=job.options["length"])

        data = data.map(encode, remove_columns=data.column_names)
        callback, ends = clock()
        collate, counts = counting(DataCollatorForLanguageModeling(tokenizer, mlm=False))
        arguments = TrainingArguments(
            str(Path(job.scratch) / "peft"), max_steps=job.steps, per_device_train_batch_size=job.options["batch"], learning_rate=2e-4,
            use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[callback]).train()
        return Done(sum(counts[1 : job.steps]), ends[-1] - ends[0])

    return work


TASKS = {"train": train}
