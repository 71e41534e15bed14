"""Stops a run that has gone wrong, before the step that would spoil the weights; warns of what clipping deals with.

A spike is a warning: rare rows make them, and gradients are clipped. Only what training can't come back from stops a run.
Knows numbers; not models.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

from llmkit.errors import TrainingError

#: A gradient norm this many times the median of the last steps is worth a line.
_SPIKE = 100.0
_REMEMBERED = 50
_ENOUGH = 10
#: Lines about spikes in a run.
_SPIKES_TOLD = 5
#: Steps in a row with a loss of exactly 0 that stop a run.
_ZEROS = 5
#: A run has diverged when each of its last `_REMEMBERED` losses is above this many times the mean of its first ten, and 1 more.
_DIVERGED = 1.5


class Watch:
    """Told the loss and the gradient norm of each step, before the optimizer moves. Its memory goes into the checkpoints.

    on: False only refuses what can't be trained on, a loss or gradient that is no number. warn: told about spikes.
    steps: of the whole run.
    """

    def __init__(self, warn: Callable[[str], None] = lambda _: None, *, on: bool = True, steps: int = _ZEROS) -> None:
        self._warn, self._on, self._enough_zeros = warn, on, min(_ZEROS, steps)
        self._norms: deque[float] = deque(maxlen=_REMEMBERED)
        self._losses: deque[float] = deque(maxlen=_REMEMBERED)
        self._first: list[float] = []
        self._zeros = self._spikes = 0

    def state(self) -> dict[str, Any]:
        """What it remembers, for JSON: with it a resumed run gets the verdicts of an uninterrupted one."""
        return {
            "norms": list(self._norms),
            "losses": list(self._losses),
            "first": self._first,
            "zeros": self._zeros,
            "spikes": self._spikes,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave. Raises ValueError for what it did not give."""
        lists, counts = [state.get(name) for name in ("norms", "losses", "first")], [state.get(name) for name in ("zeros", "spikes")]
        if not all(isinstance(each, list) and all(isinstance(n, int | float) for n in each) for each in lists) or not all(
            type(each) is int for each in counts
        ):
            raise ValueError("not what the watch remembers")
        self._norms.extend(state["norms"])
        self._losses.extend(state["losses"])
        self._first = list(state["first"])
        self._zeros, self._spikes = state["zeros"], state["spikes"]

    def tokens(self, count: int, step: int) -> None:
        """Raises TrainingError for a step whose batch holds no trained token."""
        if count == 0:
            raise TrainingError(f"step {step}: no token of the batch is trained", hint="look at the rows with `dry_run`")

    def finite(self, value: float, step: int) -> None:
        """Raises TrainingError for a loss that is NaN or infinite."""
        if not math.isfinite(value):
            raise self.gone_wrong(f"the loss is {'NaN' if math.isnan(value) else 'infinite'}", step)

    def loss(self, value: float, step: int) -> None:
        """The loss of a whole step. Raises TrainingError when it is not finite, stays exactly 0, or has diverged."""
        self.finite(value, step)
        self._zeros = self._zeros + 1 if value == 0.0 else 0
        self._losses.append(value)
        if len(self._first) < _ENOUGH:
            self._first.append(value)
        if not self._on:
            return
        if self._zeros >= self._enough_zeros:
            hint = "`dry_run` marks the tokens that are trained; is the answer already in the prompt?"
            raise self.gone_wrong(f"the loss has been exactly 0 for {self._zeros} steps, so nothing is trained", step, hint)
        bound = _DIVERGED * statistics.fmean(self._first) + 1
        if len(self._losses) == _REMEMBERED and min(self._losses) > bound:
            raise self.gone_wrong(
                f"training has diverged: the loss began at {statistics.fmean(self._first):.3g} and has been above {bound:.3g} "
                f"for {_REMEMBERED} steps", step,
            )  # fmt: skip

    def gradient(self, norm: float, step: int) -> None:
        """Warns of a norm far above those of the steps before. Raises TrainingError for one that is not finite, or stays exactly 0."""
        if not math.isfinite(norm):
            raise self.gone_wrong("the gradients are not finite", step)
        if self._on and len(self._norms) >= _ENOUGH and norm > _SPIKE * statistics.median(self._norms):
            self._spikes += 1
            if self._spikes <= _SPIKES_TOLD:
                median = statistics.median(self._norms)
                last = "; further such warnings are not shown" if self._spikes == _SPIKES_TOLD else ""
                self._warn(
                    f"step {step}: the gradient norm is {norm:.3g}, the median of the last {len(self._norms)} steps {median:.3g}{last}"
                )
        self._norms.append(norm)
        if self._on and len(self._norms) >= _ENOUGH and not any(list(self._norms)[-_ENOUGH:]):
            raise self.gone_wrong(f"the gradients have been exactly 0 for {_ENOUGH} steps, so nothing is trained", step)

    @staticmethod
    def gone_wrong(
        what: str, step: int, hint: str = "a smaller `learning_rate`, `dtype` float32, or look at the rows near this step"
    ) -> TrainingError:
        """The error that stops a run at `step`."""
        return TrainingError(f"step {step}: {what}", hint=hint)
