"""Which examples make which batch, and how they lie in it. A batch is a function of seed and number alone.

The data is one endless stream: a permutation of the examples for each epoch (each as often as its file's weight says), cut into steps
of which the last is smaller when the examples don't go into them evenly. A run that resumes at step n takes up the stream there.
Inside a batch, examples are packed into rows no longer than the longest of them, positions begun anew for each (no attention between
them), where the model allows; otherwise a row holds one example and examples of like length go together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from llmkit.training.examples import Example
from llmkit.training.file_mixture import FileMixture

#: Steps whose examples are sorted by length together, where rows are padded.
_GROUPED_STEPS = 32
IGNORED = -100
#: What of a batch the model reads.
INPUTS = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids")


class Stream(torch.utils.data.Dataset[list[Example]]):  # type: ignore[misc]
    """The micro-batches of a whole run in order: item i is the i-th of them.

    A step is `parts` consecutive items (gradient accumulation times processes) of at most `size` examples each; the last step
    of an epoch takes the examples that are left, and some of its items may then be empty. grouped: examples of like length
    share a step, too. mixture: of the files that the examples are from, None for one file.
    `references` are those of preferences, by the number of the example.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        size: int,
        parts: int,
        steps: int,
        seed: int,
        grouped: bool,
        mixture: FileMixture | None = None,
    ) -> None:
        self.examples, self.size, self.parts, self.steps, self.seed = examples, size, parts, steps, seed
        self.mixture = mixture or FileMixture((len(examples),))
        self.references: dict[int, tuple[float, float]] = {}
        self.window = _GROUPED_STEPS if grouped else 1
        self._order: tuple[int, np.ndarray[Any, np.dtype[np.int64]]] | None = None
        self._planned: tuple[tuple[int, int], list[list[int]]] | None = None

    @property
    def epoch_steps(self) -> int:
        """Batches per epoch, the last one smaller; each process takes its part of a batch."""
        return -(-self.mixture.size // (self.size * self.parts))

    def __len__(self) -> int:
        return self.steps * self.parts

    def __getitem__(self, item: int) -> list[Example]:
        step, part = divmod(item, self.parts)
        rows = self.step(step)
        size = -(-len(rows) // self.parts)
        chosen = rows[part * size : (part + 1) * size]
        if not self.references:
            return [self.examples[i] for i in chosen]
        return [replace(self.examples[i], reference=self.references[i]) for i in chosen]

    def step(self, number: int) -> list[int]:
        """The examples of a step, by length: each of its parts then holds examples of like length."""
        epoch, place = divmod(number, self.epoch_steps)
        window, place = divmod(place, self.window)
        if self._planned is None or self._planned[0] != (epoch, window):
            self._planned = ((epoch, window), self._plan(epoch, window))
        return self._planned[1][place]

    def rows_before(self, step: int) -> int:
        """How many examples the first `step` steps hold."""
        epoch, place = divmod(step, self.epoch_steps)
        return epoch * self.mixture.size + min(place * self.size * self.parts, self.mixture.size)

    def _plan(self, epoch: int, window: int) -> list[list[int]]:
        """The steps of a window of an epoch. The smaller step, where there is one, is the epoch's last."""
        count = self.size * self.parts
        chosen = [int(i) for i in self._permutation(epoch)[window * self.window * count : (window + 1) * self.window * count]]
        rest = len(chosen) % count
        last = [chosen[len(chosen) - rest :]] if rest else []
        chosen = chosen[: len(chosen) - rest]
        for rows in (chosen, *last):
            rows.sort(key=lambda i: (-self.examples[i].width, i))
        steps = [chosen[i : i + count] for i in range(0, len(chosen), count)]
        if self.window > 1:
            order = np.random.default_rng((self.seed, 1, epoch, window)).permutation(len(steps))
            steps = [steps[i] for i in order]
        return steps + last

    def _permutation(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, self.mixture.epoch(epoch, self.seed))
        return self._order[1]


@dataclass(frozen=True)
class Collator:
    """Examples as the tensors of a batch. pad: an id to fill rows with; packed: several examples a row."""

    pad: int
    packed: bool
    encoder_decoder: bool = False

    @property
    def blank(self) -> Example:
        """An example without a trained token, for a batch that got none: every process takes part in every step."""
        encoder_tokens = array("i", [self.pad]) if self.encoder_decoder else None
        return Example(array("i", [self.pad, self.pad]), b"\x00\x00", None, 0, 0, encoder_tokens)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """As `tensors`; of preferences the two sequences of each, one after the other.

        These get segments [rows, width], the number of the sequence that each label is of, and reference [2 * pairs], float32.
        """
        if not any(example.rejected is not None for example in examples):
            return self.tensors(examples)
        batch = self.tensors([part for example in examples for part in example.parts])
        reference = [value for example in examples for value in example.reference or (0.0, 0.0)]
        return batch | {"reference": torch.tensor(reference, dtype=torch.float32)}

    def tensors(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """input_ids and labels [rows, width] int64, labels at the position that predicts them, -100 elsewhere.

        With packed rows position_ids [rows, width], begun anew for each example; with an encoder input_ids and
        attention_mask [rows, source width] are its, decoder_input_ids and labels [rows, width] the decoder's.
        """
        examples = examples or [self.blank]
        if examples[0].encoder_tokens is not None:
            return self._pairs(examples)
        rows = pack([len(e.tokens) - 1 for e in examples]) if self.packed else [[i] for i in range(len(examples))]
        width = max(sum(len(examples[i].tokens) - 1 for i in row) for row in rows)
        ids = np.full((len(rows), width), self.pad, dtype=np.int64)
        labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        segments = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            at = 0
            for i in row:
                count = len(examples[i].tokens) - 1
                place = slice(at, at + count)
                ids[number, place], labels[number, place] = _inputs(examples[i])
                positions[number, place] = np.arange(count)
                segments[number, place] = i
                at += count
        batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "segments": torch.from_numpy(segments)}
        return batch | ({"position_ids": torch.from_numpy(positions)} if self.packed else {})

    def _pairs(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        width = max(len(e.tokens) - 1 for e in examples)
        source_width = max(len(e.encoder_tokens or ()) for e in examples)
        ids = np.full((len(examples), width), self.pad, dtype=np.int64)
        labels = np.full((len(examples), width), IGNORED, dtype=np.int64)
        sources = np.full((len(examples), source_width), self.pad, dtype=np.int64)
        mask = np.zeros((len(examples), source_width), dtype=np.int64)
        for number, example in enumerate(examples):
            count, read = len(example.tokens) - 1, len(example.encoder_tokens or ())
            ids[number, :count], labels[number, :count] = _inputs(example)
            sources[number, :read] = np.asarray(example.encoder_tokens or (), dtype=np.int64)
            mask[number, :read] = 1
        segments = np.broadcast_to(np.arange(len(examples), dtype=np.int64)[:, None], labels.shape).copy()
        names = {"input_ids": sources, "attention_mask": mask, "decoder_input_ids": ids, "labels": labels, "segments": segments}
        return {name: torch.from_numpy(value) for name, value in names.items()}


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of indices, none longer than the longest: first fit, the longest first (Johnson 1973). lengths: one at least."""
    room = max(lengths)
    rows: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((n for n, free in enumerate(left) if free >= lengths[i]), None)
        if row is None:
            rows.append([])
            left.append(room)
            row = len(rows) - 1
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows


def _inputs(example: Example) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    tokens = np.asarray(example.tokens, dtype=np.int64)
    loss_mask = np.frombuffer(example.loss_mask, dtype=np.uint8)[1:]
    return tokens[:-1], np.where(loss_mask, tokens[1:], IGNORED)


def allows_packing(model: Any, vocabulary: int) -> bool:
    """Whether two texts in one row, positions begun anew, get the scores that each gets alone. Found out by trying."""
    rng = np.random.default_rng(0)
    lengths = (7, 5)  # two short texts of different length
    first, second = (torch.from_numpy(rng.integers(0, vocabulary, (1, n))).to(model.device) for n in lengths)
    positions = torch.cat([torch.arange(n) for n in lengths])[None].to(model.device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            together = model(input_ids=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits.float()
            alone = torch.cat([model(input_ids=x, use_cache=False).logits.float() for x in (first, second)], dim=1)
    except (TypeError, ValueError, RuntimeError):  # a model that takes no positions, or none begun anew
        return False
    finally:
        model.train(was_training)
    # rounding, as a share of the largest score; attention between the texts changes scores by more than either
    bound = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((together - alone).abs().max() <= bound * alone.abs().max().clamp(min=1.0))
