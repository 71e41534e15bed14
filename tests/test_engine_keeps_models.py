"""Building an engine on a model leaves the model as it was: its weights, its class, its settings, its answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_the_callers_model_works_and_has_its_weights_after_an_engine_used_it(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    loaded = load(ModelSettings(str(folder)))
    model = loaded.model
    model.generation_config.forced_eos_token_id = 1
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    classes = [type(module) for module in model.modules()]
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])} | ({"decoder_input_ids": torch.tensor([[0, 3]])} if kind == "t5" else {})
    with torch.no_grad():
        before = model(**inputs).logits

    engine = TorchEngine(loaded, chat=ChatSettings("none"))
    decoding = Decoding(max_new_tokens=4, logprobs=True)
    engine.generate([engine.make_request(Prompt(text="The king"), decoding)], decoding)

    assert [type(module) for module in model.modules()] == classes
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert model.generation_config.forced_eos_token_id == 1
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_an_engine_answers_alike_whether_or_not_it_owns_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    folder = str(request.getfixturevalue(kind))
    decoding = Decoding(max_new_tokens=8, logprobs=True)
    shared, owned = (TorchEngine(load(ModelSettings(folder)), chat=ChatSettings("none"), owns_model=owns) for owns in (False, True))
    prompt = Prompt(text="The king")
    assert shared.generate([shared.make_request(prompt, decoding)], decoding) == owned.generate(
        [owned.make_request(prompt, decoding)], decoding
    )


def test_an_engine_keeps_a_forward_that_another_library_put_on_the_last_layer(llama: Path) -> None:
    loaded = load(ModelSettings(str(llama)))
    engine = TorchEngine(loaded, chat=ChatSettings("none"))
    last = engine.model.get_output_embeddings()
    plain = last.forward

    def watched(states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = plain(states)
        return result

    last.forward = watched
    engine.score([[5, 6, 7]], [1])
    assert last.forward is watched


def test_a_row_whose_scores_are_nan_has_an_error_with_log_probabilities_too(llama: Path) -> None:
    loaded = load(ModelSettings(str(llama)))
    engine = TorchEngine(loaded, chat=ChatSettings("none"))
    with torch.no_grad():
        engine.model.get_input_embeddings().weight.fill_(torch.nan)
    for decoding in (Decoding(max_new_tokens=3), Decoding(max_new_tokens=3, logprobs=True)):
        ((answer,),) = engine.generate([engine.make_request(Prompt(text="Once"), decoding)], decoding)
        assert answer.error == "the model's scores are NaN; float32 may help"
        assert answer.finish_reason == "error"


def test_the_identity_is_computed_once(llama: Path) -> None:
    engine = TorchEngine(load(ModelSettings(str(llama))), chat=ChatSettings("none"))
    assert engine.identity is engine.identity
    assert engine.identity.as_dict()["model"] == str(llama)
    assert "adapter" not in engine.identity.as_dict()
