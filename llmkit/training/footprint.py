"""The memory of a training run, measured on the model itself: what it keeps for two short texts tells what it keeps for the run's batches.

A formula per architecture would have to know its kernels, its dropout and its gates; autograd tells what it keeps. Knows models
and batches; not rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from llmkit.engines.torch.scoring import Head, piece
from llmkit.training.batches import INPUTS, Collator, Stream, pack
from llmkit.training.examples import Example

#: Tokens of the two texts, and rows of them from which a batch keeps what any number of rows does: of one, some is a view that is
#: copied for more.
_SHORT, _LONG, _ROWS = 16, 48, 2
#: Steps of the run whose batches are looked at.
_STEPS = 100
#: glibc gives tensors up to this size a place between others, and what is freed between them stays taken: measured on ten runs
#: of Llama, GPT-2, T5, Qwen2 and GPT-NeoX with torch 2.13.
_BETWEEN, _SCATTERED, _EXACT = 32 << 20, 1.9, 1.1
#: Python, torch and the libraries in a process that trains on a CPU.
_PROGRAM = 520 << 20


@dataclass(frozen=True)
class Shape:
    """A batch: rows of `width` positions."""

    rows: int
    width: int

    @property
    def positions(self) -> int:
        """Positions of a batch, padding included."""
        return self.rows * self.width


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps, tensor by tensor: constant + rows * (linear * width + square * width^2) each."""

    terms: tuple[tuple[float, float, float], ...]

    def bytes(self, shape: Shape, *, cpu: bool) -> int:
        """For a batch of a shape, with what an allocator loses between tensors."""
        total = 0.0
        for constant, linear, square in self.terms:
            size = constant + shape.rows * (linear * shape.width + square * shape.width**2)
            total += size * (_SCATTERED if cpu and size < _BETWEEN else _EXACT)
        return int(total)


def shapes(stream: Stream, collate: Collator) -> list[Shape]:
    """The micro-batches of the first steps, as they lie in memory."""
    out = []
    for step in range(min(stream.steps, _STEPS)):
        for part in range(stream.parts):
            examples = stream[step * stream.parts + part] or [collate.blank]
            lengths = [part.width - (part.encoder_tokens is None) for e in examples for part in e.parts]
            out.append(Shape(len(pack(lengths)) if collate.packed else len(lengths), max(lengths)))
    return out


def kept(model: Any, head: Head | None, collate: Collator, rows: int) -> Kept:
    """What the model keeps for its backward pass, in bytes. The model, its mode and the random state are left as they are.

    rows: of the batches that are asked about. head: left out, since the loss goes through it piece by piece (see `score_bytes`); None
    where scores are more than a matrix product.
    """
    was_training, rows = model.training, min(rows, _ROWS)
    model.train()
    cuda = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            short, long = (_sizes(model, head, collate, rows, width) for width in (_SHORT, _LONG))
    finally:
        model.train(was_training)
    if len(short) != len(long):  # more tensors for a longer text: taken together
        short, long = [sum(short)], [sum(long)]
    return Kept(tuple(_terms(a, b, rows) for a, b in zip(short, long, strict=True)))


def score_bytes(shape: Shape, vocabulary: int, device: torch.device, *, whole: bool) -> int:
    """Bytes of scores, their logarithms and their gradient in float32: of a piece of the tokens, or of all.

    whole: the head can't be taken apart, so the scores of all tokens are made at once.
    """
    tokens = shape.positions if whole else min(shape.positions, piece(vocabulary, device))
    return 3 * 4 * tokens * vocabulary


def program_bytes(device: torch.device) -> int:
    """Bytes that the program takes of the device's memory before it does anything."""
    return _PROGRAM if device.type == "cpu" else 0


def _terms(short: int, long: int, rows: int) -> tuple[float, float, float]:
    """A tensor's size at two widths as constant, linear and square parts, the last two of each row."""
    if short == long:
        return float(short), 0.0, 0.0
    square = max(0.0, (long - short * _LONG / _SHORT) / (_LONG**2 - _SHORT * _LONG))
    return 0.0, (short / _SHORT - square * _SHORT) / rows, square / rows


def _sizes(model: Any, head: Head | None, collate: Collator, rows: int, width: int) -> list[int]:
    """Bytes of each storage that autograd keeps for `rows` texts of `width` tokens, in the order in which they are kept."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    tokens = array("i", [collate.pad] * (width + (not collate.encoder_decoder)))
    encoder_tokens = array("i", [collate.pad] * width) if collate.encoder_decoder else None
    example = Example(tokens, b"\x00" + b"\x01" * (len(tokens) - 1), None, 0, 0, encoder_tokens)
    batch = {name: value.to(model.device) for name, value in collate([example] * rows).items() if name in INPUTS}
    seen: dict[int, int] = {}
    with _recording(own, seen) as alive, head.left_out() if head is not None else nullcontext():
        model(**batch, use_cache=False)
        alive.clear()
    return list(seen.values())


@contextmanager
def _recording(own: set[int], seen: dict[int, int]) -> Iterator[list[torch.Tensor]]:
    """Notes the storages that are kept for the backward pass, but those of the model."""
    alive: list[torch.Tensor] = []  # a storage that is freed would give its address to another

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield alive


def widest(batches: Sequence[Shape]) -> Shape:
    """The batch with most positions."""
    return max(batches, key=lambda shape: (shape.positions, shape.width))
