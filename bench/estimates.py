"""What `llmkit finetune --dry-run` says a run takes, beside what the run takes: memory and time on combinations of model, length, batch.

Random weights of real architectures, and the model that --model names. Time is that of the training steps (as run.json has it), memory
the peak of the process. A ratio above 1 says that the estimate was too high.

On a machine with other work, --processor-time counts the seconds of both by the processor time of one thread: what they would be there
alone, but for the waits for the disk.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.running import apart

WORDS = ["river", "stone", "window", "paper", "bridge", "yellow", "garden", "summer", "letter", "cloud", "engine", "table"]
ENDS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
LLAMA = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
#: How a family's model is made from transformers' classes.
FAMILIES: dict[str, Callable[[Any], Any]] = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(vocab_size=49152, tie_word_embeddings=True, **LLAMA, **ENDS)),
    "gpt2": lambda t: t.GPT2LMHeadModel(t.GPT2Config(bos_token_id=256, eos_token_id=257)),
    "t5": lambda t: t.T5ForConditionalGeneration(t.T5Config(decoder_start_token_id=258, **ENDS)),
    "neox": lambda t: t.GPTNeoXForCausalLM(
        t.GPTNeoXConfig(hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048, vocab_size=50304, **ENDS)
    ),
}
#: llmkit with the processor time of its thread as its clock.
PROCESSOR_TIME = "import threading, time; time.monotonic = time.process_time; from llmkit.__main__ import main; main()"
#: Model, characters of a row (from, to), what else is asked.
COMBINATIONS = [
    ("llama", (500, 500), ["--batch-size", "2"]),
    ("llama", (20, 120), ["--batch-size", "8"]),
    ("llama", (100, 900), ["--batch-size", "2", "--grad-accum", "2"]),
    ("llama", (128, 128), ["--batch-size", "2", "--full"]),
    ("llama", (200, 400), ["--batch-size", "4", "--gradient-checkpointing"]),
    ("gpt2", (256, 256), ["--batch-size", "4"]),
    ("gpt2", (20, 500), ["--batch-size", "8", "--packing", "off"]),
    ("t5", (30, 200), ["--batch-size", "8"]),
    ("t5", (200, 200), ["--batch-size", "4", "--full"]),
    ("neox", (100, 600), ["--batch-size", "4", "--valid-split", "30%"]),
    ("model", (500, 2000), ["--batch-size", "2"]),
    ("model", (50, 300), ["--batch-size", "8", "--valid-split", "20%"]),
]  # fmt: skip


def byte_tokenizer() -> Any:
    """A token per byte, with <s>, </s> and <pad>."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def model_folder(family: str, place: Path, given: str | None) -> str | None:
    """The folder of a family, made once; None for 'model' where none is given."""
    if family == "model":
        return given
    folder = place / family
    if not folder.exists():
        apart(make_model, family, folder)
    return str(folder)


def make_model(family: str, folder: Path) -> None:
    """Writes a family's model of random weights, with a tokenizer."""
    import transformers

    FAMILIES[family](transformers).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def rows(place: Path, family: str, lengths: tuple[int, int]) -> Path:
    """60 rows of words, from 'lengths' characters."""
    draw = random.Random(3)
    path = place / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(60):
            text = " ".join(draw.choice(WORDS) for _ in range(400))[: draw.randint(*lengths)]
            file.write(json.dumps({"source": text, "target": text} if family == "t5" else {"text": text}) + "\n")
    return path


def run(arguments: list[str], *, processor_time: bool) -> tuple[str, int]:
    """Standard output and the peak memory in bytes of a run of llmkit."""
    how, more = (["-c", PROCESSOR_TIME], {"OMP_NUM_THREADS": "1"}) if processor_time else (["-m", "llmkit"], {})
    running = subprocess.Popen([sys.executable, *how, *arguments], stdout=subprocess.PIPE, env={**os.environ, **more})
    assert running.stdout is not None
    out = running.stdout.read().decode()
    _, status, usage = os.wait4(running.pid, 0)
    if status:
        raise SystemExit(f"llmkit {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return out, usage.ru_maxrss * 1024


def main(model: str | None, steps: int, only: str, place: Path, *, shorter: int = 1, processor_time: bool = False) -> None:
    """Prints a line per combination whose line contains `only`.

    model: a folder for the combinations of 'model'. shorter: rows are shorter by this factor. processor_time: as the module says.
    """
    print("| model | characters | options | GiB said | measured | ratio | s said | measured | ratio |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for number, (family, whole, options) in enumerate(COMBINATIONS):
        lengths = whole[0] // shorter, whole[1] // shorter
        folder = model_folder(family, place, model)
        name = f"| {family} | {lengths[0]} to {lengths[1]} | {' '.join(options)} |"
        if folder is None or only not in name:
            continue
        command = ["finetune", str(rows(place, family, lengths)), "-m", folder, "--max-steps", str(steps), "-q", *options]
        said = json.loads(run([*command, "--dry-run", "--json"], processor_time=processor_time)[0])
        out = place / f"out-{number}"
        _, peak = run([*command, "-o", str(out)], processor_time=processor_time)
        seconds = json.loads((out / "run.json").read_text())["result"]["seconds"]
        # a run's own seconds end with its last checkpoint and begin with its first step: not with the evaluations before and after them
        memory, time = said["memory_bytes"], said["seconds"] - 2 * said["seconds_an_evaluation"]
        print(name, f"{memory / 2**30:.2f} | {peak / 2**30:.2f} | {memory / peak:.2f} | "
              f"{time:.1f} | {seconds:.1f} | {time / seconds:.2f} |", flush=True)  # fmt: skip
