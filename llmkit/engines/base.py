"""What a loaded model can do for a command. An engine is one class with these methods; commands can't tell which.

Knows requests and answers; nothing of tensors, servers or files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from llmkit.engines.decoding import Decoding
from llmkit.engines.turns import Turns
from llmkit.errors import EngineLimitError, UsageError
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

#: Called while a batch runs; raises to end it.
Check = Callable[[], None]


def never_stop() -> None:
    """A `Check` that never stops a batch."""


#: Shows a person one line.
Notify = Callable[[str], None]


def notify_nobody(_: str) -> None:
    """A `Notify` that drops the message."""


if TYPE_CHECKING:
    from llmkit.engines.chat import ChatSettings


@dataclass(frozen=True)
class Request:
    """One prompt as a model reads it.

    tokens: ids, special tokens included. max_new_tokens: the answer's limit, the context regarded. number: the row's
    place in the input, which with the seed determines its random numbers. truncated: tokens that were cut off.
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


class TokenComparison(NamedTuple):
    """A given token under a model and under a reference that reads the same tokens.

    log_prob and reference_log_prob: natural-log probabilities. kl_divergence: of the model's whole distribution from the
    reference's, in nats. same_top: whether both find the same token the most likely.
    """

    log_prob: float
    reference_log_prob: float
    kl_divergence: float
    same_top: bool


@dataclass(frozen=True)
class Completion:
    """One answer.

    finish_reason: 'eos', 'stop' (a stop string or token), 'length', or 'error'; a server may have words of its own.
    `completion_tokens` counts an end token.
    error: why the answer can't be used (the model's scores were NaN, or it broke its constraint).
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
    """What distinguishes kinds of models.

    languages: tags from the model's card, in order. task_prefixes: of T5's configuration. tokens: the vocabulary. sides: the
    languages that the tokenizer's configuration names, source and target.
    """

    reference: str
    model_type: str
    encoder_decoder: bool
    has_chat_template: bool
    languages: tuple[str, ...]
    task_prefixes: tuple[str, ...]
    tokens: tuple[str, ...]
    sides: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two answers comparable: the engine, and the model that it runs as. Hashes are SHA-256 in hexadecimal.

    device: 'cpu', 'cuda', ...; None for what an engine can't know (a server shows no hash of its weights). endpoint: of a server,
    'chat' or 'text': whether its chat template applies.
    """

    engine: str
    model: str
    revision: str | None = None
    parameters: int | None = None
    weights_sha256: str | None = None
    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None
    endpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What is known of it, for records."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do, known before it loads a model.

    token_ids: it is an `Engine`, which takes ids, and not a `TextEngine` alone. scoring: log-probabilities of given texts.
    logprobs: those of its own answers. adapters: LoRA. devices and quantizations: the names that it takes beside 'auto'.
    """

    token_ids: bool = False
    streaming: bool = False
    sampling: bool = False
    beams: bool = False
    logprobs: bool = False
    scoring: bool = False
    constraints: bool = False
    speculation: bool = False
    adapters: bool = False
    devices: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ("none",)


@dataclass(frozen=True)
class EngineKind:
    """An engine before it is opened.

    opener: 'module:function' with the signature of `llmkit.engines.torch.engine.open_engine`, imported when it is called.
    prefixes: of the model references that are this engine's own, such as 'openai:'. limits: 'module:function' that says why
    the engine can't run (settings, decoding or None), or None; for what capabilities do not tell.
    """

    name: str
    capabilities: Capabilities
    opener: str
    prefixes: tuple[str, ...] = ()
    limits: str | None = None

    def claims(self, reference: str) -> bool:
        """Whether the reference begins with a prefix that is this engine's alone."""
        return reference.startswith(self.prefixes) if self.prefixes else False

    def check_settings(self, settings: ModelSettings) -> None:
        """Raises EngineLimitError for an adapter, a device or a quantization that the engine does not have.

        Raises UsageError for servers' addresses where the model runs here.
        """
        able, device = self.capabilities, settings.device.partition(":")[0]
        if settings.server.bases and not self.prefixes:
            hint = f"`model` openai:{settings.reference}"
            raise UsageError(f"`api_base` applies to models on servers (openai:NAME); {settings.reference} runs on this machine", hint=hint)
        if settings.adapter is not None and not able.adapters:
            raise EngineLimitError(f"the engine {self.name} does not support adapters", hint="merge the adapter into its base first")
        if device != "auto" and device not in able.devices:
            raise EngineLimitError(f"the engine {self.name} does not run on {device}", hint=f"auto, {', '.join(able.devices)}")
        if settings.quantize not in able.quantizations:
            raise EngineLimitError(
                f"the engine {self.name} does not support quantization {settings.quantize}", hint=", ".join(able.quantizations)
            )
        self._check_limits(settings, None)

    def check_decoding(self, decoding: Decoding) -> None:
        """Raises EngineLimitError for a way of decoding that the engine does not have."""
        able = self.capabilities
        for asked, has, what in (
            (decoding.samples, able.sampling, "sampling"),
            (decoding.num_beams > 1, able.beams, "beam search"),
            (decoding.logprobs, able.logprobs, "log-probabilities of answers"),
            (decoding.constrained, able.constraints, "constrained answers"),
            (decoding.speculates, able.speculation, "speculation"),
        ):
            if asked and not has:
                raise EngineLimitError(f"the engine {self.name} has no {what}", hint=self._other)

    def check(self, settings: ModelSettings, decoding: Decoding | None) -> None:
        """Raises EngineLimitError for what the engine does not have, of settings and of a way of decoding, and as `check_settings`."""
        self.check_settings(settings)
        if decoding is not None:
            self.check_decoding(decoding)
            self._check_limits(settings, decoding)

    def _check_limits(self, settings: ModelSettings, decoding: Decoding | None) -> None:
        if self.limits is None:
            return
        module, _, name = self.limits.partition(":")
        reason: str | None = getattr(importlib.import_module(module), name)(settings, decoding)
        if reason is not None:
            raise EngineLimitError(f"{settings.reference} can't run on the engine {self.name}: {reason}", hint=self._other)

    @property
    def _other(self) -> str | None:
        """A hint at another engine; none can run a reference that is an engine's own."""
        return None if self.prefixes else "`engine` torch"


