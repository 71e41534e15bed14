"""A row's answer does not depend on its neighbours, on the batching, or on speculation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import greedy_log_probs
from test_architectures import GROUPED, build

from llmkit.engines.base import Request
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import whole_characters
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

GREEDY = [
    Decoding(max_new_tokens=12),
    Decoding(max_new_tokens=12, repetition_penalty=1.7),
    Decoding(max_new_tokens=12, no_repeat_ngram_size=2),
    Decoding(max_new_tokens=12, repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=4),
    Decoding(max_new_tokens=12, num_beams=3),
    Decoding(max_new_tokens=12, num_beams=3, num_samples=2, length_penalty=0.5, no_repeat_ngram_size=2),
    Decoding(max_new_tokens=12, num_beams=2, repetition_penalty=1.5),
    Decoding(max_new_tokens=12, stop=("e", "\n")),
    Decoding(max_new_tokens=12, num_beams=2, stop=("e",)),
    Decoding(max_new_tokens=12, regex="[a-z ]{3,9}"),
    Decoding(max_length=60),
]
SAMPLED = [
    Decoding(max_new_tokens=12, temperature=1.0, seed=3),
    Decoding(max_new_tokens=12, temperature=0.7, top_k=20, top_p=0.9, min_p=0.01, seed=4),
    Decoding(max_new_tokens=12, temperature=1.2, num_samples=3, repetition_penalty=1.2, stop=("e",)),
]


def name(decoding: Decoding) -> str:
    return ",".join(f"{k}={v}" for k, v in decoding.record().items())


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5", "stories"])
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    """A decoder with absolute positions, one with rotary positions, an encoder-decoder, and the real small model."""
    reference = "builtin:stories" if request.param == "stories" else str(request.getfixturevalue(request.param))
    return TorchEngine(load(ModelSettings(reference)), chat=ChatSettings("none"))


def prepared(engine: TorchEngine, ragged: list[str], decoding: Decoding) -> list[Request]:
    texts = [t for t in ragged if len(engine.tokenizer(t)["input_ids"]) <= (50 if decoding.max_length else 100)]
    return [engine.make_request(Prompt(text=text), decoding, number) for number, text in enumerate(texts[:12])]


@pytest.mark.parametrize("decoding", GREEDY + SAMPLED, ids=name)
def test_a_rows_answer_in_a_ragged_batch_is_its_answer_alone(engine: TorchEngine, ragged: list[str], decoding: Decoding) -> None:
    requests = prepared(engine, ragged, decoding)
    assert len({len(r.tokens) for r in requests}) > 3
    together = engine.generate(requests, decoding)
    alone = [engine.generate([request], decoding)[0] for request in requests]
    assert together == alone


@pytest.mark.parametrize("speculation", [{"prompt_lookup": 4}, {"draft_model": "itself"}], ids=["prompt-lookup", "draft-model"])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 7, "top_k": 30}], ids=["greedy", "sampled"])
def test_speculation_changes_no_answer(ragged: list[str], llama: Path, speculation: dict[str, Any], sampling: dict[str, Any]) -> None:
    loaded = load(ModelSettings(str(llama)))
    engine = TorchEngine(loaded, chat=ChatSettings("none"), draft=loaded if "draft_model" in speculation else None)
    plain = TorchEngine(loaded, chat=ChatSettings("none"))
    for number, text in enumerate(ragged[:4]):
        fast, slow = Decoding(max_new_tokens=20, **sampling, **speculation), Decoding(max_new_tokens=20, **sampling)
        a = engine.generate([engine.make_request(Prompt(text=text), fast, number)], fast)
        b = plain.generate([plain.make_request(Prompt(text=text), slow, number)], slow)
        assert a == b


def test_the_streamed_text_is_the_batched_text(engine: TorchEngine, ragged: list[str]) -> None:
    for decoding in (
        Decoding(max_new_tokens=30),
        Decoding(max_new_tokens=30, temperature=1.3, stop=("e ", "zz")),
        Decoding(max_new_tokens=9, stop=("e",)),
    ):
        for number, text in enumerate(t[:60] for t in ragged[:4]):
            request = engine.make_request(Prompt(text=text), decoding, number)
            pieces: list[str] = []
            answer = engine.stream(request, decoding, pieces.append)
            assert "".join(pieces) == answer.text
            assert [answer] == engine.generate([request], decoding)[0]


def test_greedy_and_beams_are_transformers_own(gpt2: Path) -> None:
    """The article's example: GPT-2, max_length=50, num_beams=5, no_repeat_ngram_size=2."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer, model = AutoTokenizer.from_pretrained(gpt2), GPT2LMHeadModel.from_pretrained(gpt2)
    engine = TorchEngine(load(ModelSettings(str(gpt2))))
    for options in ({"num_beams": 5, "no_repeat_ngram_size": 2}, {}, {"repetition_penalty": 1.4}):
        decoding = Decoding(max_length=50, **options)
        for text in ("The king", "Once upon a time there was"):
            inputs = tokenizer(text, return_tensors="pt")
            expected = model.generate(**inputs, max_length=50, do_sample=False, pad_token_id=256, **options)[0].tolist()
            request = engine.make_request(Prompt(text=text), decoding)
            (answer,) = engine.generate([request], decoding)[0]
            ids = expected[len(request.tokens) :]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            whole = whole_characters(text) if answer.finish_reason == "length" else text
            assert (answer.text, answer.completion_tokens) == (whole, len(ids))


