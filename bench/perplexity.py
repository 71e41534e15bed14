"""Perplexity against lm-evaluation-harness and the usual strided recipe: figures, tokens per second, peak memory.

    python -m pip install "lm-eval[hf]" && python bench/perplexity.py [--documents 64] [--words 40 1200] [--rounds 1] [--model REF]

Ragged documents of random words on a random model of GPT-2's size (the figures then mean nothing, but must agree), or on --model.
All three score every token of every document once after BOS, in rolling windows of the model's context without overlap, in
the same dtype. lm-evaluation-harness runs its own rolling log-likelihood at the batch size it is given, told to add no BOS of its
own (by default a tokenizer that adds one gives each document two, and other figures); the recipe is the loop of transformers'
documentation, a window at a time. --double runs the recipe in double precision as well, and says how far each is from it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from side_by_side import Contender, measure, model_of_gpt2s_size, report

HARNESS = """
import json, math, re, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
folder, texts, out, dtype, size = sys.argv[1:]
rows = [json.loads(line)["text"] for line in open(texts)]
model = HFLM(pretrained=folder, dtype=dtype, batch_size=int(size), device="cpu", add_bos_token=False)
requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(rows)]
total = sum(model.loglikelihood_rolling(requests, disable_tqdm=True))
words = sum(len(re.split(r"\\s+", text)) for text in rows)
size = sum(len(text.encode()) for text in rows)
bits = -total / size / math.log(2)
json.dump({"word_perplexity": math.exp(-total / words), "byte_perplexity": 2**bits, "bits_per_byte": bits}, open(out, "w"))
"""

RECIPE = """
import json, math, re, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, texts, out, dtype = sys.argv[1:]
rows = [json.loads(line)["text"] for line in open(texts)]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
context = model.config.max_position_embeddings
total = 0.0
for text in rows:
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    done = 0
    while done < len(ids) - 1:
        end = min(done + context, len(ids) - 1)
        begin = max(0, end - context)
        inputs = torch.tensor([ids[begin:end]])
        labels = torch.tensor([ids[begin + 1 : end + 1]])
        labels[0, : done - begin] = -100
        with torch.no_grad():
            logits = model(inputs).logits
        wide = logits[0] if logits.dtype == torch.float64 else logits[0].float()
        total -= torch.nn.functional.cross_entropy(wide, labels[0], reduction="sum").item()
        done = end
words = sum(len(re.split(r"\\s+", text)) for text in rows)
size = sum(len(text.encode()) for text in rows)
bits = -total / size / math.log(2)
json.dump({"word_perplexity": math.exp(-total / words), "byte_perplexity": 2**bits, "bits_per_byte": bits}, open(out, "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--words", type=int, nargs=2, default=[40, 1200], help="the shortest and the longest document")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-size", type=int, default=8, help="of lm-evaluation-harness")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", help="a folder, or builtin:stories")
    parser.add_argument("--double", action="store_true", help="also compute the figures in double precision")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = _model(args.model, Path(scratch))
        texts = Path(scratch) / "texts.jsonl"
        choose = random.Random(0)
        words = ["the", "king", "and", "queen", "lived", "by", "sea", "old", "house", "children", "who", "loved", "stories"]
        with texts.open("w") as file:
            for _ in range(args.documents):
                file.write(json.dumps({"text": " ".join(choose.choices(words, k=choose.randint(*args.words)))}) + "\n")
        outs = {name: Path(scratch) / f"{name}.json" for name in ("llmkit", "harness", "recipe", *(["double"] if args.double else []))}
        ours = [sys.executable, "-m", "llmkit", "evaluate", "perplexity", "-m", folder, "-i", str(texts), "--dtype", args.dtype]
        contenders = [
            Contender("llmkit evaluate perplexity", [*ours, "--report", str(outs["llmkit"]), "-q", "--offline"]),
            Contender(
                f"lm-evaluation-harness, batches of {args.batch_size}",
                [sys.executable, "-c", HARNESS, folder, str(texts), str(outs["harness"]), args.dtype, str(args.batch_size)],
            ),
            Contender("strided recipe", [sys.executable, "-c", RECIPE, folder, str(texts), str(outs["recipe"]), args.dtype]),
        ]
        if args.double:
            recipe = [sys.executable, "-c", RECIPE, folder, str(texts), str(outs["double"]), "float64"]
            contenders.append(Contender("strided recipe in double precision", recipe))
        report(measure(contenders, rounds=args.rounds, warm_up=False, env={"HF_HUB_OFFLINE": "1"}), against=contenders[0].name)
        print()
        found = {name: json.loads(path.read_text()) for name, path in outs.items()}
        for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
            values = [found["llmkit"]["scores"][metric], *(found[name][metric] for name in outs if name != "llmkit")]
            print(f"{metric:<20}" + "".join(f"{value:>20.10g}" for value in values))
            if args.double:
                print(f"{'  off by':<20}" + "".join(f"{value / values[-1] - 1:>20.2e}" for value in values))


def _model(reference: str | None, scratch: Path) -> str:
    if reference is None:
        return str(model_of_gpt2s_size(scratch / "model"))
    if reference.startswith("builtin:"):
        from llmkit.models.builtin import folder

        return str(folder(reference.removeprefix("builtin:")))
    return reference


if __name__ == "__main__":
    main()
