"""The course of a training run: a picture of its losses, and one line of blocks for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"
#: Steps from which a smoothed line says more than the losses themselves; the mean goes over a twentieth of the run.
_LEAST_SMOOTHED = 40


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as blocks, lowest to highest, averaged into at most `width` of them."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in means)


def draw_losses(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A PNG of training and validation loss over steps.

    history: entries with 'step' and 'loss' or 'eval_loss' (nats a token). Needs matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trained = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    validated = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if trained:
        steps, losses = zip(*trained, strict=True)
        (raw,) = axes.plot(steps, losses, color="tab:blue", linewidth=1.8, marker="o", markersize=4, label="training")
        if len(losses) >= _LEAST_SMOOTHED:
            raw.set(alpha=0.3, linewidth=1, marker="")
            axes.plot(steps, _smooth(losses), color="tab:blue", linewidth=1.8, label="training, smoothed")
    if validated:
        axes.plot(*zip(*validated, strict=True), color="tab:orange", marker="o", markersize=4, linewidth=1.8, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="Loss over the training run")
    axes.grid(True, alpha=0.3)
    if trained or validated:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def _smooth(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a twentieth of the run, corrected for its beginning as Adam's are."""
    weight = 1 - 1 / max(1.0, len(values) / 20)
    out, mean, total = [], 0.0, 0.0
    for value in values:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        out.append(mean / total)
    return out
