"""A learning rate found by trying: how the loss goes while the rate grows from step to step.

The range test of Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3. Nothing of it is kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmkit.errors import LlmkitError, TrainingError, UsageError

if TYPE_CHECKING:
    from llmkit.training.run import Ready

#: Rates that are tried, and how many.
FIRST, LAST, STEPS = 1e-6, 1.0, 100
#: Of each loss that the mean of those before keeps.
_KEPT = 0.9
#: Steps until that mean has settled, and steps at rates so low that their losses differ by the rows alone.
_SETTLED, _STILL = 10, 20
#: The test ends when the mean is this many times its lowest.
_BLOWN_UP = 3.0


@dataclass(frozen=True)
class LrFinderResult:
    """Rates in rising order, the loss of the step at each, and the rate to take; None where the losses don't show one clearly."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float | None


def rising(first: float = FIRST, last: float = LAST, steps: int = STEPS) -> tuple[float, ...]:
    """`steps` rates from `first` to `last`, each the same number of times the one before."""
    return tuple(first * (last / first) ** (i / (steps - 1)) for i in range(steps))


def smooth(losses: Sequence[float]) -> list[float]:
    """Exponential means of the losses up to each, corrected for their beginning."""
    out, mean = [], 0.0
    for number, loss in enumerate(losses, 1):
        mean = _KEPT * mean + (1 - _KEPT) * loss
        out.append(mean / (1 - _KEPT**number))
    return out


def suggestion(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the mean loss falls fastest before its lowest point.

    None where it falls by no more than the losses of the lowest rates differ from each other: then the rows may have made the fall.
    """
    means = smooth(losses)[_SETTLED:]
    lowest = means.index(min(means)) if means else 0
    if not lowest or means[0] - means[lowest] <= statistics.pstdev(losses[:_STILL]):
        return None
    falls = [means[i + 1] - means[i] for i in range(lowest)]
    return rates[_SETTLED + falls.index(min(falls))]


def try_rates(ready: Ready) -> LrFinderResult:
    """Trains the run's first steps at rising rates, until the loss blows up. Raises UsageError for a run that is too short to tell."""
    from llmkit.training.run import train
    from llmkit.training.trainer import Hooks

    rates, losses = rising(), list[float]()

    def due() -> LlmkitError | None:
        means = smooth(losses)
        return TrainingError("the loss has diverged") if means and means[-1] > _BLOWN_UP * min(means) else None

    try:
        train(ready, None, steps=len(rates), hooks=Hooks(step=lambda _, loss, *__: losses.append(loss), due=due), rates=rates)
    except TrainingError as exc:  # NaN: the end of the range
        if not losses:
            raise UsageError(f"no learning rate can be found: {exc.message}", hint=exc.hint) from exc
    tried = rates[: len(losses)]
    return LrFinderResult(tried, tuple(losses), suggestion(tried, losses))
