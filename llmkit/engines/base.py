"""What a loaded model can do for a command. An engine is one class with these methods; commands can't tell which.

Knows requests and answers; nothing of tensors, servers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from llmkit.engines.decoding import Decoding
from llmkit.rows.fields import Prompt


@dataclass(frozen=True)
class Request:
    """One prompt as a model reads it.

    tokens: ids, special tokens included. max_new_tokens: the answer's limit, the context regarded. number: the row's
    place in the input, which with the seed determines its random numbers.
    """

    tokens: tuple[int, ...]
    max_new_tokens: int
    number: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class TokenScore:
    """A token as text, and the natural logarithm of its probability under the model (temperature 1, no filter)."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Completion:
    """One answer.

    finish_reason: 'eos', 'stop' (a stop string) or 'length'. `completion_tokens` counts an end token.

    error: why the answer can't be used (the model's scores were NaN).
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenScore, ...] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Pair:
    """A prompt with a given answer as token ids: `tokens[begin:]` is what the answer adds. encoder_tokens: what an encoder reads."""

    tokens: list[int]
    begin: int
    encoder_tokens: list[int] | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What tells one kind of model from another.

    languages: tags from the model's card, in order. task_prefixes: of T5's configuration. tokens: the vocabulary.
    """

    reference: str
    model_type: str
    encoder_decoder: bool
    has_chat_template: bool
    languages: tuple[str, ...]
    task_prefixes: tuple[str, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two answers comparable: the engine, and the model that it runs as. Hashes are SHA-256 in hexadecimal.

    device: 'cpu', 'cuda', ...; None for what an engine can't know (a server tells no hash of its weights).
    """

    engine: str
    model: str
    revision: str | None = None
    parameters: int | None = None
    weights_sha256: str | None = None
    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What is known of it, for records."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Engine(Protocol):
    """A loaded model that answers.

    bos: the id that begins a text, when the model has one; eos: the ids that end one; context: positions that fit the
    model, None without a limit; encoder_decoder: prompts and answers are read by different halves.
    """

    name: str
    bos: int | None
    eos: frozenset[int]
    encoder_decoder: bool

    @property
    def context(self) -> int | None: ...

    @property
    def identity(self) -> ModelIdentity:
        """Computed once, for it may hash a whole tokenizer."""
        ...

    def facts(self) -> ModelFacts: ...

    def prepare(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """Raises InputError for a prompt that is empty or does not fit."""
        ...

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> list[list[Completion]]:
        """`decoding.num_samples` answers to each request. Raises OutOfMemoryError when the batch is too large."""
        ...

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """One answer, its text handed to `write` piece by piece as whole characters, none of a stop string."""
        ...

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """Natural-log probabilities of each sequence's tokens from index `begin` (at least 1) on, given those before.

        A sequence has at most context + 1 tokens. sources: for an encoder-decoder, whose sequences are the decoder's.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special token added."""
        ...

    def encode_pair(self, prompt: Prompt, answer: str) -> Pair:
        """A prompt with an answer to be scored. A space between the two is the answer's."""
        ...

    def bos_remark(self) -> str | None:
        """What is odd about how tokenizer and configuration begin a text, None when they agree."""
        ...
