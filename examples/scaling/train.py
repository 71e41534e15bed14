"""Llamas of several widths with random weights, each trained on the same rows for the same number of steps.

python3 examples/scaling/train.py train.jsonl --steps 100 16 48 128     writes trained/16, trained/48 and trained/128
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

import llmkit
from llmkit.models.builtin import folder
from llmkit.models.settings import ModelSettings
from llmkit.training.settings import CheckpointSettings, DataSettings, FinetuneSettings, LossSettings, Optimization

CONTEXT = 256


def untrained(width: int, path: Path) -> str:
    """A model folder with random weights, two blocks of `width`, and the tokenizer of builtin:stories."""
    tokenizer = AutoTokenizer.from_pretrained(folder("stories"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 16),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def train(width: int, rows: str, steps: int) -> None:
    """Trains all weights of a model of `width` for `steps` steps of 16 rows."""
    settings = FinetuneSettings(
        DataSettings(rows),
        ModelSettings(untrained(width, Path("untrained") / str(width)), dtype="float32"),
        lora=None,
        optimization=Optimization(max_steps=steps, batch_size=16, learning_rate=4e-3),
        loss=LossSettings(max_length=CONTEXT),
        checkpoints=CheckpointSettings(steps=steps),
    )
    result = llmkit.finetune(settings, f"trained/{width}")
    print(f"width {width}: {result.record['result']['steps']} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows")
    parser.add_argument("widths", type=int, nargs="+")
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    Path("trained").mkdir(exist_ok=True)
    logging.disable_progress_bar()
    for width in arguments.widths:
        train(width, arguments.rows, arguments.steps)
