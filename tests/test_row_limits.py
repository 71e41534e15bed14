"""Each row has its own limit of new tokens, whatever the batch it is answered in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmkit.engines.base import Request
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.jobs.batching import Work, batches
from llmkit.models.settings import ModelSettings
from llmkit.rows import Row
from llmkit.rows.fields import Prompt

TEXTS = ("Once upon a time there was a king who", "The", "A little dog ran home.", "She said that she", "It")
LIMITS = (3, 24, 1, 11, 7)
WAYS = [
    Decoding(max_new_tokens=24),
    Decoding(max_new_tokens=24, repetition_penalty=1.5, no_repeat_ngram_size=2),
    Decoding(max_new_tokens=24, temperature=1.0, seed=3),
    Decoding(max_new_tokens=24, temperature=1.2, num_samples=2, stop=("e",), seed=5),
    Decoding(max_new_tokens=24, num_beams=3),
    Decoding(max_new_tokens=24, num_beams=3, num_samples=2, length_penalty=-1.0),
    Decoding(max_new_tokens=24, num_beams=2, length_penalty=6.0),
    Decoding(max_new_tokens=24, num_beams=2, stop=("e",)),
    Decoding(max_new_tokens=24, regex="[a-z ]{3,30}"),
    Decoding(max_new_tokens=24, logprobs=True),
    Decoding(max_new_tokens=24, prompt_lookup=3),
]


def way_name(decoding: Decoding) -> str:
    return ",".join(f"{k}={v}" for k, v in decoding.record().items())


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    reference = "builtin:stories" if request.param == "stories" else str(request.getfixturevalue(request.param))
    return TorchEngine(load(ModelSettings(reference)), chat=ChatSettings("none"))


def limited(engine: TorchEngine, decoding: Decoding) -> list[Request]:
    requests = [engine.make_request(Prompt(text=text), decoding, number) for number, text in enumerate(TEXTS)]
    return [replace(request, max_new_tokens=limit) for request, limit in zip(requests, LIMITS, strict=True)]


@pytest.mark.parametrize("decoding", WAYS, ids=way_name)
def test_rows_of_different_limits_answer_together_as_they_do_alone(engine: TorchEngine, decoding: Decoding) -> None:
    requests = limited(engine, decoding)
    together = engine.generate(requests, decoding)
    alone = [engine.generate([request], decoding)[0] for request in requests]
    assert together == alone
    for answers, request in zip(together, requests, strict=True):
        assert all(answer.completion_tokens <= request.max_new_tokens for answer in answers)


def test_a_row_that_reaches_its_own_limit_says_length(engine: TorchEngine) -> None:
    requests = limited(engine, Decoding(max_new_tokens=24))
    for (answer,), request in zip(engine.generate(requests, Decoding(max_new_tokens=24)), requests, strict=True):
        assert answer.finish_reason == ("length" if answer.completion_tokens == request.max_new_tokens else "eos")


def test_a_row_that_has_ended_is_never_padded_past_the_context(gpt2: Path) -> None:
    """The long prompt has room for one token, the short one for many: GPT-2 has no position for what would follow."""
    engine = TorchEngine(load(ModelSettings(str(gpt2))), chat=ChatSettings("none"))
    assert engine.context is not None
    decoding = Decoding(max_new_tokens=engine.context)
    long = engine.make_request(Prompt(text="a" * (engine.context - 1)), decoding, 0)
    short = engine.make_request(Prompt(text="The"), decoding, 1)
    assert long.max_new_tokens < short.max_new_tokens
    assert engine.generate([long, short], decoding) == [engine.generate([r], decoding)[0] for r in (long, short)]


def test_a_batch_mixes_limits_and_stays_within_the_budget() -> None:
    works = [Work(Row(i, i + 1, {}), None, length, limit) for i, (length, limit) in enumerate([(5, 7), (9, 3), (2, 4), (6, 6)])]
    planned = batches(works, rows=None, tokens=64, width=1)
    assert sorted(w.row.index for batch in planned for w in batch) == [0, 1, 2, 3]
    assert all((max(w.length for w in b) + max(w.max_new_tokens for w in b)) * len(b) <= 64 for b in planned)
    assert [len(batch) for batch in planned] == [4]
