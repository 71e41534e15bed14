"""A sample becomes token ids and a mask that says which of them are trained.

A text is BOS, the text, EOS; a prompt with its completion the same, the completion and EOS trained. In a conversation the
chat template decides the text: an assistant's turn is what it adds to the conversation before that turn with the
generation prompt, so what is trained is exactly what the model will be asked to write.
Knows tokenizers and templates; not tensors or batches.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from llmkit.engines.chat import ChatSettings, render
from llmkit.engines.codec import whole_text
from llmkit.errors import InputError, RowError, UsageError, one_line
from llmkit.models.panics import panics
from llmkit.rows.fields import Prompt
from llmkit.rows.messages import REASONING, Message
from llmkit.rows.samples import Sample, listed
from llmkit.rows.spool import Spool
from llmkit.training.languages import Directions, token_id


@dataclass(frozen=True)
class Example:
    """`tokens` of which those with `loss_mask` 1 are trained (predicted); `encoder_tokens` is what an encoder reads. line: of the row.

    bytes and words: of the text that is trained, for figures per byte and per word. rejected: the worse answer of a preference, whose
    better one this is. reference: the log-probabilities of both before the training, where they are known.
    """

    tokens: array[int]
    loss_mask: bytes
    line: int | None
    bytes: int
    words: int
    encoder_tokens: array[int] | None = None
    rejected: Example | None = None
    reference: tuple[float, float] | None = None

    @property
    def parts(self) -> tuple[Example, ...]:
        """The sequences that it puts into a batch: itself, or of a preference the better and the worse one."""
        return (self,) if self.rejected is None else (replace(self, rejected=None, reference=None), self.rejected)

    @property
    def trained(self) -> int:
        """How many tokens are trained. The first token of a sequence can't be: nothing predicts it."""
        return sum(self.loss_mask[1:]) + (0 if self.rejected is None else self.rejected.trained)

    @property
    def width(self) -> int:
        """Positions that it needs in a batch: of the longest side."""
        return max(len(self.tokens), len(self.encoder_tokens or ()), 0 if self.rejected is None else self.rejected.width)


class Examples(Spool[Example]):
    """All examples of a file, on disk, with what was cut or skipped on the way.

    tokens and trained: of all together; width: positions of the widest; longest: before it was cut; empty: lines without a trained token.
    unwritten: keys of messages that the chat template does not write, and how many examples have them. bad: rows that the model can't
    learn from. instructed: whether there are instructions, which a model without a chat template reads in a layout of their own.
    """

    def __init__(self) -> None:
        super().__init__(_to_bytes, _from_bytes)
        self.tokens = self.trained = self.width = self.longest = self.truncated = 0
        self.empty: list[int | None] = []
        self.unwritten: dict[str, int] = {}
        self.bad: list[RowError] = []
        self.instructed = False

    def append(self, item: Example) -> None:
        """As `Spool.append`; counts tokens, and keeps the widest example's width."""
        super().append(item)
        self.tokens += sum(len(part.tokens) for part in item.parts)
        self.trained += item.trained
        self.width = max(self.width, item.width)


#: line (-1: none), bytes, words, tokens, tokens of the encoder (-1: none)
_HEADER = struct.Struct("=qqqqq")
#: Bytes of the first of one or two parts.
_FIRST = struct.Struct("=q")


def _to_bytes(example: Example) -> bytes:
    first = _part_to_bytes(example)
    return _FIRST.pack(len(first)) + first + (b"" if example.rejected is None else _part_to_bytes(example.rejected))


def _from_bytes(data: bytes) -> Example:
    (end,) = _FIRST.unpack_from(data)
    first, rest = data[_FIRST.size : _FIRST.size + end], data[_FIRST.size + end :]
    example = _part_from_bytes(first)
    return replace(example, rejected=_part_from_bytes(rest)) if rest else example


def _part_to_bytes(example: Example) -> bytes:
    read = example.encoder_tokens
    counts = (len(example.tokens), -1 if read is None else len(read))
    header = _HEADER.pack(-1 if example.line is None else example.line, example.bytes, example.words, *counts)
    return header + example.tokens.tobytes() + example.loss_mask + (b"" if read is None else read.tobytes())


