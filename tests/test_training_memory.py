"""The memory of a training run is estimated from what the model itself keeps, and a run that does not fit never begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, write_rows


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_what_a_batch_keeps_follows_from_two_short_texts(request: pytest.FixtureRequest, name: str) -> None:
    import torch

    from llmkit.engines.torch.loading import load
    from llmkit.models.settings import ModelSettings
    from llmkit.training.adapter import with_adapter
    from llmkit.training.batches import Collator
    from llmkit.training.footprint import Shape, kept
    from llmkit.training.settings import LoraSettings
    from llmkit.training.targets import targets

    loaded = load(ModelSettings(str(request.getfixturevalue(name)), device="cpu"))
    settings = LoraSettings(r=4, alpha=8.0)
    model: Any = with_adapter(loaded, settings, targets(loaded, settings), quantized=False, seed=0)
    collate = Collator(0, False, name == "t5")
    rows, width = 3, 70
    measured = kept(model, None, collate, rows)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    model.train()
    ids = torch.zeros(rows, width, dtype=torch.long)
    more = {"decoder_input_ids": ids, "attention_mask": torch.ones_like(ids)} if name == "t5" else {}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=ids, use_cache=False, **more)
    exact = measured.bytes(Shape(rows, width), cpu=False) / 1.1
    assert exact == pytest.approx(sum(sizes.values()), rel=0.05)


def test_looking_at_the_memory_changes_no_weight_and_no_random_number(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    from safetensors.torch import load_file

    for name in ("one", "two"):
        assert run("finetune", texts, "-m", gpt2, "-o", tmp_path / name, "--max-steps", "2", "--lora-dropout", "0.2").code == 0
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert all(bool((one[key] == two[key]).all()) for key in one)


def test_a_longer_or_a_larger_batch_needs_more_memory(run: Run, tmp_path: Path, gpt2: Path) -> None:
    needs = []
    for width, size in ((20, 2), (120, 2), (120, 8)):
        rows = write_rows(tmp_path / f"rows-{width}-{size}.jsonl", [{"text": "a" * width}] * 16)
        done = run("finetune", rows, "-m", gpt2, "--batch-size", size, "--dry-run", "--json")
        needs.append(json.loads(done.out)["memory_bytes"])
    assert needs == sorted(set(needs))


#: Layers, width, and what is asked: (family, length of the rows, options).
MEASURED = [
    ("llama", 500, ["--batch-size", "2"]),
    ("llama", 60, ["--batch-size", "8"]),
    ("llama", 128, ["--batch-size", "2", "--full"]),
    ("gpt2", 256, ["--batch-size", "4"]),
    ("t5", 200, ["--batch-size", "8"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "length", "options"), MEASURED)
def test_the_estimate_is_within_a_sixth_of_the_measured_peak(tmp_path: Path, family: str, length: int, options: list[str]) -> None:
    import transformers

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.save_pretrained(tmp_path / "model")
    ends = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    model: Any = {
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=49152, tie_word_embeddings=True, **sizes, **ends)
        ),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=256, eos_token_id=257)),
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(pad_token_id=258, eos_token_id=257, decoder_start_token_id=258)
        ),
    }[family]()
    model.save_pretrained(tmp_path / "model")
    text = "the king and queen " * 50
    row = {"source": text[:length], "target": text[:length]} if family == "t5" else {"text": text[:length]}
    rows = write_rows(tmp_path / "rows.jsonl", [row] * 24)
    command = [sys.executable, "-m", "llmkit", "finetune", str(rows), "-m", str(tmp_path / "model"), "--dry-run", "--json", *options]
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert running.stdout is not None
    estimate = json.loads(running.stdout.read())["memory_bytes"]
    _, status, usage = os.wait4(running.pid, 0)
    assert status == 0
    assert estimate == pytest.approx(usage.ru_maxrss * 1024, rel=0.16)
