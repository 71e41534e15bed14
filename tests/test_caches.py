"""A cache with room for tokens to come holds what transformers' own holds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from test_architectures import build
from transformers.cache_utils import DynamicLayer

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.caches import RoomyLayer
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

LONG = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512}


def states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of new tokens, as layers give them: views of one matrix."""
    both = torch.randn(rows, tokens, 2, 3, 4).permute(2, 0, 3, 1, 4)
    return both[0], both[1]


def change(layers: list[DynamicLayer], draw: random.Random) -> None:
    """One of the things that generation does to the layers of a cache."""
    rows, tokens = layers[0].keys.shape[0], layers[0].keys.shape[2]
    what = draw.choice(["take rows out", "reorder", "repeat", "take back"])
    chosen = torch.tensor(sorted(draw.sample(range(rows), max(1, rows - 1))))
    for layer in layers:
        if what == "take rows out":
            layer.batch_select_indices(chosen)
        elif what == "reorder":
            layer.reorder_cache(torch.arange(rows).flip(0))
        elif what == "repeat" and rows < 4:
            layer.batch_repeat_interleave(2)
        elif what == "take back":
            layer.crop(-min(tokens - 1, 5))


def test_whatever_is_done_to_it_a_layer_holds_what_transformers_own_holds() -> None:
    draw = random.Random(1)
    with torch.inference_mode():
        for _ in range(30):
            layers: list[DynamicLayer] = [RoomyLayer(), DynamicLayer()]
            rows = draw.choice([1, 3])
            for step in range(60):
                new = states(rows, draw.choice([1, 1, 1, 2, 40, 200]) if step else 7)
                held = [layer.update(*new) for layer in layers]
                for ours, theirs in zip(*held, strict=True):
                    assert torch.equal(ours, theirs)
                assert layers[0].get_seq_length() == layers[1].get_seq_length()
                if draw.random() < 0.3:
                    change(layers, draw)
                rows = layers[0].keys.shape[0]


def test_what_is_there_is_not_copied_for_the_next_token() -> None:
    layer = RoomyLayer()
    with torch.inference_mode():
        layer.update(*states(2, 10))
        places = {layer.update(*states(2, 1))[0].data_ptr() for _ in range(300)}
    assert len(places) <= 4


def test_a_layer_that_begins_anew_forgets_what_it_held() -> None:
    layer = RoomyLayer()
    with torch.inference_mode():
        layer.update(*states(2, 10))
        layer.reset()
        keys, values = states(3, 4)
        held = layer.update(keys, values)
    assert torch.equal(held[0], keys)
    assert torch.equal(held[1], values)


def test_answers_longer_than_the_room_are_those_of_transformers(tmp_path: Path, ragged: list[str]) -> None:
    model = TorchEngine(load(ModelSettings(str(build("GPT2", LONG, tmp_path / "long", "LMHeadModel")))), chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=300, min_new_tokens=300)
    requests = [model.make_request(Prompt(text=text[:60]), decoding, number) for number, text in enumerate(ragged[:5])]
    found = [answers[0].text for answers in model.generate(requests, decoding)]
    for request, text in zip(requests, found, strict=True):
        expected: Any = model.model.generate(
            torch.tensor([request.tokens]), do_sample=False, max_new_tokens=300, min_new_tokens=300, use_cache=True
        )
        assert text == model.tokenizer.decode(expected[0, len(request.tokens) :], skip_special_tokens=True)
