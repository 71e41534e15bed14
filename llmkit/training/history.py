"""What was logged of a run, read: its best step, whether it is over, and its lines.

Knows entries as transformers' Trainer keeps them; not models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def best_step(history: Sequence[dict[str, Any]]) -> int | None:
    """The step of the lowest validation loss; None before the first evaluation."""
    evaluated = [entry for entry in history if "eval_loss" in entry]
    return min(evaluated, key=lambda entry: entry["eval_loss"])["step"] if evaluated else None


def stops_early(history: Sequence[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` evaluations have all been no better than the best before them."""
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    return patience is not None and len(losses) > patience and losses.index(min(losses)) < len(losses) - patience


_COLUMNS = ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate")


def metrics_line(entry: dict[str, Any]) -> str:
    """A log entry as a line of metrics.jsonl."""
    # in one order, whether it comes from this process or from a checkpoint
    names = [*(n for n in _COLUMNS if n in entry), *sorted(n for n in entry if n not in _COLUMNS)]
    return json.dumps({name: entry[name] for name in names}) + "\n"
