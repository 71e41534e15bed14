"""The reference engine: transformers' `generate` on any device.

Batches are left-padded with masks and positions that hide the padding, and what transformers leaves to chance or to
padding (sampling, penalties over padded text) is done by the processors beside this file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from llmkit.engines.base import Completion, ModelFacts, Pair, Request, TokenScore
from llmkit.engines.chat import ChatSettings, render
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.constraints import Constraint
from llmkit.engines.torch.detokenize import TextStream, continuation, decode, find_stop
from llmkit.engines.torch.generation_config import clean, end_tokens
from llmkit.engines.torch.loading import LoadedModel, tokenizer_sha256
from llmkit.engines.torch.onednn import pack
from llmkit.engines.torch.panics import panics
from llmkit.engines.torch.sampling import NanGuard, StopStrings, chain
from llmkit.engines.torch.scoring import Scorer
from llmkit.errors import InputError, OutOfMemoryError
from llmkit.rows.fields import Prompt


class TorchEngine:
    """A model of transformers that answers. `draft` speculates for it."""

    name = "torch"

    def __init__(self, loaded: LoadedModel, *, chat: ChatSettings | None = None, draft: LoadedModel | None = None) -> None:
        self.loaded, self.draft = loaded, draft
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.chat = chat or ChatSettings()
        self.encoder_decoder = loaded.checkpoint.is_encoder_decoder
        for each in (loaded, draft):
            if each is not None:
                pack(each.model, keep=each.checkpoint.is_encoder_decoder)
                # generate() takes what it is not given from here
                each.model.generation_config = clean(each.model.generation_config, vocabulary=each.vocabulary)
        self._constraint: tuple[Decoding, Constraint] | None = None
        ends = end_tokens(self.tokenizer, self.model.generation_config)
        self.eos, self._end = frozenset(ends), ends[:1]
        pad = self.tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else next(iter(sorted(self.eos)), 0))
        # The model's configuration knows BOS for tokenizers that don't (and T5 has none).
        self.bos = self.tokenizer.bos_token_id
        self._scorer = Scorer(self.model, pad=self.pad, encoder_decoder=self.encoder_decoder)

    @property
    def description(self) -> dict[str, Any]:
        loaded = self.loaded
        out = {
            "engine": self.name,
            "model": loaded.location.reference,
            "revision": loaded.location.revision,
            "parameters": loaded.checkpoint.parameters,
            "weights_sha256": loaded.checkpoint.sha256,
            "tokenizer_sha256": tokenizer_sha256(self.tokenizer),
            "chat_template_sha256": self.chat.sha256(self.tokenizer),
            "device": loaded.device.kind,
            "dtype": loaded.device.dtype,
            "quantize": None if loaded.quantize == "none" else loaded.quantize,
            "adapter": loaded.adapter.reference if loaded.adapter else None,
            "adapter_sha256": loaded.adapter.sha256 if loaded.adapter else None,
        }
        return {name: value for name, value in out.items() if value is not None}

    @property
    def context(self) -> int | None:
        return self.loaded.context

    def facts(self) -> ModelFacts:
        from llmkit.models.card import read_card

        config = self.loaded.checkpoint.config
        languages = read_card(self.loaded.location.folder)[0].get("language")
        tasks = config.get("task_specific_params") or {}
        return ModelFacts(
            reference=self.loaded.location.reference,
            model_type=self.loaded.checkpoint.model_type,
            encoder_decoder=self.encoder_decoder,
            has_chat_template=self.chat.source(self.tokenizer) is not None,
            languages=tuple(map(str, languages)) if isinstance(languages, list) else (),
            task_prefixes=tuple(str(task.get("prefix", "")) for task in tasks.values()),
            tokens=tuple(self.tokenizer.get_vocab()),
        )

    def bos_remark(self) -> str | None:
        configured = getattr(self.model.config, "bos_token_id", None)
        ids = self.tokenizer("a")["input_ids"]
        added = ids[0] if len(ids) > len(self.encode("a")) and ids[0] in self.tokenizer.all_special_ids else None
        if self.bos is not None and configured is not None and configured != self.bos:
            return f"the tokenizer's BOS is {self.bos}, the configuration's {configured}"
        if added is not None and not self.encoder_decoder and added != configured:
            return f"the tokenizer begins a text with {added}, the configuration's BOS is {configured}"
        return None

    def prepare(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        tokens = self._encode(prompt)
        context = self.context
        room = context
        if context is not None and not self.encoder_decoder:
            room = context - 1  # for at least one token of answer
        if room is not None and len(tokens) > room:
            if decoding.truncate == "none":
                kind = "tokens" if self.encoder_decoder else "tokens with one token of answer"
                raise InputError(
                    f"the prompt is {len(tokens) - room:,} tokens too long: it has {len(tokens):,}, the model takes {context:,} {kind}",
                    hint="--truncate left keeps its end, --truncate right its beginning",
                )
            wanted = decoding.max_new_tokens or 1
            keep = room if self.encoder_decoder else max(room // 2, context - wanted) if context else room
            return self._request(_cut(tokens, keep, decoding.truncate, self.bos), decoding, number, len(tokens) - keep)
        return self._request(tokens, decoding, number, 0)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> list[list[Completion]]:
        if decoding.speculates and len(requests) > 1:
            return [answer for request in requests for answer in self.generate([request], decoding)]
        expanded = decoding.num_samples if decoding.samples else 1
        rows = [request for request in requests for _ in range(expanded)]
        numbers = [(request.number, sample) for request in requests for sample in range(expanded)]
        if decoding.speculates and len(rows) > 1:
            outputs = [self._run([row], [number], decoding)[0] for row, number in zip(rows, numbers, strict=True)]
        else:
            outputs = self._run(rows, numbers, decoding)
        each = decoding.num_samples
        answers = [self._completion(requests[i // each], ids, decoding) for i, ids in enumerate(outputs)]
        if decoding.logprobs:
            answers = self._with_logprobs(requests, outputs, answers, each)
        return [answers[i : i + each] for i in range(0, len(answers), each)]

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        if decoding.num_beams > 1 or decoding.num_samples > 1:
            raise ValueError("beams and several samples have no one stream")
        text = TextStream(self.tokenizer, self._text_before(request), decoding.stop)
        outputs = self._run([request], [(request.number, 0)], decoding, streamer=_Streamer(text, write, self.eos, self.encoder_decoder))
        write(text.finish())
        answer = self._completion(request, outputs[0], decoding)
        return self._with_logprobs([request], outputs, [answer], 1)[0] if decoding.logprobs else answer

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        with _out_of_memory(len(sequences)):
            scores: list[list[float]] = self._scorer.score(sequences, begin, sources)
        return scores

    def encode(self, text: str) -> list[int]:
        return self._ids(text, special=False)

    def encode_pair(self, prompt: Prompt, answer: str) -> Pair:
        if self.encoder_decoder:
            start = self.model.generation_config.decoder_start_token_id
            # what the decoder is trained to end with
            # Marian has a tokenizer for each side
            written = self.tokenizer(text_target=answer, add_special_tokens=False)["input_ids"]
            target = [*written, *self._end]
            return Pair([start, *target], 1, self._encode(prompt))
        text, special = render(prompt, self.tokenizer, self.chat)
        first = [self.bos] if special and self.bos is not None else []
        # A space between the two belongs to the answer's first token (as in lm-evaluation-harness).
        kept = text.rstrip(" ")
        whole = self.encode(text + answer)
        begin = min(len(self.encode(kept)), len(whole))
        return Pair([*first, *whole], len(first) + begin, None)

    def _encode(self, prompt: Prompt) -> list[int]:
        if prompt.first_token is not None:
            return [self._token(prompt.first_token), *self.encode(prompt.text or ""), *self._end]
        text, special = render(prompt, self.tokenizer, self.chat)
        ids = self._ids(text, special=special)
        while len(ids) > 1 and self.bos is not None and ids[0] == ids[1] == self.bos:
            ids = ids[1:]
        if not ids and self.bos is not None:
            ids = [self.bos]
        if not ids or (not text and self.encoder_decoder):
            raise InputError("the prompt is empty, and the model has no token to begin a text with", hint="give it some text")
        return ids

    def _token(self, token: str) -> int:
        return int(self.tokenizer.get_vocab()[token])

    def _ids(self, text: str, *, special: bool) -> list[int]:
        # half a surrogate pair is no character; the model is shown U+FFFD
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        with panics(lambda reason: InputError(f"the model's tokenizer can't read the text: {reason}")):
            return list(self.tokenizer(whole, add_special_tokens=special)["input_ids"])

    def _request(self, tokens: list[int], decoding: Decoding, number: int, truncated: int) -> Request:
        limit = decoding.new_tokens(len(tokens), self.context, shared_context=not self.encoder_decoder)
        if limit < 1:
            raise InputError(
                f"the prompt has {len(tokens):,} tokens, which leaves none of --max-length {decoding.max_length} for the answer",
                hint="raise --max-length, or use --max-new-tokens",
            )
        return Request(tuple(tokens), limit, number, truncated)

    def _run(
        self, rows: Sequence[Request], numbers: Sequence[tuple[int, int]], decoding: Decoding, streamer: BaseStreamer | None = None
    ) -> list[list[int] | None]:
        """The new token ids of each row (of each returned beam), padding and all; None where the scores were NaN."""
        ids, mask, padding = self._padded([row.tokens for row in rows], left=not self.encoder_decoder)
        prompt_length = 1 if self.encoder_decoder else ids.shape[1]
        beams = decoding.num_beams
        guard = NanGuard(len(rows))
        processors = chain(
            decoding,
            padding=[pad for pad in padding for _ in range(beams)] if not self.encoder_decoder else [0] * len(rows) * beams,
            prompt_length=prompt_length,
            numbers=numbers,
            constraint=self._constrain(decoding),
            guard=guard,
        )
        criteria = [StopStrings(self.tokenizer, decoding.stop, prompt_length)] if decoding.stop else []
        speculation: dict[str, Any] = {}
        if self.draft is not None:
            speculation["assistant_model"] = self.draft.model
            if self.draft.tokenizer.get_vocab() != self.tokenizer.get_vocab():
                speculation |= {"tokenizer": self.tokenizer, "assistant_tokenizer": self.draft.tokenizer}
        with _out_of_memory(len(rows)), torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._config(decoding, max(row.max_new_tokens for row in rows)),
                logits_processor=processors,
                stopping_criteria=criteria,
                streamer=streamer,
                **speculation,
            )
        each = len(output) // len(rows)
        broken = guard.broken_rows()
        return [None if broken[i // each] else ids[prompt_length:] for i, ids in enumerate(output.tolist())]

    def _config(self, decoding: Decoding, new_tokens: int) -> GenerationConfig:
        """The model's own configuration (forced and suppressed tokens) with our decoding in place of its."""
        config: GenerationConfig = copy.deepcopy(self.model.generation_config)
        config.max_length = None
        config.update(
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            min_p=None,
            typical_p=None,
            repetition_penalty=None,
            no_repeat_ngram_size=None,
            early_stopping=False,
            max_new_tokens=new_tokens,
            min_length=None,
            min_new_tokens=decoding.min_new_tokens or None,
            num_beams=decoding.num_beams,
            num_return_sequences=1 if decoding.samples else decoding.num_samples,
            length_penalty=decoding.length_penalty if decoding.num_beams > 1 else None,
            pad_token_id=self.pad,
            eos_token_id=sorted(self.eos) or None,
            prompt_lookup_num_tokens=decoding.prompt_lookup,
            use_cache=True,
        )
        if decoding.first_token is not None:
            config.forced_bos_token_id = self._token(decoding.first_token)
        return config

    def _padded(self, sequences: Sequence[Sequence[int]], *, left: bool = True) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """ids and mask [rows, longest] int64, and each row's padding."""
        longest = max(map(len, sequences))
        padding = [longest - len(s) for s in sequences]
        ids = [[self.pad] * p + list(s) if left else list(s) + [self.pad] * p for s, p in zip(sequences, padding, strict=True)]
        ones = [[0] * p + [1] * len(s) if left else [1] * len(s) + [0] * p for s, p in zip(sequences, padding, strict=True)]
        device = self.loaded.device.name
        return torch.tensor(ids, device=device), torch.tensor(ones, device=device), padding

    def _completion(self, request: Request, ids: list[int] | None, decoding: Decoding) -> Completion:
        if ids is None:
            return Completion("", "error", len(request.tokens), 0, error="the model's scores are NaN; try --dtype float32")
        end = next((i for i, token in enumerate(ids) if token in self.eos), None)
        kept = ids if end is None else ids[:end]
        text = continuation(self.tokenizer, self._text_before(request), kept)
        reason = "length" if end is None else "eos"
        tokens = len(kept) + (end is not None)
        stop = find_stop(text, decoding.stop)
        if stop is not None:
            reason, tokens = "stop", self._tokens_until(kept, text, stop, decoding.stop)
            text = text[:stop]
        return Completion(text, reason, len(request.tokens), tokens)

    def _tokens_until(self, ids: list[int], text: str, stop: int, stops: Sequence[str]) -> int:
        """How many of `ids` were needed to write the stop string: what follows is padding."""
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            if find_stop(decode(self.tokenizer, ids[:middle]), stops) is not None:
                high = middle
            else:
                low = middle + 1
        return low

    def _with_logprobs(
        self, requests: Sequence[Request], outputs: list[list[int] | None], answers: list[Completion], each: int
    ) -> list[Completion]:
        out = []
        for i, (ids, answer) in enumerate(zip(outputs, answers, strict=True)):
            kept = (ids or [])[: answer.completion_tokens]
            tokens = requests[i // each].tokens
            scores = self._score_answer(tokens, kept)
            pieces = [TokenScore(decode_piece(self.tokenizer, t), s) for t, s in zip(kept, scores, strict=True)]
            out.append(Completion(answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, tuple(pieces)))
        return out

    def _score_answer(self, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        if not self.encoder_decoder:
            return self.score([[*prompt, *answer]], [len(prompt)])[0]
        start = self.model.generation_config.decoder_start_token_id
        return self.score([[start, *answer]], [1], [prompt])[0]

    def _text_before(self, request: Request) -> Sequence[int]:
        return () if self.encoder_decoder else request.tokens

    def _constrain(self, decoding: Decoding) -> Constraint | None:
        if not decoding.constrained:
            return None
        if self._constraint is None or self._constraint[0] != decoding:
            vocabulary = self.model.get_input_embeddings().weight.shape[0]
            self._constraint = (decoding, Constraint(decoding, self.tokenizer, vocabulary))
        return self._constraint[1]


def decode_piece(tokenizer: Any, token: int) -> str:
    """One token as text, a special token by its name."""
    return str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _cut(tokens: list[int], keep: int, side: str, bos: int | None) -> list[int]:
    if side == "right":
        return tokens[:keep]
    if bos is not None and tokens[0] == bos and keep > 1:
        return [bos, *tokens[len(tokens) - keep + 1 :]]
    return tokens[len(tokens) - keep :]


@contextmanager
def _out_of_memory(rows: int) -> Iterator[None]:
    """Torch's several ways to say so, as one error."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise OutOfMemoryError(f"out of memory with {rows} rows at once", hint="a smaller --batch-size or --max-new-tokens") from exc
    except RuntimeError as exc:
        if "allocate memory" not in str(exc) and "out of memory" not in str(exc):
            raise
        raise OutOfMemoryError(f"out of memory with {rows} rows at once", hint="a smaller --batch-size or --max-new-tokens") from exc


class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Hands new tokens to a TextStream, and its text on."""

    def __init__(self, text: TextStream, write: Callable[[str], None], eos: frozenset[int], encoder_decoder: bool) -> None:
        self.text, self.write, self.eos = text, write, eos
        self.prompt_pending = True
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_pending:
            self.prompt_pending = False
            return
        for token in value.flatten().tolist():
            self.ended = self.ended or token in self.eos
            if not self.ended:
                self.write(self.text.push([token]))

    def end(self) -> None:
        pass
