"""A sample becomes token ids and a mask that says which of them are learnt.

A text is BOS, the text, EOS; a prompt with its completion the same, the completion and EOS learnt. In a conversation the
chat template decides the text: an assistant's turn is what it adds to the conversation before that turn with the
generation prompt, so what is learnt is exactly what the model will be asked to write.
Knows tokenizers and templates; not tensors or batches.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.engines.chat import ChatSettings, render
from llmkit.errors import InputError, RowError
from llmkit.rows.fields import Message, Prompt
from llmkit.rows.samples import Sample
from llmkit.rows.spool import Spool


@dataclass(frozen=True)
class Example:
    """`tokens` of which those with `learnt` 1 are predicted; `source` is what an encoder reads. line: of the row.

    bytes and words: of the text that is learnt, for figures per byte and per word.
    """

    tokens: array[int]
    learnt: bytes
    line: int | None
    bytes: int
    words: int
    source: array[int] | None = None

    @property
    def trained(self) -> int:
        """How many tokens are learnt. The first token of a sequence can't be: nothing predicts it."""
        return sum(self.learnt[1:])

    @property
    def width(self) -> int:
        """Positions that it needs in a batch: of the longer side."""
        return max(len(self.tokens), len(self.source or ()))


class Examples(Spool[Example]):
    """All examples of a file, on disk, with what was cut or left out on the way.

    tokens and trained: of all together; width: positions of the widest; longest: before it was cut; empty: lines left out.
    """

    def __init__(self) -> None:
        super().__init__(_packed, _unpacked)
        self.tokens = self.trained = self.width = self.longest = self.truncated = 0
        self.empty: list[int | None] = []

    def append(self, item: Example) -> None:
        super().append(item)
        self.tokens += len(item.tokens)
        self.trained += item.trained
        self.width = max(self.width, item.width)


#: line (-1: none), bytes, words, tokens, tokens of the source (-1: none)
_HEADER = struct.Struct("=qqqqq")


def _packed(example: Example) -> bytes:
    source = example.source
    counts = (len(example.tokens), -1 if source is None else len(source))
    header = _HEADER.pack(-1 if example.line is None else example.line, example.bytes, example.words, *counts)
    return header + example.tokens.tobytes() + example.learnt + (b"" if source is None else source.tobytes())


def _unpacked(data: bytes) -> Example:
    line, size, words, count, read = _HEADER.unpack_from(data)
    tokens = array("i")
    width = tokens.itemsize
    learnt = _HEADER.size + count * width
    tokens.frombytes(data[_HEADER.size : learnt])
    source = None if read < 0 else array("i", data[learnt + count :])
    return Example(tokens, data[learnt : learnt + count], None if line < 0 else line, size, words, source)


#: (text, whether it is learnt), in order.
Segments = list[tuple[str, bool]]


