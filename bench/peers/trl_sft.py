"""TRL's SFTTrainer, which is behind its `trl sft` command, without packing: it pads. options: as peft_trainer's."""

from __future__ import annotations

from pathlib import Path

from bench.peers import ON_TORCH, Done, Job, Work
from bench.peers.peft_trainer import clock, counting, lora

NEEDS = ("trl", "peft", "transformers", "datasets")
IMPORTS = (ON_TORCH, "datasets", "peft", "trl.trainer.sft_trainer")


def train(job: Job) -> Work:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def work(job: Job) -> Done:
        model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.dtype)
        config = SFTConfig(
            str(Path(job.scratch) / "trl"), max_steps=job.steps, per_device_train_batch_size=job.options["batch"], learning_rate=2e-4,
            use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=10**6, disable_tqdm=True,
            max_length=job.options["length"], gradient_checkpointing=False,
        )  # fmt: skip
        data = load_dataset("json", data_files=job.options["rows"], split="train")
        callback, ends = clock()
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora(model), callbacks=[callback]
        )
        trainer.data_collator, counts = counting(trainer.data_collator)
        trainer.train()
        return Done(sum(counts[1 : job.steps]), ends[-1] - ends[0])

    return work


TASKS = {"train": train}
