"""The reference engine: transformers' `generate` on any device.

Batches are left-padded with masks and positions that hide the padding, and what transformers leaves to chance or to
padding (sampling, penalties over padded text) is done by the processors beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from llmkit.engines.base import Check, Completion, ModelFacts, ModelIdentity, Notify, Request, TokenComparison, never_stop, notify_nobody
from llmkit.engines.chat import ChatSettings
from llmkit.engines.codec import Codec, CodecEngine, bos_remark
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import NO_STOPS, TextStream
from llmkit.engines.torch import abilities, onednn
from llmkit.engines.torch.batch import Streamer, decoding_config, own_settings, parts, running
from llmkit.engines.torch.caches import cache_of
from llmkit.engines.torch.constraints import Constraint
from llmkit.engines.torch.device_map import devices_of
from llmkit.engines.torch.divergence import compare
from llmkit.engines.torch.generation_config import clean, end_tokens
from llmkit.engines.torch.loading import LoadedModel, load, model_facts, tokenizer_sha256
from llmkit.engines.torch.rounds import Batch, Ended, Written, in_rounds, read_prefix
from llmkit.engines.torch.sampling import Checked, NanGuard, RowLimits, StopsHere, chain
from llmkit.engines.torch.scoring import Scorer
from llmkit.engines.utilization import WorkCounters
from llmkit.models.settings import ModelSettings
from llmkit.models.speed import cost
from llmkit.rows.fields import Prompt


class TorchEngine(CodecEngine):
    """A model of transformers that answers. draft: a smaller one that speculates for it.

    owns_model: nobody else uses the models, so their weights may be given up for a faster layout as it is made. If not,
    they stay as they are, and the layout takes memory beside them. lay_out: False leaves the layout out. It is made for the first
    batch (of one row, too, so that what a batch answers depends on it alone), or for an answer that is streamed, if that pays off.
    """

    name = "torch"

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        chat: ChatSettings | None = None,
        draft: LoadedModel | None = None,
        owns_model: bool = False,
        lay_out: bool = True,
    ) -> None:
        self._owns_model, self._plain = owns_model, lay_out
        self.tokenizer = loaded.tokenizer
        self._draft_shares_tokens = draft is None or draft.tokenizer.get_vocab() == self.tokenizer.get_vocab()
        self.chat = chat or ChatSettings()
        self.encoder_decoder = loaded.checkpoint.is_encoder_decoder
        self._constraint: tuple[Decoding, Constraint] | None = None
        self._use(loaded, draft)
        ends = end_tokens(self.tokenizer, self._configs[0][1])
        self.eos = frozenset(ends)
        pad = self.tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else next(iter(sorted(self.eos)), 0))
        # The model's configuration knows BOS for tokenizers that don't (and T5 has none).
        self.bos = self.tokenizer.bos_token_id
        start = getattr(self.model.generation_config, "decoder_start_token_id", None)
        self._codec = Codec(self.tokenizer, self.chat, loaded.context, ends, self.bos, self.encoder_decoder, start)
        self._runs_alone = not self.encoder_decoder and abilities.runs_alone(self.model)
        self.counters = WorkCounters()
        # a draft model's work is not counted
        with running(loaded.location.reference, 1, loaded.look_at):
            attends = abilities.takes_cache(self.model) and cache_of(self.model) is not None
        self.cost = cost(loaded.checkpoint, dtype=loaded.device.dtype, quantize=loaded.quantize, attends=attends) if draft is None else None

    def _use(self, loaded: LoadedModel, draft: LoadedModel | None) -> None:
        self.loaded, self.draft, self.model = loaded, draft, loaded.model
        models = [each for each in (loaded, draft) if each is not None]
        self._configs = [(each.model, clean(each.model.generation_config, vocabulary=each.vocabulary)) for each in models]

    def _lay_out(self) -> None:
        """Lays the weights out for products of many rows, once."""
        if not self._plain:
            return
        self._plain = False
        loaded = _fast(self.loaded, owned=self._owns_model)
        same = self.draft is self.loaded
        self._use(loaded, loaded if same else _fast(self.draft, owned=self._owns_model) if self.draft is not None else None)

    @cached_property
    def _gain(self) -> onednn.Gain:
        return onednn.Gain(self.model)

    @cached_property
    def _scorer(self) -> Scorer:
        self._lay_out()
        return Scorer(self.model, pad=self.pad, encoder_decoder=self.encoder_decoder)

    @cached_property
    def identity(self) -> ModelIdentity:
        """Taken once: the hashes of weights and adapter read all of their files."""
        loaded = self.loaded
        return ModelIdentity(
            engine=self.name,
            model=loaded.location.reference,
            revision=loaded.location.revision,
            parameters=loaded.checkpoint.parameters,
            weights_sha256=loaded.checkpoint.sha256,
            tokenizer_sha256=tokenizer_sha256(self.tokenizer),
            chat_template_sha256=self.chat.sha256(self.tokenizer),
            device="+".join(devices_of(loaded.model)) or loaded.device.kind,
            dtype=loaded.device.dtype,
            quantize=None if loaded.quantize == "none" else loaded.quantize,
            adapter=loaded.adapter.reference if loaded.adapter else None,
            adapter_sha256=loaded.adapter.sha256 if loaded.adapter else None,
        )

    @property
    def context(self) -> int | None:
        """Positions of the model; None without a limit."""
        return self.loaded.context

    def facts(self) -> ModelFacts:
        """As `TextEngine.facts`, from the configuration, the card and the tokenizer."""
        return model_facts(self.loaded.location, self.loaded.checkpoint, self.tokenizer, self.chat)

    def bos_remark(self) -> str | None:
        """As `Engine.bos_remark`, by the configuration of the model in memory."""
        return bos_remark(self._codec, getattr(self.model.config, "bos_token_id", None))

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """As `TextEngine.make_request`. Raises UsageError for the name of a token that the model does not have."""
        return self._codec.make_request(prompt, decoding, number)

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = never_stop) -> list[list[Completion]]:
        """As `TextEngine.generate`. With speculation the requests run one by one."""
        self._lay_out()
        if decoding.speculates and len(requests) > 1:
            return [answer for request in requests for answer in self.generate([request], decoding, check=check)]
        expanded = decoding.num_samples if decoding.samples else 1
        rows = [request for request in requests for _ in range(expanded)]
        numbers = [(request.number, sample) for request in requests for sample in range(expanded)]
        if decoding.speculates and len(rows) > 1:
            outputs = [self._run([row], [number], decoding, check)[0] for row, number in zip(rows, numbers, strict=True)]
        else:
            outputs = self._run_in_parts(rows, numbers, decoding, check)
        each = decoding.num_samples
        asked = [requests[i // each] for i in range(len(outputs))]
        answers = self._answers(asked, outputs, decoding)
        return [answers[i : i + each] for i in range(0, len(answers), each)]

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """As `TextEngine.stream`. Raises ValueError for beams or several samples."""
        if decoding.num_beams > 1 or decoding.num_samples > 1:
            raise ValueError("beam search and several samples cannot be streamed")
        if self._plain and self._owns_model and self._gain.pays_off(request.max_new_tokens):
            self._lay_out()
        stops = self._codec.stops(decoding)
        text = TextStream(self.tokenizer, self._codec.text_before(request), stops)
        streamer = Streamer(text, write, self.eos | stops.tokens)
        outputs = self._run([request], [(request.number, 0)], decoding, never_stop, streamer)
        write(text.finish(cut=not streamer.ended))
        return self._answers([request], outputs, decoding)[0]

    def _answers(self, requests: Sequence[Request], outputs: Sequence[list[int] | None], decoding: Decoding) -> list[Completion]:
        """What the ids of `outputs` say, each the answer to the request at its place."""
        answers = [self._codec.completion(request, ids, decoding) for request, ids in zip(requests, outputs, strict=True)]
        if (constraint := self._constrain(decoding)) is not None:
            answers = [_held(constraint, answer, ids or []) for answer, ids in zip(answers, outputs, strict=True)]
        if not decoding.logprobs:
            return answers
        return self._codec.with_logprobs(requests, outputs, answers, self.score, decoding.start_token)

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """As `Engine.score`. Raises ModelError for scores that are NaN, and OutOfMemoryError."""
        with running(self.loaded.location.reference, len(sequences), self.loaded.look_at), self.counters.timed():
            scores: list[list[float]] = self._scorer.score(sequences, begin, sources)
        self.counters.scored(sequences, sources, self._scorer.spared(sequences, begin))
        return scores

    def compare(
        self,
        reference: TorchEngine,
        sequences: Sequence[Sequence[int]],
        begin: Sequence[int],
        sources: Sequence[Sequence[int]] | None = None,
    ) -> list[list[TokenComparison]]:
        """As `Comparing.compare`. Raises ModelError for scores that are NaN, and OutOfMemoryError."""
        with running(self.loaded.location.reference, len(sequences), self.loaded.look_at):
            comparisons: list[list[TokenComparison]] = compare(self._scorer, reference._scorer, sequences, begin, sources)
        return comparisons

    def _run_in_parts(
        self, rows: Sequence[Request], numbers: Sequence[tuple[int, int]], decoding: Decoding, check: Check
    ) -> list[list[int] | None]:
        """As `_run`, in as few calls as there must be so that each row's answer is the one that it gets alone."""
        each = 1 if decoding.samples else decoding.num_samples
        out: dict[int, list[list[int] | None]] = {}
        alone, together = self._runs_alone, abilities.same_positions(self.model)
        for part in parts(rows, decoding, self.context, shared_context=not self.encoder_decoder, alone=alone, together=together):
            outputs = self._run([rows[i] for i in part], [numbers[i] for i in part], decoding, check)
            out |= {row: outputs[place * each : (place + 1) * each] for place, row in enumerate(part)}
        return [ids for row in range(len(rows)) for ids in out[row]]

    def _run(
        self,
        rows: Sequence[Request],
        numbers: Sequence[tuple[int, int]],
        decoding: Decoding,
        check: Check,
        streamer: BaseStreamer | None = None,
    ) -> list[list[int] | None]:
        """The new token ids of each row (of each returned beam), padding and all; None where the scores were NaN."""
        abilities.check(self.model, decoding)
        ids, mask, padding = self._padded([row.tokens for row in rows], left=not self.encoder_decoder)
        batch = Batch(rows, numbers, ids, mask, padding, 1 if self.encoder_decoder else ids.shape[1])
        refusals = abilities.refusals(self.model, decoding)
        known = running(self.loaded.location.reference, len(rows), self.loaded.look_at)
        with known, refusals, torch.inference_mode(), own_settings(self._configs), self.counters.timed():
            cache = cache_of(self.model) if self._may_leave(decoding) else None
            if cache is not None:
                if len(rows) > 1 and abilities.takes_positions(self.model) and not self._reads_prompts(decoding):
                    batch = read_prefix(self.model, batch, cache, self.pad, **abilities.last_scores(self.model))
                most = max(batch.limits)
                written = in_rounds(
                    batch, cache, lambda part, state: self._generate(part, decoding, check, streamer=streamer, cache=state, most=most)
                )
            else:
                written = [self._generate(batch, decoding, check, streamer=streamer)[0]]
        output = [ids[batch.prompt_length :] for each in written for ids in each.output.tolist()]
        broken = [bad for each in written for bad in each.broken]
        self.counters.answered([row.tokens for row in rows], output, reads=self.encoder_decoder, beams=decoding.num_beams)
        each = len(output) // len(rows)
        return [None if broken[i // each] else ids[: rows[i // each].max_new_tokens] for i, ids in enumerate(output)]

    def _may_leave(self, decoding: Decoding) -> bool:
        """Whether rows of a batch can leave it as they end: what transformers does at an answer's beginning must not be done again."""
        own = self._configs[0][1]
        first = own.forced_bos_token_id is None and not own.begin_suppress_tokens
        alone = self.encoder_decoder or decoding.num_beams > 1 or decoding.speculates
        return first and not alone and abilities.takes_cache(self.model)

    def _reads_prompts(self, decoding: Decoding) -> bool:
        """Whether something beside the model reads the prompts, and would take padding in them for text."""
        penalties = decoding.repetition_penalty != 1.0 or decoding.no_repeat_ngram_size > 0
        return penalties or self._codec.stops(decoding) != NO_STOPS

    def _generate(
        self, batch: Batch, decoding: Decoding, check: Check, *, streamer: BaseStreamer | None = None, cache: Any = None,
        most: int | None = None,
    ) -> tuple[Written, Ended]:  # fmt: skip
        """Goes on with a batch until its rows have ended, or until enough of them have where it has a cache.

        most: new tokens of all rows from the beginning; by default those of this batch.
        """
        limits, beams = batch.limits, decoding.num_beams
        guard = NanGuard(limits, batch.prompt_length)
        processors = chain(
            decoding,
            padding=[0] * len(limits) * beams if self.encoder_decoder else [pad for pad in batch.padding for _ in range(beams)],
            prompt_length=batch.prompt_length,
            numbers=batch.numbers,
            limits=limits,
            constraint=self._constrain(decoding),
            guard=guard,
        )
        criteria: list[StoppingCriteria] = []
        if (stops := self._codec.stops(decoding)) != NO_STOPS:
            criteria.append(StopsHere(self.tokenizer, stops, batch.prompt_length, read=not self.encoder_decoder))
        if min(limits) < max(limits):
            criteria.append(RowLimits(limits, batch.prompt_length))
        ended = Ended(sorted(self.eos), criteria, len(limits))
        more: dict[str, Any] = self._speculation() if cache is None else {"cache": cache}
        output = self.model.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            generation_config=self._config(decoding, (most or max(limits)) - batch.done, batch.done),
            logits_processor=processors,
            stopping_criteria=[Checked(check), *(criteria if cache is None else [ended])],
            streamer=streamer,
            **more,
        )
        return Written(output, guard.broken_rows()), ended

    def _config(self, decoding: Decoding, new_tokens: int, done: int) -> GenerationConfig:
        """For answers that have `done` new tokens and may have `new_tokens` more."""
        first, start = (None if name is None else self._codec.token(name) for name in (decoding.first_token, decoding.start_token))
        left = replace(decoding, min_new_tokens=max(0, decoding.min_new_tokens - done))
        return decoding_config(self._configs[0][1], left, new_tokens, pad=self.pad, eos=self.eos, first_token=first, start_token=start)

    def _speculation(self) -> dict[str, Any]:
        if self.draft is None:
            return {}
        known: dict[str, Any] = {"assistant_model": self.draft.model}
        return known if self._draft_shares_tokens else known | {"tokenizer": self.tokenizer, "assistant_tokenizer": self.draft.tokenizer}

    def _padded(self, sequences: Sequence[Sequence[int]], *, left: bool = True) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """ids and mask [rows, longest] int64, and each row's padding."""
        longest = max(map(len, sequences))
        padding = [longest - len(s) for s in sequences]
        ids = [[self.pad] * p + list(s) if left else list(s) + [self.pad] * p for s, p in zip(sequences, padding, strict=True)]
        ones = [[0] * p + [1] * len(s) if left else [1] * len(s) + [0] * p for s, p in zip(sequences, padding, strict=True)]
        device = self.loaded.device.name
        return torch.tensor(ids, device=device), torch.tensor(ones, device=device), padding

    def _constrain(self, decoding: Decoding) -> Constraint | None:
        if not decoding.constrained:
            return None
        if self._constraint is None or self._constraint[0] != decoding:
            vocabulary = self.model.get_input_embeddings().weight.shape[0]
            self._constraint = (decoding, Constraint(decoding, self.tokenizer, vocabulary, next(iter(self._codec.ends), None)))
        return self._constraint[1]


def open_engine(
    settings: ModelSettings, *, chat: ChatSettings | None = None, draft: str | None = None, report: Notify = notify_nobody,
    warn: Notify = notify_nobody, notice: Notify = notify_nobody,
) -> TorchEngine:  # fmt: skip
    """Loads the model (and the draft model that speculates for it) and gives the engine that runs it.

    notice: told in a line what takes time now.
    Raises what `llmkit.engines.torch.loading.load` raises.
    """
    loaded = load(settings, report, warn, notice)
    for remark in (chat or ChatSettings()).check(loaded.tokenizer):
        warn(remark)
    helper = load(replace(settings, reference=draft, adapter=None), report, notice=notice) if draft else None
    return TorchEngine(loaded, chat=chat, draft=helper, owns_model=True)


def _held(constraint: Constraint, answer: Completion, ids: list[int]) -> Completion:
    """The answer, or an error in its place where it is not what the constraint asks for. One that a stop cut off is the user's own."""
    if answer.error is not None or answer.finish_reason == "stop":
        return answer
    ended = answer.finish_reason == "eos"
    broken = constraint.broken(ids[: answer.completion_tokens - ended], answer.text, ended=ended)
    return answer if broken is None else replace(answer, text="", finish_reason="error", error=broken)


def _fast(loaded: LoadedModel, *, owned: bool) -> LoadedModel:
    """The model with its linear layers laid out for this processor, where that is possible."""
    if loaded.device_map is not None:  # accelerate moves the weights of its layers
        return loaded
    keep = loaded.checkpoint.is_encoder_decoder
    return replace(loaded, model=onednn.use_onednn(loaded.model, keep=keep, owned=owned))
