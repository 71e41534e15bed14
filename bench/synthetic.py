"""Models made on the spot, and texts: the same every time."""

from __future__ import annotations

import json
import math
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


def paragraphs(count: int, seed: int = 0) -> list[str]:
    """Texts of random words, as long as the paragraphs of children's books are (30 of them on Project Gutenberg, no headings):
    log-normal with a median of 27 words and a mean of 45, at most 600."""
    draw = random.Random(seed)
    lengths = [min(600, max(2, round(draw.lognormvariate(math.log(27), math.sqrt(2 * math.log(45 / 27)))))) for _ in range(count)]
    return [" ".join(draw.choices(_WORDS, k=length)) for length in lengths]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Ragged everyday sentences, made of some twenty parts."""
    draw = random.Random(seed)
    who = ["The old man", "My sister", "She", "A little boy with a red hat", "The king and the queen", "Our teacher"]
    does = ["reads a book", "is looking for the station", "has a house", "wants to see the sea", "was tired", "buys bread and milk"]
    where = [
        "",
        " in the morning",
        " with his friends",
        " because it is raining",
        " before the train leaves",
        " near the big river in the south",
    ]
    return [f"{draw.choice(who)} {draw.choice(does)}{draw.choice(where)}{draw.choice(where)}." for _ in range(count)]


def texts(count: int, words: tuple[int, int], seed: int = 0) -> list[str]:
    """Ragged texts of random words, of a number between `words`."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(_WORDS, k=draw.randint(*words))) for _ in range(count)]


def rows(path: Path, values: list[str], field: str) -> Path:
    """A file of rows with one field."""
    path.write_text("".join(json.dumps({"id": number, field: value}) + "\n" for number, value in enumerate(values)))
    return path
