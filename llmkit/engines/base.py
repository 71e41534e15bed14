"""What a loaded model can do for a command. An engine is one class with these methods; commands can't tell which.

Knows requests and answers; nothing of tensors, servers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """A prompt with a given answer as token ids: `tokens[begin:]` is what the answer adds. source: what an encoder reads."""

    tokens: list[int]
    begin: int
    source: list[int] | None = None


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
    def description(self) -> dict[str, Any]:
        """Name, device, dtype and the identity of model and tokenizer: what makes two answers comparable."""
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

    def encode_pair(self, prompt: Prompt, answer: str, *, split: str = "spaces") -> Pair:
        """A prompt with an answer to be scored, begun as the tokenizer begins a text.

        split: what stands at the prompt's end and belongs to the answer: its 'spaces', or all 'white space'.
        """
        ...

    def bos_remark(self) -> str | None:
        """What is odd about how tokenizer and configuration begin a text, None when they agree."""
        ...
