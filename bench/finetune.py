"""LoRA on a model of GPT-2's size: trained tokens per second and peak memory against the recipes that people write.

    python -m pip install trl && python bench/finetune.py TEXTS.jsonl [--steps 12] [--batch-size 8] [--rounds 1] [--dtype float32]

TEXTS.jsonl: real text, a row with `text` each (paragraphs of books, say), ragged. Random weights, rank 16 on every linear
layer, AdamW, the same number of rows a step for all. The stock recipe is peft, transformers' Trainer and its padding collator;
TRL's is the SFTTrainer behind its `trl sft` command, without packing, which pads too. A contender's speed is that of its own steps, told
by itself: from the end of the first step to the end of the last, so that no start-up counts; its memory is the peak of the whole
process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from side_by_side import model_of_gpt2s_size

STOCK = """
import json, sys, time
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainerCallback,
                          TrainingArguments)
folder, texts, out, steps, size, length, dtype = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=True))
data = load_dataset("json", data_files=texts, split="train")
data = data.map(lambda row: tokenizer(row["text"] + tokenizer.eos_token, truncation=True, max_length=int(length)),
                remove_columns=data.column_names)

class Clock(TrainerCallback):
    ends = []
    def on_step_end(self, *_, **__):
        self.ends.append(time.monotonic())

collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
trained = []
def counted(features):
    trained.append(sum(len(f["input_ids"]) - 1 for f in features))
    return collate(features)

arguments = TrainingArguments(out, max_steps=int(steps), per_device_train_batch_size=int(size), learning_rate=2e-4, use_cpu=True,
                              report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True)
Trainer(model=model, args=arguments, train_dataset=data, data_collator=counted, callbacks=[Clock()]).train()
json.dump({"seconds": Clock.ends[-1] - Clock.ends[0], "tokens": sum(trained[1:int(steps)])}, open(out + ".json", "w"))
"""

TRL = """
import json, sys, time
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
folder, texts, out, steps, size, length, dtype = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)

class Clock(TrainerCallback):
    ends = []
    def on_step_end(self, *_, **__):
        self.ends.append(time.monotonic())

config = SFTConfig(out, max_steps=int(steps), per_device_train_batch_size=int(size), learning_rate=2e-4, use_cpu=True, bf16=False,
                   report_to="none", save_strategy="no", logging_steps=10**6, disable_tqdm=True, max_length=int(length),
                   gradient_checkpointing=False)
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=True)
trainer = SFTTrainer(model=model, args=config, train_dataset=load_dataset("json", data_files=texts, split="train"),
                     processing_class=tokenizer, peft_config=lora, callbacks=[Clock()])
collate, trained = trainer.data_collator, []
def counted(features):
    trained.append(sum(len(f["input_ids"]) - 1 for f in features))
    return collate(features)
trainer.data_collator = counted
trainer.train()
json.dump({"seconds": Clock.ends[-1] - Clock.ends[0], "tokens": sum(trained[1:int(steps)])}, open(out + ".json", "w"))
"""

OURS = """
import json, sys, time
from llmkit.training.trainer import FineTuner
ends, counts = [], []
samples = FineTuner.get_batch_samples
def batch(self, *rest):
    ends.append(time.monotonic())  # the beginning of a step is the end of the one before
    found = samples(self, *rest)
    counts.append(int(found[1]))
    return found
FineTuner.get_batch_samples = batch
from llmkit.cli.app import run
folder, texts, out, steps, size, length, dtype = sys.argv[1:]
save = FineTuner._save_checkpoint
def last(self, *rest):
    ends.append(time.monotonic())
    return save(self, *rest)
FineTuner._save_checkpoint = last
code = run(["finetune", texts, "-m", folder, "-o", out, "--max-steps", steps, "--save-steps", steps, "--batch-size", size,
            "--max-length", length, "--dtype", dtype, "--overwrite", "--offline", "-q"])
json.dump({"seconds": ends[int(steps)] - ends[1], "tokens": sum(counts[1:int(steps)])}, open(out + ".json", "w"))
sys.exit(code)
"""


@dataclass(frozen=True)
class Found:
    name: str
    speed: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="rows with 'text'")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    contenders = {"llmkit finetune": OURS, "peft + Trainer + padding collator": STOCK}
    if importlib.util.find_spec("trl") is not None:
        contenders["trl sft"] = TRL
    best: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_of_gpt2s_size(Path(scratch) / "model")
        for number in range(args.rounds):
            for name, code in contenders.items():
                out = str(Path(scratch) / f"out-{number}-{len(name)}")
                sizes = [str(args.steps), str(args.batch_size), str(args.max_length), args.dtype]
                found = run(name, [sys.executable, "-c", code, str(folder), str(Path(args.texts).resolve()), out, *sizes], out)
                best[name] = max(best.get(name, found), found, key=lambda f: f.speed)
    ours = best["llmkit finetune"]
    for found in best.values():
        ratio = (
            ""
            if found is ours
            else f"   llmkit is {ours.speed / found.speed:.2f} times as fast, with {ours.peak / found.peak:.2f} of its memory"
        )
        print(f"{found.name:<36}{found.speed:8.0f} trained tokens/s {found.peak / 2**20:8.0f} MiB{ratio}")


def run(name: str, command: list[str], out: str) -> Found:
    """Speed as the process reported it, and its peak memory."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{name} ended with {process.returncode}: {said.read().decode()[-3000:]}")
    told = json.loads(Path(out + ".json").read_text())
    return Found(name, told["tokens"] / told["seconds"], usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
