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
            raise self.gone_wrong(f"the loss is {'NaN' if math.isnan(value) else 'infinite'}", step)
        if value == 0.0:
            hint = "--dry-run marks the tokens that are learnt; is the answer already in the prompt?"
            raise self.gone_wrong("the loss is exactly 0, so nothing is being learnt", step, hint)

    def gradient(self, norm: float, step: int) -> None:
        """Raises TrainingError for a norm that is not finite, or far above those of the steps before."""
        if not math.isfinite(norm):
            raise self.gone_wrong("the gradients are not finite", step)
        if len(self._norms) >= _ENOUGH and norm > _EXPLOSION * statistics.median(self._norms):
            median = statistics.median(self._norms)
            raise self.gone_wrong(f"the gradient norm is {norm:.3g}, the median of the last {len(self._norms)} steps {median:.3g}", step)
        self._norms.append(norm)

    @staticmethod
    def gone_wrong(
        what: str, step: int, hint: str = "a smaller --learning-rate, --dtype float32, or look at the rows near this step"
    ) -> TrainingError:
        return TrainingError(f"step {step}: {what}; the last good checkpoint is kept", hint=hint)
