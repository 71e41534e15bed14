"""Models made on the spot, and texts: the same every time."""

from __future__ import annotations

import json
import random
from pathlib import Path

_WORDS = ["the", "king", "and", "queen", "lived", "by", "sea", "old", "house", "children", "who", "loved", "stories"]


def model_folder(place: Path, *, layers: int) -> Path:
    """GPT-2 small's shape in `layers` layers (12 are its own) with random weights, and the built-in model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from llmkit.models.builtin import folder

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder("stories"))
    config = GPT2Config(vocab_size=len(tokenizer), n_layer=layers, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    GPT2LMHeadModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def texts(count: int, words: tuple[int, int], seed: int = 0) -> list[str]:
    """Ragged texts of random words, of a number between `words`."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(_WORDS, k=draw.randint(*words))) for _ in range(count)]


def rows(path: Path, values: list[str], field: str) -> Path:
    """A file of rows with one field."""
    path.write_text("".join(json.dumps({"id": number, field: value}) + "\n" for number, value in enumerate(values)))
    return path