def test_samples_follow_the_models_distribution(llama: Path) -> None:
    """Frequencies of 4,000 first tokens against the probabilities, by a chi-squared statistic on the likely ones."""
    import torch

    engine = TorchEngine(load(ModelSettings(str(llama))), chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=1, temperature=1.0, num_samples=4000)
    request = engine.make_request(Prompt(text="The"), decoding)
    counts = Counter(answer.text for answer in engine.generate([request], decoding)[0])
    assert counts.total() == 4000
    with torch.no_grad():
        p = engine.model(torch.tensor([request.tokens])).logits[0, -1].softmax(-1)
    expected: Counter[str] = Counter()  # bytes that are no whole character have no text
    for token, probability in enumerate(p.tolist()):
        expected[whole_characters(engine.tokenizer.decode([token], skip_special_tokens=True))] += 4000 * probability
    likely = [text for text in expected if expected[text] >= 5]
    chi = sum((counts[text] - expected[text]) ** 2 / expected[text] for text in likely)
    freedom = len(likely)
    assert chi < freedom + 4 * (2 * freedom) ** 0.5


def test_log_probabilities_are_those_of_the_model(engine: TorchEngine) -> None:
    decoding = Decoding(max_new_tokens=5, logprobs=True)
    request = engine.make_request(Prompt(text="The king and"), decoding)
    answer = engine.generate([request], decoding)[0][0]
    assert answer.logprobs is not None
    expected = greedy_log_probs(engine, request, answer.completion_tokens)
    assert [t.logprob for t in answer.logprobs] == pytest.approx(expected, abs=1e-4)


def test_a_stream_shows_its_text_as_it_grows(ragged: list[str]) -> None:
    engine = TorchEngine(load(ModelSettings("builtin:stories")), chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=20)
    request = engine.make_request(Prompt(text="Once upon a time"), decoding)
    pieces: list[str] = []
    answer = engine.stream(request, decoding, pieces.append)
    assert "".join(pieces) == answer.text == engine.generate([request], decoding)[0][0].text
    assert len([piece for piece in pieces if piece]) > 10


def test_a_long_neighbor_does_not_change_how_positions_are_scaled(tmp_path: Path) -> None:
    """LongRoPE, of Phi-3 with a context of 128,000: a text beyond the first context has other positions."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    settings = GROUPED | {"max_position_embeddings": 256, "original_max_position_embeddings": 64, "sliding_window": None}
    folder = build("Phi3", settings | {"rope_parameters": rope}, tmp_path / "model", "ForCausalLM")
    engine = TorchEngine(load(ModelSettings(str(folder))), chat=ChatSettings("none"))
    prompts = [[(7 * i * i + n) % 250 for i in range(n)] for n in (20, 100, 30, 55, 63, 150, 9)]
    decoding = Decoding(max_new_tokens=10)
    requests = [Request(tuple(prompt), 10, number) for number, prompt in enumerate(prompts)]
    assert engine.generate(requests, decoding) == [engine.generate([request], decoding)[0] for request in requests]
    sequences = [*prompts, [*prompts[1], 5], [*prompts[1], 6], [*prompts[3], 7], [*prompts[3], 8]]
    begin = [1] * len(prompts) + [100, 100, 55, 55]
    alone = [engine.score([sequence], [first])[0] for sequence, first in zip(sequences, begin, strict=True)]
    for together, expected in zip(engine.score(sequences, begin), alone, strict=True):
        assert together == pytest.approx(expected, abs=1e-4)
