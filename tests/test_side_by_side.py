"""Calls of a model that run side by side give what they give one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch

from llmkit.engines.torch import abilities
from llmkit.engines.torch.loading import load
from llmkit.engines.torch.scoring import Scorer
from llmkit.engines.torch.side_by_side import calls, side_by_side
from llmkit.models.settings import ModelSettings


@pytest.fixture(params=[1, 2, 4, 6])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of torch, in a test and behind it."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_works(threads: int) -> None:
    assert side_by_side([partial(pow, number, 2) for number in range(40)], list(range(40))) == [number**2 for number in range(40)]
    assert side_by_side([], []) == []


def test_calls_share_the_threads_and_leave_them_as_they_were(threads: int) -> None:
    at_once = calls()
    assert threads % at_once == 0
    seen = side_by_side([torch.get_num_threads] * 20, [1] * 20)
    assert set(seen) == {threads // at_once}
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [threads, threads]


def test_a_work_that_would_end_long_after_the_others_has_all_threads_first(threads: int) -> None:
    seen = side_by_side([torch.get_num_threads] * 3, [10, 1000, 10])
    assert seen == [threads // calls(3), threads, threads // calls(3)]


@pytest.mark.parametrize("threads", [4], indirect=True)
def test_two_works_have_half_of_the_threads_each(threads: int) -> None:
    assert side_by_side([torch.get_num_threads] * 2, [1, 1]) == [2, 2]


def test_what_a_work_raises_is_raised_once_no_other_runs(threads: int) -> None:
    running: set[int] = set()

    def work(number: int) -> None:
        running.add(number)
        try:
            torch.ones(200, 200) @ torch.ones(200, 200)
            if number == 3:
                raise ValueError("the third")
        finally:
            running.discard(number)

    with pytest.raises(ValueError, match="the third"):
        side_by_side([partial(work, number) for number in range(20)], [1] * 20)
    assert running == set()


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_end_of_a_program_waits_for_no_call(threads: int) -> None:
    assert side_by_side([lambda: threading.current_thread().daemon] * 4, [1] * 4) == [True] * 4


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_scores_of_ragged_rows_are_those_of_one_thread(threads: int, gpt2: Path) -> None:
    model = load(ModelSettings(str(gpt2), device="cpu")).model
    rows = [[1 + (i * j) % 90 for j in range(8 + 11 * i)] for i in range(12)]
    together = Scorer(model, pad=0, encoder_decoder=False)
    assert len(together.parts(rows)) > 1
    found = together.score(rows, [1] * len(rows))
    torch.set_num_threads(1)
    alone = [Scorer(model, pad=0, encoder_decoder=False).score([row], [1])[0] for row in rows]
    assert [len(scores) for scores in found] == [len(row) - 1 for row in rows]
    assert max(abs(a - b) for one, other in zip(found, alone, strict=True) for a, b in zip(one, other, strict=True)) < 1e-4


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_model_that_scales_its_positions_for_each_length_runs_one_call_at_a_time(kind: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert abilities.keeps_nothing(LlamaForCausalLM(LlamaConfig(**small)))
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64}
    factors = {"short_factor": [1.0, 1.0], "long_factor": [1.0, 1.0]} if kind == "longrope" else {}
    assert not abilities.keeps_nothing(LlamaForCausalLM(LlamaConfig(**small, rope_parameters=rope | factors)))


def test_code_and_layers_of_others_run_one_call_at_a_time() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    class Own(GPT2LMHeadModel):  # type: ignore[misc]
        pass

    class Layer(torch.nn.Linear):  # type: ignore[misc]
        pass

    config = GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    assert abilities.keeps_nothing(model)
    assert not abilities.keeps_nothing(Own(config))
    model.lm_head = Layer(8, 16)
    assert not abilities.keeps_nothing(model)


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_quantized_layers_keep_their_outliers_to_themselves(quantize: Literal["none", "int8"], gpt2: Path) -> None:
    model = load(ModelSettings(str(gpt2), device="cpu", quantize=quantize)).model
    assert abilities.keeps_nothing(model) == (quantize == "none")


def test_an_adapter_changes_nothing(gpt2: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = load(ModelSettings(str(gpt2), device="cpu")).model
    assert abilities.keeps_nothing(get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)))
