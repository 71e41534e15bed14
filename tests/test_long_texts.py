"""A long text is tokenized in pieces, to the ids of the whole text, so that memory grows by its ids alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.engines import codec, long_texts
from llmkit.engines.chat import ChatSettings
from llmkit.engines.codec import Codec
from llmkit.engines.long_texts import encode_in_pieces
from llmkit.errors import InputError
from llmkit.metrics.perplexity import count_words
from llmkit.rows.fields import Prompt

SENTENCES = (
    "The old king, who lived by the sea, said: “Où est-il?” — 12,5 % of 3.000 houses…\n\n\t"
    "def f(x):  return x\r\n你好，世界。 <s> 😀 don't "
)


def words(pre: Callable[[Any], Any], model: Callable[[Any], Any]) -> Any:
    """A tokenizer trained on the sentences."""
    from tokenizers import Tokenizer, pre_tokenizers, trainers

    tokenizer = Tokenizer(model({}))
    tokenizer.pre_tokenizer = pre(pre_tokenizers)
    kinds = {"BPE": trainers.BpeTrainer, "Unigram": trainers.UnigramTrainer, "WordPiece": trainers.WordPieceTrainer}
    special = ["<unk>", "<s>"]
    more = {"unk_token": "<unk>"} if type(tokenizer.model).__name__ == "Unigram" else {}
    trainer = kinds[type(tokenizer.model).__name__](vocab_size=120, special_tokens=special, show_progress=False, **more)
    tokenizer.train_from_iterator([SENTENCES] * 3, trainer)
    return tokenizer


def byte_level() -> Any:
    from tokenizers import models

    return words(lambda pre: pre.ByteLevel(add_prefix_space=False), lambda _: models.BPE())


def prefixed() -> Any:
    """As of Llama and T5: each text begins with a space of its own."""
    from tokenizers import models

    return words(lambda pre: pre.Metaspace(), lambda _: models.Unigram())


def spaces_apart() -> Any:
    """As of BERT: pieces of words, white space dropped."""
    from tokenizers import models

    return words(lambda pre: pre.BertPreTokenizer(), lambda _: models.WordPiece(unk_token="<unk>"))


@pytest.fixture(scope="module", params=[byte_level, prefixed, spaces_apart], ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def in_pieces(tokenizer: Any, text: str, size: int, overlap: int) -> list[int] | None:
    def encode(piece: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = tokenizer.encode(piece, add_special_tokens=False)
        return encoded.ids, encoded.offsets

    return encode_in_pieces(text, encode, size=size, overlap=overlap)


@settings(max_examples=25)
@given(size=st.integers(900, 1400), skipped=st.integers(0, 200), times=st.integers(20, 60))
def test_pieces_give_the_ids_of_the_whole_text(tokenizer: Any, size: int, skipped: int, times: int) -> None:
    text = (SENTENCES * times)[skipped:]
    assert in_pieces(tokenizer, text, size, 400) == tokenizer.encode(text, add_special_tokens=False).ids


def test_a_text_without_words_has_no_place_to_be_cut(tokenizer: Any) -> None:
    assert in_pieces(tokenizer, "ab" * 2000, 1000, 400) is None


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "SIZE", 1000)
    monkeypatch.setattr(long_texts.encode_in_pieces, "__kwdefaults__", {"size": 1000, "overlap": 400})
    monkeypatch.setattr(codec, "_MOST_AT_ONCE", 5000)


class Longest:
    """A tokenizer that keeps the length of the longest text it was asked to read."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.characters = tokenizer, 0

    def __call__(self, text: str, **options: Any) -> Any:
        self.characters = max(self.characters, len(text))
        return self._tokenizer(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.usefixtures("small_pieces")
def test_the_codec_never_reads_more_than_a_piece_at_once_and_keeps_the_special_tokens() -> None:
    tokenizer = Longest(byte_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>", add_eos="</s>"))
    reader, text = Codec(tokenizer, ChatSettings("none"), None, (257,), 256), SENTENCES * 50
    ids = (reader.encode(text), reader.encode_prompt(Prompt(text=text)))
    assert tokenizer.characters == 1000
    assert ids == (tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer(text)["input_ids"])


@pytest.mark.usefixtures("small_pieces")
def test_a_long_text_without_words_is_read_whole_or_refused_by_its_length() -> None:
    tokenizer = byte_tokenizer(["<s>"], bos_token="<s>", eos_token="<s>")
    reader = Codec(tokenizer, ChatSettings(), None, (256,), 256)
    assert len(reader.encode("a" * 5000)) == 5000
    with pytest.raises(InputError, match="5,001 characters without words"):
        reader.encode("a" * 5001)


@given(st.text(alphabet=" \n\ta\u00a0b"))
def test_words_are_counted_as_they_are_split(text: str) -> None:
    import re

    assert count_words(text) == len(re.split(r"\s+", text))
