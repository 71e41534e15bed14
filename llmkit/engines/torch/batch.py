"""What `generate` of transformers gets for a batch, and what it reports: its configuration, which rows run together, its stream.

Knows settings and rows; not how text becomes tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from llmkit.engines.base import Request
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import TextStream
from llmkit.engines.torch.devices import is_out_of_memory
from llmkit.errors import ModelError, OutOfMemoryError, counted, one_line

#: What Python raises by itself; a closed pipe and our own errors are none of these.
_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError)

#: What to look at in a model's configuration for what a library said of it; None for nothing.
LookAt = Callable[[str], str | None]
#: Above it, rows of different limits do not share a beam search.
_MOST_LENGTH_PENALTY = 2.0


def parts(
    rows: Sequence[Request],
    decoding: Decoding,
    context: int | None,
    *,
    shared_context: bool,
    alone: bool = False,
    together: int | None = None,
) -> list[list[int]]:
    """Which rows run together (none where each has to run `alone`).

    A row that has ended is padded until the others have, which must stay inside the context.

    context: positions of the model; shared_context: prompt and answer share them. together: tokens beyond which a row runs alone.
    """
    if alone:
        return [[row] for row in range(len(rows))]
    out = [[i] for i, row in enumerate(rows) if together is not None and len(row.tokens) + row.max_new_tokens > together]
    left = sorted(set(range(len(rows))) - {i for (i,) in out}, key=lambda i: (-rows[i].max_new_tokens, i))
    # with a large penalty, transformers' score of an impossible beam (-1e9) no longer is the lowest once it is divided
    apart = decoding.num_beams > 1 and decoding.length_penalty > _MOST_LENGTH_PENALTY
    while left:
        longest = rows[left[0]].max_new_tokens

        def fits(row: Request, limit: int = longest) -> bool:
            shared = len(row.tokens) if shared_context else 0
            return context is None or row.max_new_tokens == limit or shared + limit <= context

        part = [i for i in left if fits(rows[i]) and (not apart or rows[i].max_new_tokens == longest)]
        out.append(sorted(part))
        left = [i for i in left if i not in set(part)]
    return out


def decoding_config(
    own: GenerationConfig,
    decoding: Decoding,
    new_tokens: int,
    *,
    pad: int,
    eos: frozenset[int],
    first_token: int | None,
    start_token: int | None,
) -> GenerationConfig:
    """What of the model's own configuration is in force (see generation_config.py), and our decoding."""
    config: GenerationConfig = copy.deepcopy(own)
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
        pad_token_id=pad,
        eos_token_id=sorted(eos) or None,
        prompt_lookup_num_tokens=decoding.prompt_lookup,
        use_cache=True,
    )
    if first_token is not None:
        config.forced_bos_token_id = first_token
    if start_token is not None:
        config.update(decoder_start_token_id=start_token, forced_bos_token_id=None)
    return config


@contextmanager
def own_settings(configs: Sequence[tuple[Any, GenerationConfig]]) -> Iterator[None]:
    """Inside the block each model has the generation configuration beside it.

    generate() takes what its argument leaves open from the model's own configuration, which is the caller's and is put back.
    """
    before = [(model, model.generation_config) for model, _ in configs]
    for model, config in configs:
        model.generation_config = config
    try:
        yield
    finally:
        for model, config in before:
            model.generation_config = config


@contextmanager
def running(reference: str, rows: int, look_at: LookAt = lambda reason: None) -> Iterator[None]:
    """What a model raises while it runs, as an error of ours. look_at: what may be the cause of a reason.

    A stranger's configuration may build a model that can't run, which shows in any of Python's exceptions.
    Raises OutOfMemoryError, ModelError.
    """
    try:
        yield
    except _RAISED as exc:
        if is_out_of_memory(exc):
            hint = "a smaller `batch_size` or `max_new_tokens`"
            raise OutOfMemoryError(f"out of memory with {counted(rows, 'row')} at once", hint=hint) from exc
        raise ModelError(
            f"{reference}: the model can't be run: {type(exc).__name__}: {one_line(exc)}",
            hint=look_at(str(exc)) or "is its config.json complete? copy or download the model again",
        ) from exc


class Streamer(BaseStreamer):  # type: ignore[misc]
    """Hands new tokens to a TextStream, and its text on."""

    def __init__(self, text: TextStream, write: Callable[[str], None], ends: frozenset[int]) -> None:
        self.text, self.write, self.ends = text, write, ends
        self.prompt_pending = True
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        """value: token ids, of any shape. The first call brings the prompt, which is not shown; nothing is after an end token."""
        if self.prompt_pending:
            self.prompt_pending = False
            return
        for token in value.flatten().tolist():
            self.ended = self.ended or token in self.ends
            if not self.ended:
                self.write(self.text.push([token]))

    def end(self) -> None:
        """The engine itself shows what is left of the text."""
