"""The built-in models on CTranslate2, which starts in a fraction of the time that torch takes and answers alike.

Knows the engine's interface; prompts and texts are the codec's business, calls of the library the runner's. Imports neither
torch nor transformers.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from llmkit.engines.base import Check, Completion, ModelFacts, ModelIdentity, Request, proceed
from llmkit.engines.chat import ChatSettings
from llmkit.engines.codec import Codec, CodecEngine
from llmkit.engines.ctranslate2 import ENGINE
from llmkit.engines.ctranslate2.model import Runner
from llmkit.engines.ctranslate2.support import decoding_reason
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import TextStream
from llmkit.engines.tokenizer_file import TokenizerFile
from llmkit.errors import UnavailableError, UsageError
from llmkit.models import builtin
from llmkit.models.devices import available_cores
from llmkit.models.settings import ModelSettings
from llmkit.models.smallfiles import read_object
from llmkit.rows.fields import Prompt


class CTranslate2Engine(CodecEngine):
    """A built-in model by its name."""

    name = ENGINE.name

    def __init__(self, name: str, *, quantize: str = "none", chat: ChatSettings | None = None) -> None:
        folder = builtin.folder(name)
        self._name, self._quantize, self._folder = name, quantize, folder
        self._config: dict[str, Any] = read_object(folder / "config.json")
        tokenizer = self.tokenizer = TokenizerFile(folder)
        self.chat = chat or ChatSettings()
        self.encoder_decoder = bool(self._config.get("is_encoder_decoder", False))
        self.bos, self._eos = tokenizer.bos_token_id, int(self._config["eos_token_id"])
        self.eos = frozenset({self._eos})
        start = self._config.get("decoder_start_token_id")
        context = int(self._config["max_position_embeddings"])
        self._codec = Codec(tokenizer, self.chat, context, (self._eos,), self.bos, self.encoder_decoder, start)
        ids = tokenizer.get_vocab()
        self._tokens = tuple(sorted(ids, key=ids.__getitem__))
        self._runner = Runner(
            lambda: builtin.converted(name),
            self._tokens,
            translates=self.encoder_decoder,
            compute="int8_float32" if quantize == "int8" else "float32",
        )

    @property
    def context(self) -> int | None:
        return self._codec.context

    @cached_property
    def identity(self) -> ModelIdentity:
        from llmkit.models.checkpoint import read_checkpoint

        tokenizer = self._codec.tokenizer
        return ModelIdentity(
            engine=self.name,
            model=f"builtin:{self._name}",
            parameters=read_checkpoint(self._folder).parameters,
            weights_sha256=builtin.CHECKSUMS[self._name],
            tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass")).hexdigest(),
            chat_template_sha256=self.chat.sha256(tokenizer),
            device="cpu",
            dtype="float32",
            quantize=None if self._quantize == "none" else self._quantize,
        )

    def facts(self) -> ModelFacts:
        return ModelFacts(
            reference=f"builtin:{self._name}",
            model_type=str(self._config["model_type"]),
            encoder_decoder=self.encoder_decoder,
            has_chat_template=self.chat.source(self._codec.tokenizer) is not None,
            languages=builtin.LANGUAGES[self._name],
            task_prefixes=(),
            tokens=self._tokens,
        )

    def bos_remark(self) -> str | None:
        return None  # tokenizer and configuration of the built-in models agree

    def prepare(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        return self._codec.prepare(prompt, decoding, number)

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = proceed) -> list[list[Completion]]:
        _check(decoding)
        limits = [request.max_new_tokens for request in requests]
        prompts = [request.tokens for request in requests]
        ends = [self._eos, *self._codec.stops(decoding).tokens]
        outputs = self._runner.answers(prompts, limits, ends=ends, beams=decoding.num_beams, check=check)
        done = [self._codec.completion(request, ids, decoding) for request, ids in zip(requests, outputs, strict=True)]
        if decoding.logprobs:
            done = self._codec.with_logprobs(requests, outputs, done, self.score)
        return [[answer] for answer in done]

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        _check(decoding)
        if decoding.num_beams > 1 or decoding.num_samples > 1:
            raise ValueError("beams and several samples have no one stream")
        stops = self._codec.stops(decoding)
        ends = self.eos | stops.tokens
        text = TextStream(self._codec.tokenizer, self._codec.text_before(request), stops)
        ids: list[int] = []
        with contextlib.closing(self._runner.steps(request.tokens, request.max_new_tokens, ends=sorted(ends))) as steps:
            for token in steps:
                ids.append(token)
                if token not in ends:
                    write(text.push([token]))
                if text.stopped:
                    break
        write(text.finish(cut=ends.isdisjoint(ids)))
        answer = self._codec.completion(request, ids, decoding)
        return self._codec.with_logprobs([request], [ids], [answer], self.score)[0] if decoding.logprobs else answer

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        scores = self._runner.score(sequences, sources if self.encoder_decoder else None, self._eos)
        return [values[first - 1 :] for values, first in zip(scores, begin, strict=True)]


def _check(decoding: Decoding) -> None:
    """No answer at all where it would not be torch's. Raises UsageError."""
    ENGINE.check_decoding(decoding)
    if (why := decoding_reason(decoding)) is not None:
        raise UsageError(f"the engine {ENGINE.name} can't do this: {why}", hint="`engine` torch")


_Tell = Callable[[str], None]


def _ignore(_: str) -> None:
    pass


def open_engine(
    settings: ModelSettings, *, chat: ChatSettings | None = None, draft: str | None = None, report: _Tell = _ignore, warn: _Tell = _ignore
) -> CTranslate2Engine:
    """Loads a built-in model. Raises ModelError, UnavailableError or OutOfMemoryError."""
    if draft is not None:
        raise UnavailableError(f"the engine {ENGINE.name} has no speculation", hint="`engine` torch")
    engine = CTranslate2Engine(settings.reference.removeprefix("builtin:"), quantize=settings.quantize, chat=chat)
    for remark in engine.chat.check(engine.tokenizer):
        warn(remark)
    precision = "int8" if settings.quantize == "int8" else "float32"
    report(f"{settings.reference}: CTranslate2; cpu, {precision}, {available_cores()} threads (1 for one text)")
    return engine