def _part_from_bytes(data: bytes) -> Example:
    line, size, words, count, read = _HEADER.unpack_from(data)
    tokens = array("i")
    width = tokens.itemsize
    loss_mask = _HEADER.size + count * width
    tokens.frombytes(data[_HEADER.size : loss_mask])
    encoder_tokens = None if read < 0 else array("i", data[loss_mask + count :])
    return Example(tokens, data[loss_mask : loss_mask + count], None if line < 0 else line, size, words, encoder_tokens)


#: (text, whether it is trained), in order.
Segments = list[tuple[str, bool]]


@dataclass(frozen=True)
class Encoder:
    """Samples as one model reads them. begin: the tokens that an encoder-decoder's decoder begins with, empty for a causal model."""

    tokenizer: Any
    chat: ChatSettings
    max_length: int | None
    begin: tuple[int, ...] = ()
    full_loss: bool = False
    directions: Directions | None = None

    @property
    def template(self) -> str | None:
        """The chat template that conversations and prompts go through, None for plain text."""
        return self.chat.source(self.tokenizer)

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model has an encoder, which reads the source."""
        return bool(self.begin)

    def examples(self, samples: Iterable[Sample], file_name: str, into: Examples | None = None, max_errors: int = 0) -> Examples:
        """Every sample's examples, behind those of `into`; those without a trained token are skipped and counted.

        file_name: for errors. Raises RowError for a row that the model can't learn from, InputError for more than `max_errors` of them.
        """
        out = Examples() if into is None else into
        for sample in samples:
            try:
                with row_errors(sample, file_name):
                    encoded = self.encode(sample)
            except RowError as exc:
                out.bad.append(exc)
                if len(out.bad) <= max_errors:
                    continue
                if max_errors < 1:
                    raise
                raise InputError(f"more than `max_errors` rows can't be used: {listed(out.bad)}", hint=exc.hint) from exc
            out.instructed = out.instructed or sample.plain is not None
            for name in self._unwritten(sample):
                out.unwritten[name] = out.unwritten.get(name, 0) + 1
            for example, length in encoded:
                out.longest = max(out.longest, length)
                out.truncated += length > max(len(part.tokens) for part in example.parts)
                if all(part.trained for part in example.parts):
                    out.append(example)
                else:
                    out.empty.append(sample.line)
        return out

    def encode(self, sample: Sample) -> list[tuple[Example, int]]:
        """(example, its length before it was cut to max_length). A conversation may make several.

        Raises InputError for what the model can't learn from.
        """
        if sample.rejected is not None:
            return [self._preference(sample, sample.rejected)]
        if self.encoder_decoder:
            return [self._pair(sample)]
        bos = self.tokenizer.bos_token_id
        first = [] if bos is None else [bos]
        if sample.messages is not None:
            return [self._example(segments, [], sample) for segments in self._turns(sample)]
        if sample.text is not None:
            return [self._example([(sample.text, True)], first, sample)]
        prompt, completion = self._asked(sample)
        if self.template is not None:
            turns: tuple[Message, ...] = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
            return [self._example(segments, [], sample) for segments in self._turns(replace(sample, messages=turns))]
        return [self._example([(sample.plain or prompt, self.full_loss), (completion, True)], first, sample)]

    def _preference(self, sample: Sample, rejected: dict[str, Any]) -> tuple[Example, int]:
        ((better, length),) = self.encode(replace(sample, rejected=None))
        ((worse, other),) = self.encode(replace(sample, **{**rejected, "rejected": None}))
        return replace(better, rejected=worse), max(length, other)

    def _asked(self, sample: Sample) -> tuple[str, str]:
        """Prompt and completion of a causal model: of source and target what `translate` asks, and what it wants to read."""
        direction = self.directions.of(sample) if self.directions is not None else None
        if direction is None:
            return sample.prompt or "", sample.completion or ""
        between = " " if direction.suffix else ""
        return direction.prompt(sample.prompt or "").text or "", f"{between}{sample.completion or ''}"

    def _pair(self, sample: Sample) -> tuple[Example, int]:
        if sample.prompt is None or sample.completion is None:
            raise InputError(
                f"a {sample.format} row; a sequence-to-sequence model is trained on a source and a target",
                hint="rows with 'source' and 'target', or 'prompt' and 'completion'",
            )
        direction = self.directions.of(sample) if self.directions is not None else None
        prompt = Prompt(text=sample.plain or sample.prompt) if direction is None else direction.prompt(sample.prompt)
        if prompt.first_token is None and prompt.last_token is None:
            encoder_tokens = list(self._read(whole_text(prompt.text or ""))["input_ids"])
        else:
            text = self._read(whole_text(prompt.text or ""), add_special_tokens=False)["input_ids"]
            first, last = ([] if name is None else [token_id(self.tokenizer, name)] for name in (prompt.first_token, prompt.last_token))
            encoder_tokens = [*first, *text, *self._end(text), *last]
        target = list(self._read(text_target=whole_text(sample.completion), add_special_tokens=False)["input_ids"])
        begin = self.begin
        if direction is not None and direction.start_token is not None:
            begin = (token_id(self.tokenizer, direction.start_token),)
        if direction is not None and direction.target_token is not None:
            begin, target = begin[:1], [token_id(self.tokenizer, direction.target_token), *target]
        tokens = [*begin, *target, *self._end(target)]
        cut = tokens[: self.max_length]
        loss_mask = bytes([0] * len(begin) + [1] * (len(cut) - len(begin)))[: len(cut)]
        example = _example(cut, loss_mask, sample.line, sample.completion, encoder_tokens[: self.max_length])
        return example, max(len(tokens), len(encoder_tokens) if len(encoder_tokens) > (self.max_length or len(encoder_tokens)) else 0)

    def _example(self, segments: Segments, first: list[int], sample: Sample) -> tuple[Example, int]:
        segments = [(whole_text(text), trained) for text, trained in segments]
        tokens, loss_mask = self._tokens(segments)
        while first and tokens[:1] == first:  # a text that spells the BOS out; never two
            tokens, loss_mask = tokens[1:], loss_mask[1:]
        end = self._end(tokens)
        tokens, loss_mask = [*first, *tokens, *end], [*([0] * len(first)), *loss_mask, *([1] * len(end))]
        length = len(tokens)
        tokens, loss_mask = tokens[: self.max_length], loss_mask[: self.max_length]
        if loss_mask:
            loss_mask[0] = 0
        text = "".join(text for text, trained in segments if trained)
        return _example(tokens, bytes(loss_mask), sample.line, text), length

    def _tokens(self, segments: Segments) -> tuple[list[int], list[int]]:
        """Token ids and mask. The whole text is tokenized at once where no token crosses the edge of a segment; else each alone."""
        together = self._together(segments)
        if together is not None:
            return together
        tokens: list[int] = []
        loss_mask: list[int] = []
        for text, trained in segments:
            ids = self._read(text, add_special_tokens=False)["input_ids"]
            tokens += ids
            loss_mask += [int(trained)] * len(ids)
        return tokens, loss_mask

    def _together(self, segments: Segments) -> tuple[list[int], list[int]] | None:
        if not getattr(self.tokenizer, "is_fast", False):
            return None
        encoded = self._read("".join(text for text, _ in segments), add_special_tokens=False, return_offsets_mapping=True)
        spans, at = [], 0
        for text, trained in segments:
            spans.append((at, at + len(text), int(trained)))
            at += len(text)
        loss_mask, number = [], 0
        for begin, end in encoded["offset_mapping"]:
            while number < len(spans) - 1 and begin >= spans[number][1]:
                number += 1
            if end > spans[number][1]:
                return None
            loss_mask.append(spans[number][2])
        return list(encoded["input_ids"]), loss_mask

    def _read(self, *text: str, **options: Any) -> Any:
        """The tokenizer's answer. Raises InputError: a stranger's tokenizer can raise anything."""
        with panics(lambda reason: InputError(f"the model's tokenizer can't read the text: {reason}")):
            try:
                return self.tokenizer(*text, **options)
            except MemoryError:
                raise
            except Exception as exc:
                raise InputError(f"the model's tokenizer can't read the text: {one_line(exc)}") from exc

    def _end(self, tokens: Sequence[int]) -> list[int]:
        """EOS, where the model has one and the text does not end with it already (a template may put a line end behind it)."""
        eos = self.tokenizer.eos_token_id
        return [] if eos is None or eos in list(tokens)[-2:] else [eos]

    def _turns(self, sample: Sample) -> list[Segments]:
        """One run of segments for the conversation; one for each of the assistant's turns where the template rewrites earlier turns."""
        messages = sample.messages or ()
        turns = [i for i, m in enumerate(messages) if m["role"] == "assistant" and i > 0 and i >= sample.first]
        trained = [i for i in turns if i not in sample.untrained]
        segments: Segments = []
        done = ""
        alone: list[Segments] = []
        whole = True
        for number in (i for i in turns if i <= trained[-1]):
            before, after = self._render(sample, messages[:number], True), self._render(sample, messages[: number + 1], False)
            if not after.startswith(before):
                raise InputError(
                    "the chat template does not write an answer right after its generation prompt",
                    hint="give a template that does with `chat_template` FILE",
                )
            answer = after[len(before) :]
            _check_answer(before, answer, messages[number])
            whole = whole and before.startswith(done)
            segments += [(before[len(done) :], self.full_loss), (answer, number in trained)]
            if number in trained:
                alone.append([(before, self.full_loss), (answer, True)])
            done = after
        return [segments] if whole else alone

    def _render(self, sample: Sample, messages: tuple[Message, ...], ask: bool) -> str:
        prompt = Prompt(messages=messages, tools=tuple(sample.tools or ()) or None, template_values=sample.template_values)
        return render(prompt, self.tokenizer, self.chat, ask=ask)[0]

    def _unwritten(self, sample: Sample) -> list[str]:
        """What of a conversation the chat template does not write, so that it is not trained."""
        messages, template = sample.messages, self.template
        if messages is None or template is None:
            return []
        wanted = [*(["tools"] if sample.tools else []), *(sample.template_values or ())]
        out = [name for name in wanted if name not in template]
        # earlier turns lose their reasoning in many templates, so the text does not tell; it is shown under the first two names
        if any(message.get(name) for message in messages for name in REASONING) and not any(name in template for name in REASONING[:2]):
            out.append(REASONING[0])
        names = {str(message["name"]) for message in messages if message.get("name") and message["role"] != "tool"}
        others = [message for message in messages if message["role"] not in ("user", "assistant")]
        text = self._render(sample, messages, False) if names or others else ""
        out += ["name"] if any(name not in text for name in names) else []
        out += dict.fromkeys(f"messages with role '{one_line(m['role'], 40)}'" for m in others if not _is_written(m["content"], text))
        return out


