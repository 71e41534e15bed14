"""How long a run takes, by trying each of its parts once: a step, an evaluation, the answers to its prompts, a checkpoint.

Knows runs; not rows.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmkit.training.examples import Examples
from llmkit.training.run import Ready, RunPlan, train

#: Steps that are timed before a run's length is told.
TIMED_STEPS = 2
#: Rows that are scored to tell how long it takes to score all of them.
_SCORED = 32
#: Bytes that are written to tell how long a checkpoint takes.
_WRITTEN = 64 << 20


@dataclass(frozen=True)
class Timing:
    """Seconds of a step on average, of an evaluation on the validation rows, of answering the run's prompts, of a checkpoint.

    references: of scoring the rows of preferences before the first step.
    """

    step: float
    evaluation: float
    answers: float = 0.0
    references: float = 0.0
    checkpoint: float = 0.0

    def of_run(self, plan: RunPlan) -> float:
        """Seconds of the whole run.

        With its evaluations: those on the way, the last one, and those before and after; prompts are answered before the first step, too.
        An evaluation is followed by a checkpoint when it is the best yet, which most are.
        """
        evaluations = -(-plan.steps // plan.checkpoints.evaluate_every(plan.steps))
        checkpoints = max(-(-plan.steps // plan.checkpoints.every(plan.steps)), evaluations if plan.valid else 0)
        return (
            self.step * plan.steps
            + self.evaluation * (evaluations + 2)
            + self.answers * (evaluations + 1)
            + self.checkpoint * checkpoints
            + self.references
        )


def timed(ready: Ready) -> Timing:
    """How long the parts of a run take: two steps are trained and thrown away, and the others are tried on a part."""
    from llmkit.training.eval_answers import answering

    plan = ready.plan
    step = _timed_step(ready)
    evaluation = _timed_scores(ready, plan.valid) * (2 if plan.preference else 1)
    # the reference scores both answers of every row that the run uses, and those of the validation rows
    used = min(1.0, plan.stream(plan.steps, ready.packed).rows_before(plan.steps) / plan.mixture.size)
    references = 2 * used * _timed_scores(ready, plan.train) + evaluation if plan.preference else 0.0
    answer = answering(ready)
    return Timing(step, evaluation, 0.0 if answer is None else _seconds(answer), references, _timed_checkpoint(ready))


def _seconds(part: Callable[[], Any]) -> float:
    begun = time.monotonic()
    part()
    return time.monotonic() - begun


def _timed_scores(ready: Ready, examples: Examples) -> float:
    """Seconds to score each example once, by some of them."""
    from llmkit.training.validation import likelihoods

    if not examples:
        return 0.0
    some = range(0, len(examples), -(-len(examples) // _SCORED))
    seconds = _seconds(lambda: likelihoods(ready.model, examples, pad=ready.plan.pad, chosen=some))
    return seconds * sum(example.width for example in examples) / sum(examples[i].width for i in some)


def _timed_step(ready: Ready) -> float:
    """The second of two steps, scaled to the batches of the run."""
    from llmkit.training.trainer import Hooks

    ends: list[float] = []
    train(ready, None, steps=TIMED_STEPS, hooks=Hooks(step=lambda *_: ends.append(time.monotonic())))
    mean = sum(ready.positions) / len(ready.positions)
    return (ends[-1] - ends[-2]) * mean / ready.positions[min(1, len(ready.positions) - 1)]


def _timed_checkpoint(ready: Ready) -> float:
    """Seconds to write a checkpoint, sync it to the disk and hash it: the weights that are trained and the optimizer's two moments."""
    size = 12 * ready.trained
    data = bytes(min(size, _WRITTEN))

    def write() -> None:
        # a full temporary folder is no reason to end a look at the run
        with suppress(OSError), tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        hashlib.sha256(data)

    return _seconds(write) * size / max(len(data), 1)
