"""A vocabulary has hundreds of thousands of tokens: what needs one of them does not build the whole table for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import byte_tokenizer, seeded

from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt
from llmkit.translation.families import family
from llmkit.translation.languages import language


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that a tokenizer of transformers or tokenizers makes a table of its vocabulary."""
    from transformers import PreTrainedTokenizerFast

    calls: list[str] = []
    get_vocab = PreTrainedTokenizerFast.get_vocab

    def counting(self: PreTrainedTokenizerFast) -> dict[str, int]:
        calls.append("get_vocab")
        table: dict[str, int] = get_vocab(self)
        return table

    monkeypatch.setattr(PreTrainedTokenizerFast, "get_vocab", counting)
    return calls


@pytest.fixture
def nllb(tmp_path: Path) -> Path:
    import transformers

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>", "eng_Latn", "fra_Latn"], eos_token="</s>", pad_token="<pad>", add_eos="</s>")
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=258, eos_token_id=257, decoder_start_token_id=257,
        max_position_embeddings=300,
    )  # fmt: skip
    seeded(lambda: transformers.M2M100ForConditionalGeneration(config), tmp_path / "nllb")
    tokenizer.save_pretrained(tmp_path / "nllb")
    return tmp_path / "nllb"


def test_language_tokens_are_looked_up_one_by_one(nllb: Path, counted: list[str]) -> None:
    engine = TorchEngine(load(ModelSettings(str(nllb))), chat=ChatSettings("none"))
    direction = family(engine.facts()).direction(language("en"), language("fr"))
    decoding = Decoding(max_new_tokens=2, first_token=direction.target_token)
    engine.generate([engine.make_request(direction.prompt("a"), decoding)], decoding)
    before = len(counted)
    for text in ("ab", "cd", "ef"):
        engine.generate([engine.make_request(direction.prompt(text), decoding)], decoding)
    assert len(counted) == before


def test_a_draft_models_vocabulary_is_compared_once(llama: Path, counted: list[str]) -> None:
    engine = TorchEngine(load(ModelSettings(str(llama))), chat=ChatSettings("none"), draft=load(ModelSettings(str(llama))))
    decoding = Decoding(max_new_tokens=3, draft_model=str(llama))
    before = len(counted)
    for text in ("ab", "cd", "ef"):
        engine.generate([engine.make_request(Prompt(text=text), decoding)], decoding)
    assert len(counted) == before


def test_a_models_identity_is_made_once(llama: Path) -> None:
    engine = TorchEngine(load(ModelSettings(str(llama))), chat=ChatSettings("none"))
    assert engine.identity is engine.identity