@dataclass(frozen=True)
class Encoder:
    """Samples as one model reads them. start: the token an encoder-decoder's decoder begins with, None for a causal model."""

    tokenizer: Any
    chat: ChatSettings
    max_length: int | None
    start: int | None = None
    full_loss: bool = False

    @property
    def encoder_decoder(self) -> bool:
        return self.start is not None

    def examples(self, samples: Iterable[Sample], source: str) -> Examples:
        """Every sample's examples; those without a token to learn are left out and counted."""
        out = Examples()
        for sample in samples:
            try:
                found = self.encode(sample)
            except RowError:
                raise
            except InputError as exc:
                raise RowError(exc.message, path=source, line=sample.line, hint=exc.hint) from exc
            for example, length in found:
                out.longest = max(out.longest, length)
                out.truncated += length > len(example.tokens)
                if example.trained:
                    out.append(example)
                else:
                    out.empty.append(sample.line)
        return out

    def encode(self, sample: Sample) -> list[tuple[Example, int]]:
        """(example, its length before it was cut to max_length). A conversation may make several.

        Raises InputError for what the model can't learn from.
        """
        if self.encoder_decoder:
            return [self._pair(sample)]
        bos = self.tokenizer.bos_token_id
        first = [] if bos is None else [bos]
        if sample.messages is not None:
            return [self._example(segments, [], sample) for segments in self._turns(sample.messages, sample.first)]
        if sample.text is not None:
            return [self._example([(sample.text, True)], first, sample)]
        if self.chat.source(self.tokenizer) is not None:
            turns: tuple[Message, ...] = (
                {"role": "user", "content": sample.prompt or ""},
                {"role": "assistant", "content": sample.completion or ""},
            )
            return [self._example(segments, [], sample) for segments in self._turns(turns, 0)]
        return [self._example([(sample.prompt or "", self.full_loss), (sample.completion or "", True)], first, sample)]

    def _pair(self, sample: Sample) -> tuple[Example, int]:
        if sample.prompt is None or sample.completion is None:
            raise InputError(
                f"a {sample.format} row; a sequence-to-sequence model learns a target from a source",
                hint="rows with 'source' and 'target', or 'prompt' and 'completion'",
            )
        source = list(self.tokenizer(sample.prompt)["input_ids"])
        target = list(self.tokenizer(text_target=sample.completion, add_special_tokens=False)["input_ids"])
        tokens = [self.start or 0, *target, *self._end(target)]
        cut = tokens[: self.max_length]
        learnt = bytes([0] + [1] * (len(cut) - 1))
        example = _example(cut, learnt, sample.line, sample.completion, source[: self.max_length])
        return example, max(len(tokens), len(source) if len(source) > (self.max_length or len(source)) else 0)

    def _example(self, segments: Segments, first: list[int], sample: Sample) -> tuple[Example, int]:
        tokens, learnt = self._tokens(segments)
        while first and tokens[:1] == first:  # a text that spells the BOS out; never two
            tokens, learnt = tokens[1:], learnt[1:]
        end = self._end(tokens)
        tokens, learnt = [*first, *tokens, *end], [*([0] * len(first)), *learnt, *([1] * len(end))]
        length = len(tokens)
        tokens, learnt = tokens[: self.max_length], learnt[: self.max_length]
        if learnt:
            learnt[0] = 0
        text = "".join(text for text, trained in segments if trained)
        return _example(tokens, bytes(learnt), sample.line, text), length

    def _tokens(self, segments: Segments) -> tuple[list[int], list[int]]:
        """Token ids and mask. The whole text is tokenized at once where no token crosses the edge of a segment; else each alone."""
        together = self._together(segments)
        if together is not None:
            return together
        tokens: list[int] = []
        learnt: list[int] = []
        for text, trained in segments:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            tokens += ids
            learnt += [int(trained)] * len(ids)
        return tokens, learnt

    def _together(self, segments: Segments) -> tuple[list[int], list[int]] | None:
        if not getattr(self.tokenizer, "is_fast", False):
            return None
        encoded = self.tokenizer("".join(text for text, _ in segments), add_special_tokens=False, return_offsets_mapping=True)
        spans, at = [], 0
        for text, trained in segments:
            spans.append((at, at + len(text), int(trained)))
            at += len(text)
        learnt, number = [], 0
        for begin, end in encoded["offset_mapping"]:
            while number < len(spans) - 1 and begin >= spans[number][1]:
                number += 1
            if end > spans[number][1]:
                return None
            learnt.append(spans[number][2])
        return list(encoded["input_ids"]), learnt

    def _end(self, tokens: Sequence[int]) -> list[int]:
        """EOS, where the model has one and the text does not end with it already (a template may put a line end behind it)."""
        eos = self.tokenizer.eos_token_id
        return [] if eos is None or eos in list(tokens)[-2:] else [eos]

    def _turns(self, messages: tuple[Message, ...], first: int) -> list[Segments]:
        """One run of segments for the conversation; one for each of the assistant's turns where the template rewrites earlier turns."""
        segments: Segments = []
        done = ""
        alone: list[Segments] = []
        whole = True
        for number, message in enumerate(messages):
            if message["role"] != "assistant" or number == 0 or number < first:
                continue
            before, after = self._render(messages[:number], True), self._render(messages[: number + 1], False)
            if not after.startswith(before):
                raise InputError(
                    "the chat template does not write an answer right after its generation prompt",
                    hint="give a template that does with --chat-template FILE",
                )
            _check_tail(before, after, message["content"])
            whole = whole and before.startswith(done)
            segments += [(before[len(done) :], self.full_loss), (after[len(before) :], True)]
            alone.append([(before, self.full_loss), (after[len(before) :], True)])
            done = after
        return [segments] if whole else alone

    def _render(self, messages: tuple[Message, ...], ask: bool) -> str:
        return render(Prompt(messages=messages), self.tokenizer, self.chat, ask=ask)[0]


def _check_tail(before: str, after: str, content: str) -> None:
    """A template that writes its generation prompt unasked would have it learnt as part of every answer."""
    tail = after[len(before) :].partition(content.strip())[2].strip()
    if tail and before.rstrip().endswith(tail):
        raise InputError(
            f"the chat template writes its generation prompt ({tail[:40]}) after an answer, too",
            hint="put it between {% if add_generation_prompt %} and {% endif %}, and give the template with --chat-template FILE",
        )


def _example(tokens: list[int], learnt: bytes, line: int | None, text: str, source: list[int] | None = None) -> Example:
    return Example(
        array("i", tokens),
        learnt,
        line,
        len(text.encode("utf-8", "replace")),
        len(text.split()),
        None if source is None else array("i", source),
    )


def marked(example: Example, decode: Callable[[list[int]], str]) -> str:
    """The example as text, what is learnt between « and »."""
    out: list[str] = []
    run: list[int] = []
    inside = False
    for token, learnt in zip(example.tokens, example.learnt, strict=True):
        if bool(learnt) != inside:
            out.append(decode(run) + ("«" if learnt else "»"))
            run, inside = [], bool(learnt)
        run.append(token)
    return "".join(out) + decode(run) + ("»" if inside else "")
