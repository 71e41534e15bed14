"""512 ragged prompts on a model of GPT-2's size: a job against the loops that a user would write.

    python bench/batch.py [--rows 512] [--new-tokens 16] [--rounds 1]

The prompts are 4 to 64 words. Greedy, float32. The first loop calls `generate()` a prompt at a time; the second pads
64 prompts at a time in the order they come, the job's batch size. The job also writes its journal, record and output.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from side_by_side import Contender, measure, model_of_gpt2s_size, report

LOOP = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompts, out, new, size = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
rows = [json.loads(line) for line in open(prompts)]
size = int(size)
with open(out, "w") as file:
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        inputs = tokenizer([row["prompt"] for row in batch], return_tensors="pt", padding=size > 1)
        output = model.generate(**inputs, max_new_tokens=int(new), do_sample=False, pad_token_id=tokenizer.eos_token_id)
        for row, ids in zip(batch, output):
            row["text"] = tokenizer.decode(ids[inputs["input_ids"].shape[1]:], skip_special_tokens=True)
            file.write(json.dumps(row) + "\\n")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_of_gpt2s_size(Path(scratch) / "model")
        prompts, out = Path(scratch) / "prompts.jsonl", Path(scratch) / "out.jsonl"
        choose = random.Random(0)
        words = ["the", "king", "and", "queen", "lived", "by", "sea"]
        with prompts.open("w") as file:
            for number in range(args.rows):
                text = " ".join(choose.choices(words, k=choose.randint(4, 64)))
                file.write(json.dumps({"id": number, "prompt": text}) + "\n")
        new = str(args.new_tokens)
        job = [sys.executable, "-m", "llmkit", "generate", "-m", str(folder), "-i", str(prompts), "-o", str(out)]
        loop = [sys.executable, "-c", LOOP, str(folder), str(prompts), str(Path(scratch) / "loop.jsonl"), new]
        contenders = [
            Contender("llmkit generate -i -o", [*job, "--max-new-tokens", new, "--overwrite", "-q", "--offline"]),
            Contender("loop, 64 padded prompts at a time", [*loop, "64"]),
            Contender("loop, one prompt at a time", [*loop, "1"]),
        ]
        report(measure(contenders, rounds=args.rounds, warm_up=False), against=contenders[0].name)


if __name__ == "__main__":
    main()