def _is_written(content: str, text: str) -> bool:
    """Whether a template wrote a message's content into `text`, perhaps stripped or as JSON."""
    content = content.strip()
    return content in text or any(json.dumps(content, ensure_ascii=ascii)[1:-1] in text for ascii in (False, True))


@contextmanager
def row_errors(sample: Sample, file_name: str) -> Iterator[None]:
    """What is wrong with a sample raises RowError with its line."""
    try:
        yield
    except RowError:
        raise
    except (InputError, UsageError) as exc:
        raise RowError(exc.message, path=file_name, line=sample.line, hint=exc.hint) from exc


def _check_answer(before: str, answer: str, message: Message) -> None:
    """Raises InputError for a template that leaves tool calls out, or that writes its generation prompt unasked.

    That prompt would be trained as part of every answer.
    """
    for call in message.get("tool_calls", ()):
        if call["function"]["name"] not in answer:
            raise InputError(
                "the chat template writes no tool calls, so there is nothing to train on",
                hint="give a template that does with `chat_template` FILE",
            )
    content = message["content"].strip()
    tail = answer.partition(content)[2].strip() if content else ""
    if tail and before.rstrip().endswith(tail):
        raise InputError(
            f"the chat template writes its generation prompt ({tail[:40]}) after an answer, too",
            hint="put it between {% if add_generation_prompt %} and {% endif %}, and give the template with `chat_template` FILE",
        )


def _example(tokens: list[int], loss_mask: bytes, line: int | None, text: str, encoder_tokens: list[int] | None = None) -> Example:
    return Example(
        array("i", tokens),
        loss_mask,
        line,
        len(text.encode("utf-8", "replace")),
        len(text.split()),
        None if encoder_tokens is None else array("i", encoder_tokens),
    )


def marked(example: Example, decode: Callable[[list[int]], str]) -> str:
    """The example as text, what is trained between « and »."""
    out: list[str] = []
    run: list[int] = []
    inside = False
    for token, loss_mask in zip(example.tokens, example.loss_mask, strict=True):
        if bool(loss_mask) != inside:
            out.append(decode(run) + ("«" if loss_mask else "»"))
            run, inside = [], bool(loss_mask)
        run.append(token)
    return "".join(out) + decode(run) + ("»" if inside else "")
