"""Prompts become token ids, and ids become answers: what engines that run a model here have in common.

Knows a tokenizer with the attributes and calls of transformers' (tokenizer_file.py has one without transformers), chat
templates and limits; not models, and it imports no heavy library.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from llmkit.engines import long_texts
from llmkit.engines.base import Check, Completion, Pair, Request, TokenScore, never_stop
from llmkit.engines.chat import ChatSettings, render
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import NO_STOPS, Stops, continuation, decode_piece, special_tokens, whole_characters
from llmkit.engines.truncation import capped, cut_conversation, cut_tokens
from llmkit.engines.turns import Turns
from llmkit.engines.utilization import WorkCounters
from llmkit.errors import InputError, UsageError, counted, one_line
from llmkit.models.panics import panics
from llmkit.models.speed import Cost
from llmkit.rows.fields import Prompt

#: Scores of sequences from an index on, as `Engine.score` gives them.
Score = Callable[[Sequence[Sequence[int]], Sequence[int], Sequence[Sequence[int]] | None], list[list[float]]]
#: A text with more characters than the first, and than the second for each token of the context, is too long whatever its tokens are.
_MUCH, _CHARACTERS = 1_000_000, 64
#: Characters of a text that can't be tokenized in pieces.
_MOST_AT_ONCE = 8_000_000


def whole_text(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which is no character and which no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True)
class Codec:
    """Text to ids and back, for one model.

    ends: the ids that end an answer; the first is what a text is trained to end with. bos: the id that begins a text, None
    without one. start: what the decoder of an encoder-decoder reads first. context: positions of the model, None without a
    limit; prompt and answer share them, but for an encoder-decoder, where each side has as many.
    """

    tokenizer: Any
    chat: ChatSettings
    context: int | None
    ends: tuple[int, ...]
    bos: int | None
    encoder_decoder: bool = False
    start: int | None = None

    @property
    def eos(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(self.ends)

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """As `TextEngine.make_request`.

        Raises InputError for an empty prompt and one that is too long, UsageError for the name of a token that the model does not have.
        """
        self.stops(decoding)
        keep = decoding.prompt_room(self.context, shared_context=not self.encoder_decoder)
        side = "right" if decoding.truncate == "none" else decoding.truncate
        # tokenizing takes some 200 bytes a character, so of a text that is far too long only a part is tokenized
        part = prompt if self.context is None else capped(prompt, max(_MUCH, _CHARACTERS * self.context), side)
        tokens = self.encode_prompt(part)
        if part is not prompt and len(tokens) <= max(keep or 0, self.context or 0):
            part, tokens = prompt, self.encode_prompt(prompt)
        if decoding.truncate != "none" and keep is not None and len(tokens) > keep:
            kept = self._cut(part, tokens, keep, decoding.truncate)
            return self._request(kept, decoding, number, len(tokens) - len(kept))
        context = self.context
        room = context if context is None or self.encoder_decoder else context - 1  # for at least one token of answer
        if context is not None and room is not None and len(tokens) > room:
            kind = "tokens" if self.encoder_decoder else "tokens, prompt and answer together"
            least, more = "" if part is prompt else "more than ", counted(len(tokens) - room, "token")
            raise InputError(
                f"the prompt is {least}{more} too long: it has {least}{len(tokens):,}, the model takes {context:,} {kind}",
                hint="`truncate` left keeps its end, `truncate` right its beginning",
            )
        return self._request(tokens, decoding, number, 0)

    @cached_property
    def special(self) -> dict[int, str]:
        """The names of tokens that are no part of a text, by id."""
        return special_tokens(self.tokenizer)

    def stops(self, decoding: Decoding) -> Stops:
        """What ends an answer beside its end token. Raises UsageError for the name of a token that the model does not have."""
        if not decoding.stop and not decoding.stop_token:
            return NO_STOPS
        try:
            tokens = frozenset(self.token(name) for name in decoding.stop_token)
        except InputError as exc:
            raise UsageError(f"`stop_token`: {exc.message}", hint="`stop` takes any text") from exc
        return Stops(decoding.stop, tokens, self.special)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special token added."""
        return self._ids(text, special=False)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, special tokens included. Raises InputError for one that is empty."""
        if prompt.first_token is not None:
            return [self.token(prompt.first_token), *self.encode(prompt.text or ""), *self.ends[:1]]
        if prompt.last_token is not None:
            return [*self.encode(prompt.text or ""), *self.ends[:1], self.token(prompt.last_token)]
        text, special = render(prompt, self.tokenizer, self.chat)
        ids = self._ids(text, special=special)
        while len(ids) > 1 and self.bos is not None and ids[0] == ids[1] == self.bos:
            ids = ids[1:]
        if not ids and self.bos is not None:
            ids = [self.bos]
        if not ids or (not text and self.encoder_decoder):
            raise InputError("the prompt is empty, and the model has no BOS token to start from", hint="give it some text")
        return ids

    def encode_pair(self, prompt: Prompt, answer: str, *, split: str = "spaces") -> Pair:
        """As `Engine.encode_pair`."""
        if self.encoder_decoder:
            # what the decoder is trained to end with
            # Marian has a tokenizer for each side
            written = self.tokenizer(text_target=answer, add_special_tokens=False)["input_ids"]
            target = [*written, *self.ends[:1]]
            return Pair([self.start, *target], 1, self.encode_prompt(prompt))  # type: ignore[list-item]
        text, special = render(prompt, self.tokenizer, self.chat)
        # What is white between the two belongs to the answer's first token (lm-evaluation-harness, `_encode_pair`).
        kept = text.rstrip() if split == "white space" else text.rstrip(" ")
        whole, first = self.encode(text + answer), self._edges()[0] if special else []
        while first and whole[: len(first)] == first:  # a prompt that spells the BOS out; never two
            whole = whole[len(first) :]
        begin = min(len(self.encode(kept)), len(whole))
        if not first and begin == 0:
            # an answer to nothing follows what separates texts (its `prefix_token_id`)
            first = sorted(self.eos)[:1] if self.bos is None else [self.bos]
        return Pair([*first, *whole], len(first) + begin, None)

    def token(self, token: str) -> int:
        """The id of a token by its name. Raises InputError for one that the model does not have."""
        number: int | None = self.tokenizer.convert_tokens_to_ids(token)
        if number is None or (number == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            raise InputError(f"the model has no token '{token}'")
        return number

    def text_before(self, request: Request) -> Sequence[int]:
        """The tokens that an answer's text follows."""
        return () if self.encoder_decoder else request.tokens

    def completion(self, request: Request, ids: list[int] | None, decoding: Decoding) -> Completion:
        """The answer that `ids` are, which may go on after an end token or a stop; None where the scores were NaN."""
        if ids is None:
            return Completion("", "error", len(request.tokens), 0, error="the model's scores are NaN; float32 may help")
        end = next((i for i, token in enumerate(ids) if token in self.eos), None)
        kept = ids if end is None else ids[:end]
        reason, tokens = "length" if end is None else "eos", len(kept) + (end is not None)
        stops, before = self.stops(decoding), self.text_before(request)
        at = next((i for i, token in enumerate(kept) if token in stops.tokens), None)
        if at is not None:
            kept, reason, tokens = kept[:at], "stop", at + 1
        text = continuation(self.tokenizer, before, kept, stops)
        stop = stops.find(text)
        if stop is not None:
            reason, tokens = "stop", self._tokens_until(before, kept, stops)
            text = text[:stop]
        text = stops.visible(text)
        return Completion(whole_characters(text) if reason == "length" else text, reason, len(request.tokens), tokens)

    def score_answers(self, items: Sequence[tuple[Prompt, str]], score: Score) -> list[list[TokenScore]]:
        """As `TextEngine.score_answers`, with an engine's `score`."""
        pairs = [self.encode_pair(prompt, answer) for prompt, answer in items]
        read = [pair.encoder_tokens or [] for pair in pairs] if self.encoder_decoder else None
        scores = score([pair.tokens for pair in pairs], [pair.begin for pair in pairs], read)
        return [self._scored(pair.tokens[pair.begin :], values) for pair, values in zip(pairs, scores, strict=True)]

    def with_logprobs(
        self,
        requests: Sequence[Request],
        outputs: Sequence[list[int] | None],
        answers: Sequence[Completion],
        score: Score,
        start_token: str | None = None,
    ) -> list[Completion]:
        """Each answer (of ids `outputs`, to the request at its place) with its tokens' log-probabilities by an engine's `score`."""
        start = self.start if start_token is None else self.token(start_token)
        out = []
        for request, ids, answer in zip(requests, outputs, answers, strict=True):
            if ids is None:
                out.append(answer)
                continue
            kept = ids[: answer.completion_tokens]
            out.append(replace(answer, logprobs=tuple(self._scored(kept, self._score_answer(request.tokens, kept, score, start)))))
        return out

    def _scored(self, ids: Sequence[int], values: Sequence[float]) -> list[TokenScore]:
        return [TokenScore(decode_piece(self.tokenizer, t), s) for t, s in zip(ids, values, strict=True)]

    def _score_answer(self, prompt: Sequence[int], answer: Sequence[int], score: Score, start: int | None) -> list[float]:
        if not self.encoder_decoder:
            return score([[*prompt, *answer]], [len(prompt)], None)[0]
        return score([[start, *answer]], [1], [prompt])[0]  # type: ignore[list-item]

    def _edges(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer itself puts before and after a text."""
        plain, dressed = self.encode("a"), self._ids("a", special=True)
        at = next((i for i in range(len(dressed)) if dressed[i : i + len(plain)] == plain), None)
        return ([], []) if at is None else (dressed[:at], dressed[at + len(plain) :])

    def _ids(self, text: str, *, special: bool) -> list[int]:
        whole = whole_text(text)
        with panics(lambda reason: InputError(f"the model's tokenizer can't read the text: {reason}")):
            try:
                if len(whole) > long_texts.SIZE and getattr(self.tokenizer, "is_fast", True):
                    return self._long(whole, special=special)
                return list(self.tokenizer(whole, add_special_tokens=special)["input_ids"])
            except (MemoryError, InputError):
                raise
            except Exception as exc:
                # a stranger's settings can make it raise anything
                raise InputError(f"the model's tokenizer can't read the text: {one_line(exc)}") from exc

    def _long(self, text: str, *, special: bool) -> list[int]:
        """As `_ids`, in pieces: memory is a little more than the ids take."""

        def encode(piece: str) -> tuple[list[int], list[tuple[int, int]]]:
            encoded = self.tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            return encoded["input_ids"], encoded["offset_mapping"]

        ids = long_texts.encode_in_pieces(text, encode)
        if ids is None:
            if len(text) > _MOST_AT_ONCE:
                raise InputError(
                    f"a text of {len(text):,} characters without words, or one that the model's tokenizer reads only as a whole; "
                    f"at most {_MOST_AT_ONCE:,} are read"
                )
            return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])
        opening, closing = self._edges() if special else ([], [])
        return [*opening, *ids, *closing]

    def _request(self, tokens: list[int], decoding: Decoding, number: int, truncated: int) -> Request:
        limit = decoding.new_tokens(len(tokens), self.context, shared_context=not self.encoder_decoder)
        if limit < 1:
            raise InputError(
                f"the prompt has {counted(len(tokens), 'token')}, which leaves none of `max_length` {decoding.max_length} for the answer",
                hint="raise `max_length`, or use `max_new_tokens`",
            )
        return Request(tuple(tokens), limit, number, truncated)

    def _tokens_until(self, before: Sequence[int], ids: list[int], stops: Stops) -> int:
        """How many of `ids` were needed to write the stop string: what follows is padding."""
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            if stops.find(continuation(self.tokenizer, before, ids[:middle], stops)) is not None:
                high = middle
            else:
                low = middle + 1
        return low

    def _cut(self, prompt: Prompt, tokens: list[int], keep: int, side: str) -> list[int]:
        if prompt.first_token is not None:
            return cut_tokens(tokens, keep, side, head=1, tail=len(self.ends[:1]))
        if self.chat.source(self.tokenizer) is not None:
            return cut_conversation(prompt, tokens, keep, side, self.encode_prompt)
        opening, closing = self._edges()
        head = len(opening) if tokens[: len(opening)] == opening else 0
        tail = len(closing) if closing and tokens[-len(closing) :] == closing else 0
        return cut_tokens(tokens, keep, side, head=head, tail=tail)


def bos_remark(codec: Codec, configured: int | None) -> str | None:
    """What is odd about how tokenizer and configuration begin a text. configured: the configuration's BOS."""
    ids = codec.tokenizer("a")["input_ids"]
    added = ids[0] if len(ids) > len(codec.encode("a")) and ids[0] in codec.tokenizer.all_special_ids else None
    if codec.bos is not None and configured is not None and configured != codec.bos:
        return f"the tokenizer's BOS is {codec.bos}, the configuration's {configured}"
    if added is not None and not codec.encoder_decoder and added != configured:
        return f"the tokenizer begins a text with {added}, the configuration's BOS is {configured}"
    return None


class CodecEngine(ABC):
    """What engines that run a model here have in common: texts go through a codec, and the engine itself sees ids."""

    token_ids = True
    concurrency = 1
    servers: tuple[str, ...] = ()
    turns: Turns | None = None
    _codec: Codec
    chat: ChatSettings
    counters: WorkCounters
    #: What the model reads and multiplies, where that is known.
    cost: Cost | None

    @abstractmethod
    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """As `Engine.score`. The one method that each engine has to bring; the others are made of it and the codec."""
        ...

    def score_answers(self, items: Sequence[tuple[Prompt, str]], *, check: Check = never_stop) -> list[list[TokenScore]]:
        """As `TextEngine.score_answers`, by one call of `score`; `check` is called once, before it."""
        check()
        return self._codec.score_answers(items, self.score)

    def with_chat(self, chat: ChatSettings) -> Self:
        """As `Engine.with_chat`. The other engine shares model and tokenizer, and counts from 0."""
        chat.check(self._codec.tokenizer)
        other = copy.copy(self)
        other.chat, other._codec, other.counters = chat, replace(self._codec, chat=chat), WorkCounters()
        other.__dict__.pop("identity", None)  # it holds the hash of the template
        return other

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special token added. Raises InputError for what the tokenizer can't read."""
        return self._codec.encode(text)

    def length(self, text: str) -> int:
        """Tokens of a text, counted, without special ones."""
        return len(self._codec.encode(text))

    def encode_pair(self, prompt: Prompt, answer: str, *, split: str = "spaces") -> Pair:
        """As `Engine.encode_pair`, by the codec. Raises InputError for what the tokenizer can't read."""
        return self._codec.encode_pair(prompt, answer, split=split)
