"""Models on CTranslate2, which starts in a fraction of the time that torch takes and answers alike.

Knows the engine's interface; prompts and texts are the codec's business, calls of the library the runner's, where a model's form
comes from opening.py's. Imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from llmkit.engines.base import Check, Completion, ModelFacts, ModelIdentity, Request, never_stop
from llmkit.engines.chat import ChatSettings
from llmkit.engines.codec import Codec, CodecEngine, bos_remark
from llmkit.engines.ctranslate2 import ENGINE
from llmkit.engines.ctranslate2.converted_model import ConvertedModel
from llmkit.engines.ctranslate2.limits import decoding_reason
from llmkit.engines.ctranslate2.model import Runner
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import TextStream
from llmkit.engines.utilization import WorkCounters
from llmkit.errors import EngineLimitError
from llmkit.models.speed import cost
from llmkit.rows.fields import Prompt


class CTranslate2Engine(CodecEngine):
    """A model in a form that the library runs. dtype: what it computes in; quantize: 'int8' for weights in 8 bits."""

    name = ENGINE.name

    def __init__(
        self,
        form: ConvertedModel,
        *,
        dtype: str = "float32",
        quantize: str = "none",
        threads: int | None = None,
        chat: ChatSettings | None = None,
    ) -> None:
        self._form, self._dtype, self._quantize = form, dtype, quantize
        self.chat = chat or ChatSettings()
        self.encoder_decoder = form.files.translates
        self.bos, self.eos = form.bos, frozenset(form.ends)
        self._codec = Codec(form.tokenizer, self.chat, form.context, form.ends, form.bos, self.encoder_decoder, form.start)
        self._runner = Runner(form.files, compute_type(dtype, quantize), threads)
        # what a larger model takes, Python does not add to
        self.turns = self._runner.turns if form.files.small else None
        self.counters = WorkCounters()
        self.cost = cost(form.checkpoint, dtype=dtype, quantize=quantize, everything=True, attends=True)

    @property
    def context(self) -> int | None:
        """Positions of the model before it was converted; None without a limit."""
        return self._codec.context

    @cached_property
    def identity(self) -> ModelIdentity:
        """As torch's of the same model, but for the engine's name and the precision."""
        return replace(
            self._form.about,
            engine=self.name,
            chat_template_sha256=self.chat.sha256(self._codec.tokenizer),
            dtype=self._dtype,
            quantize=None if self._quantize == "none" else self._quantize,
        )

    def facts(self) -> ModelFacts:
        """As the package or the manifest has them; the library is not asked."""
        return self._form.facts(self.chat)

    def bos_remark(self) -> str | None:
        """As `Engine.bos_remark`, by the configuration's BOS that the form keeps."""
        return bos_remark(self._codec, self._form.configured_bos)

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """As `TextEngine.make_request`. Raises UsageError for the name of a token that the model does not have."""
        return self._codec.make_request(prompt, decoding, number)

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = never_stop) -> list[list[Completion]]:
        """As `TextEngine.generate`, one answer a request. Raises EngineLimitError where answers would not be torch's."""
        _check(decoding)
        limits = [request.max_new_tokens for request in requests]
        prompts = [request.tokens for request in requests]
        ends = [*self._form.ends, *self._codec.stops(decoding).tokens]
        first, beams = self._first(decoding), decoding.num_beams
        outputs = self._runner.answers(prompts, limits, ends=ends, beams=beams, first=first, check=check, counters=self.counters)
        done = [self._codec.completion(request, ids, decoding) for request, ids in zip(requests, outputs, strict=True)]
        if decoding.logprobs:
            done = self._codec.with_logprobs(requests, outputs, done, self.score)
        return [[answer] for answer in done]

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """As `TextEngine.stream`. Raises EngineLimitError as `generate`, and ValueError for beams or several samples."""
        _check(decoding)
        if decoding.num_beams > 1 or decoding.num_samples > 1:
            raise ValueError("beam search and several samples cannot be streamed")
        stops = self._codec.stops(decoding)
        ends = self.eos | stops.tokens
        text = TextStream(self._codec.tokenizer, self._codec.text_before(request), stops)
        ids: list[int] = []
        steps = self._runner.steps(request.tokens, request.max_new_tokens, ends=sorted(ends), first=self._first(decoding))
        with contextlib.closing(steps), self.counters.timed():
            for token in steps:
                ids.append(token)
                if token not in ends:
                    write(text.push([token]))
                if text.stopped:
                    break
        self.counters.answered([request.tokens], [ids], reads=self.encoder_decoder)
        write(text.finish(cut=ends.isdisjoint(ids)))
        answer = self._codec.completion(request, ids, decoding)
        return self._codec.with_logprobs([request], [ids], [answer], self.score)[0] if decoding.logprobs else answer

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """As `Engine.score`. The library scores every token from the second on; those before `begin` are dropped."""
        read = sources if self.encoder_decoder else None
        with self.counters.timed():
            scores = self._runner.score(sequences, read, self._form.ends[0])
        self.counters.scored(sequences, read)
        return [values[first - 1 :] for values, first in zip(scores, begin, strict=True)]

    def _first(self, decoding: Decoding) -> int | None:
        """The token that answers have to begin with."""
        return self._form.first if decoding.first_token is None else self._codec.token(decoding.first_token)


def compute_type(dtype: str, quantize: str) -> str:
    """The library's name for a precision."""
    return f"int8_{dtype}" if quantize == "int8" else dtype


def _check(decoding: Decoding) -> None:
    """No answer at all where it would not be torch's. Raises EngineLimitError."""
    ENGINE.check_decoding(decoding)
    if (why := decoding_reason(decoding)) is not None:
        raise EngineLimitError(f"the engine {ENGINE.name} can't do this: {why}", hint="`engine` torch")
