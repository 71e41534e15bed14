"""Rows leave a batch as they end, and answer as if all had stayed."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_architectures import CAUSAL, GROUPED, build

from llmkit.engines.base import Request
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch import onednn
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.engines.torch.onednn import Gain
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": GROUPED, "Qwen3": GROUPED | {"head_dim": 16}, "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    **{name: CAUSAL[name] for name in ("GPTNeoX", "OPT", "Bloom", "Falcon")},
}  # fmt: skip
#: Ways of decoding, of which each keeps something of its own from step to step.
WAYS = {
    "greedy": {},
    "sampled": {"temperature": 1.0, "seed": 5},
    "penalized": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "at least so many": {"min_new_tokens": 3},
    "up to a stop": {"stop": ("e", "a")},
}


def engine(folder: Path) -> TorchEngine:
    return TorchEngine(load(ModelSettings(str(folder))), chat=ChatSettings("none"))


def requests(each: TorchEngine, texts: list[str], decoding: Decoding) -> list[Request]:
    """Ragged prompts, each with a limit of its own."""
    prepared = [each.make_request(Prompt(text=text[:60]), decoding, number) for number, text in enumerate(texts)]
    return [replace(request, max_new_tokens=3 + 5 * (number % 4)) for number, request in enumerate(prepared)]


class Widths:
    """The rows of each call of a model."""

    def __init__(self, model: Any) -> None:
        self.rows: list[int] = []
        model.get_input_embeddings().register_forward_hook(lambda _, given, __: self.rows.append(given[0].shape[0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_answers_as_it_does_alone(family: str, tmp_path: Path, ragged: list[str]) -> None:
    model = engine(build(family, FAMILIES[family], tmp_path / family, "LMHeadModel" if family == "GPT2" else "ForCausalLM"))
    for name, settings in WAYS.items():
        decoding = Decoding(max_new_tokens=20, **settings)  # type: ignore[arg-type]
        rows = requests(model, ragged[:9], decoding)
        alone = [model.generate([row], decoding)[0][0] for row in rows]
        widths = Widths(model.model)
        together = [answers[0] for answers in model.generate(rows, decoding)]
        assert together == alone, name
        assert len(set(widths.rows)) > 2, name
        assert widths.rows == sorted(widths.rows, reverse=True), name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_all_prompts_begin_with_is_read_once(family: str, tmp_path: Path, ragged: list[str]) -> None:
    model = engine(build(family, FAMILIES[family], tmp_path / family, "LMHeadModel" if family == "GPT2" else "ForCausalLM"))
    shared = "Answer in one word, as short as you can: "
    for name in ("greedy", "sampled", "penalized", "up to a stop"):
        decoding = Decoding(max_new_tokens=20, **WAYS[name])  # type: ignore[arg-type]
        rows = requests(model, [shared + text[:40] for text in ragged[:9]], decoding)
        alone = [model.generate([row], decoding)[0][0] for row in rows]
        widths = Widths(model.model)
        assert [answers[0] for answers in model.generate(rows, decoding)] == alone, name
        once = family != "Bloom" and name in ("greedy", "sampled")  # Bloom is told no positions
        assert widths.rows[0] == (1 if once else 9), name


def test_a_row_of_nan_is_told_after_others_have_left(tmp_path: Path, ragged: list[str]) -> None:
    model = engine(build("Llama", GROUPED, tmp_path / "nan", "ForCausalLM"))
    decoding = Decoding(max_new_tokens=20)
    rows = requests(model, ragged[:6], decoding)
    with torch.no_grad():  # a token that only the second prompt has
        token = model.tokenizer("~")["input_ids"][-1]
        model.model.get_input_embeddings().weight[token] = float("nan")
    rows[1] = replace(rows[1], tokens=(*rows[1].tokens[:-1], token))
    assert [answers[0].finish_reason == "error" for answers in model.generate(rows, decoding)] == [n == 1 for n in range(6)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_streamed_answer_is_the_same_before_and_after_the_weights_are_laid_out(family: str, tmp_path: Path, ragged: list[str]) -> None:
    model = engine(build(family, FAMILIES[family], tmp_path / family, "LMHeadModel" if family == "GPT2" else "ForCausalLM"))
    decoding = Decoding(max_new_tokens=20)
    (request,) = requests(model, ragged[:1], decoding)
    before = model.stream(request, decoding, lambda _: None)
    ((batched,),) = model.generate([request], decoding)
    assert model.stream(request, decoding, lambda _: None) == before == batched


def test_no_layout_is_tried_for_an_answer_that_reads_little(gpt2: Path) -> None:
    gain = Gain(load(ModelSettings(str(gpt2))).model)
    assert not gain.pays_off(1000)
    assert "_measured" not in vars(gain)


def test_plain_weights_leave_memory_when_others_are_laid_out(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_MATTERS", 0)  # so that a tiny model is measured, too
    model = TorchEngine(load(ModelSettings(str(gpt2))), chat=ChatSettings("none"), owns_model=True)
    weight = weakref.ref(next(module.weight for module in model.model.modules() if onednn._is_plain(module)))
    decoding = Decoding(max_new_tokens=5)
    (request,) = requests(model, ["once"], decoding)
    model.stream(request, decoding, lambda _: None)
    model.generate([request], decoding)
    gc.collect()
    assert weight() is None
