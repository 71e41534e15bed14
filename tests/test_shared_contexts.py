"""A context that several sequences share is read once, and each gets the scores that it gets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_architectures import CAUSAL, build

from llmkit.engines.registry import open_engine
from llmkit.models.settings import ModelSettings


def questions(head: int, *, seed: int = 0) -> list[tuple[list[int], int]]:
    """Sequences of five questions, which begin with the same `head` tokens, and where their answers begin."""
    draw = np.random.default_rng(seed)
    shared = draw.integers(0, 250, head).tolist()
    out = []
    for choices, length in ((4, 50), (3, 35), (2, 33), (2, 5), (1, 40)):
        context = shared + draw.integers(0, 250, length).tolist()
        out += [(context + draw.integers(0, 250, 1 + number * 3).tolist(), len(context)) for number in range(choices)]
    return [out[i] for i in draw.permutation(len(out))]


@pytest.mark.parametrize("head", [0, 40])
@pytest.mark.parametrize("kind", ["Qwen2", "GPTNeoX", "OPT", "Bloom", "Falcon", "Gemma2", "Mixtral", "Mamba"])
def test_each_sequence_gets_the_scores_that_it_gets_alone(kind: str, head: int, tmp_path: Path) -> None:
    engine = open_engine(ModelSettings(str(build(kind, CAUSAL[kind], tmp_path / "model", "ForCausalLM"))), engine="torch")
    sequences, begin = (list(each) for each in zip(*questions(head), strict=True))
    alone = [engine.score([sequence], [first])[0] for sequence, first in zip(sequences, begin, strict=True)]
    for together, expected in zip(engine.score(sequences, begin), alone, strict=True):
        assert together == pytest.approx(expected, abs=1e-4)


def test_what_is_shared_is_not_computed_again(tmp_path: Path) -> None:
    engine: Any = open_engine(ModelSettings(str(build("Qwen2", CAUSAL["Qwen2"], tmp_path / "model", "ForCausalLM"))), engine="torch")
    context, choices = list(range(101)), [[1, 2], [3], [4, 5, 6]]
    engine.score([context + choice for choice in choices], [len(context)] * 3)
    # the context but its last token is read once, not three times
    assert engine.counters.positions == sum(len(context) + len(choice) for choice in choices) - 2 * (len(context) - 1)
    assert engine.counters.pairs == sum(range(1, 101)) + sum(sum(range(101, 101 + len(choice))) for choice in choices)


@pytest.mark.parametrize("kind", ["GPT2", "OPT", "Qwen2"])
def test_short_answers_to_a_context_of_all_positions_are_scored_beside_long_ones_to_a_short_context(kind: str, tmp_path: Path) -> None:
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128} if kind == "GPT2" else CAUSAL[kind]
    folder = build(kind, settings, tmp_path / "model", "LMHeadModel" if kind == "GPT2" else "ForCausalLM")
    engine = open_engine(ModelSettings(str(folder)), engine="torch")
    short, long = list(range(40)), list(range(100, 226))
    sequences = [[*context, *answer] for context, answer in ((short, range(60)), (short, [1]), (long, [2]), (long, [3, 4]))]
    begin = [40, 40, 126, 126]
    alone = [engine.score([sequence], [first])[0] for sequence, first in zip(sequences, begin, strict=True)]
    for together, expected in zip(engine.score(sequences, begin), alone, strict=True):
        assert together == pytest.approx(expected, abs=1e-4)