class TextEngine(Protocol):
    """What takes text: a prompt gives a completion, and texts give scores. How it cuts text into tokens is its own affair.

    token_ids: it is an `Engine`, too. encoder_decoder: prompts and answers are read by different halves. concurrency: calls that
    may run at once, each in a thread of its own: 1 where the model computes in this process. servers: the addresses of those that
    compute, none for this process. turns: of threads that may ask for answers in this process, None where only one may.
    """

    name: str
    token_ids: bool
    encoder_decoder: bool
    concurrency: int
    servers: tuple[str, ...]
    turns: Turns | None

    @property
    def context(self) -> int | None:
        """Tokens that fit the model, None without a limit or where it is unknown."""
        ...

    @property
    def identity(self) -> ModelIdentity:
        """Computed once, for it may hash a whole tokenizer."""
        ...

    def facts(self) -> ModelFacts:
        """What tells a family of translation models from others: type, languages, names of tokens. Reads no weights."""
        ...

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """Raises InputError for a prompt that is empty or does not fit."""
        ...

    def length(self, text: str) -> int:
        """The tokens of a text; an estimate where only a server knows."""
        ...

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = never_stop) -> list[list[Completion]]:
        """`decoding.num_samples` answers to each request, each as long as that request's own `max_new_tokens` allows.

        What a request is answered does not depend on the others. check: called every few tokens; what it raises ends the batch.
        Raises OutOfMemoryError when the batch is too large, UsageError for what this model can't do.
        """
        ...

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """One answer, its text handed to `write` piece by piece as whole characters, none of a stop string."""
        ...

    def score_answers(self, items: Sequence[tuple[Prompt, str]], *, check: Check = never_stop) -> list[list[TokenScore]]:
        """The tokens of each given answer after its prompt, with their natural-log probabilities.

        A first token that nothing stands before has none, and is left out. check: called now and then; what it raises ends the work.
        """
        ...


class Engine(TextEngine, Protocol):
    """What takes token ids, too: what windows, choices and long documents are scored with.

    bos: the id that begins a text, when the model has one; eos: the ids that end one. chat: how a prompt becomes a conversation.
    """

    bos: int | None
    eos: frozenset[int]
    chat: ChatSettings

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

    def with_chat(self, chat: ChatSettings) -> Engine:
        """The same loaded model with another chat template or system message. Raises UsageError as `ChatSettings.check`."""
        ...

    def bos_remark(self) -> str | None:
        """What is odd about how tokenizer and configuration begin a text, None when they agree."""
        ...


@runtime_checkable
class Comparing(Protocol):
    """An engine that can hold its distribution over the whole vocabulary against another model's."""

    def compare(
        self, reference: Any, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[TokenComparison]]:
        """As `Engine.score`, of each token under this model and under `reference`, an engine of the same kind and tokens.

        Raises UsageError for models of different vocabularies.
        """
        ...
