"""Stops a run that has gone wrong, before the step that would spoil the weights.

Knows numbers; not models.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

from llmkit.errors import TrainingError

#: A gradient norm this many times the median of the last steps is an explosion.
_EXPLOSION = 100.0
_REMEMBERED = 50
_ENOUGH = 10


class Watch:
    """Told the loss and the gradient norm of each step, before the optimizer moves."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=_REMEMBERED)

    def tokens(self, count: int, step: int) -> None:
        """Raises TrainingError for a step whose batch holds nothing to learn."""
        if count == 0:
            raise TrainingError(f"step {step}: no token of the batch is learnt", hint="look at the rows with --dry-run")

    def loss(self, value: float, step: int) -> None:
        """Raises TrainingError for a loss that is NaN, infinite or exactly 0."""
        if math.isnan(value) or math.isinf(value):
            raise TrainingError(
                f"step {step}: the loss is {'NaN' if math.isnan(value) else 'infinite'}; the last good checkpoint is kept",
                hint="a smaller --learning-rate, --dtype float32, or look at the rows near this step",
            )
        if value == 0.0:
            raise TrainingError(
                f"step {step}: the loss is exactly 0, so nothing is being learnt; the last good checkpoint is kept",
                hint="--dry-run marks the tokens that are learnt; is the answer already in the prompt?",
            )

    def gradient(self, norm: float, step: int) -> None:
        """Raises TrainingError for a norm that is not finite, or far above those of the steps before."""
        if not math.isfinite(norm):
            raise TrainingError(
                f"step {step}: the gradients are not finite; the last good checkpoint is kept",
                hint="a smaller --learning-rate, or --dtype float32",
            )
        if len(self._norms) >= _ENOUGH and norm > _EXPLOSION * statistics.median(self._norms):
            raise TrainingError(
                f"step {step}: the gradient norm is {norm:.3g}, the median of the last {len(self._norms)} steps "
                f"{statistics.median(self._norms):.3g}; the last good checkpoint is kept",
                hint="a smaller --learning-rate, more warm-up, or look at the rows near this step",
            )
        self._norms.append(norm)
