"""Loss against model size with a fitted power law, as a picture.

L(N) = (N_c / N)^alpha: Kaplan et al., Scaling Laws for Neural Language Models (2020), equation 1.1, a straight line where both
axes are logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError, OutputError, UnavailableError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Labels of the losses within a decade, and where all losses are close together.
_TICKS, _FINE_TICKS = (1, 1.5, 2, 3, 5, 7), (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
#: Characters of a model's name that a picture shows.
_LONGEST_LABEL = 32
#: Bytes of a plot, at most.
_MOST = 1 << 22
#: Points between the smallest and the largest model, and of a letter of a name.
_WIDTH, _LETTER = 330, 5.5


def check(path: str) -> None:
    """Refuses a plot that could not be drawn, before anything is computed. Raises UsageError, OutputError or UnavailableError."""
    import importlib.util

    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"`plot` {path}: plots are .png, .svg or .pdf")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"`plot` {path}: there is no folder {Path(path).absolute().parent}")
    if Path(path).exists() and not _drawn(Path(path)):
        raise OutputError(f"`plot` {path}: exists, and is no plot of llmkit", hint="name another file, or move it away")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("`plot` needs matplotlib", hint="pip install 'llmkit[plot]'")


def _drawn(path: Path) -> bool:
    """Whether a file is empty or names matplotlib, as each picture does that it makes."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST) if path.is_file() else b"?"
    except OSError:
        return False
    return not content or b"atplotlib" in content


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(alpha, N_c) of the least-squares line through log L over log N.

    points: (parameters, loss), of two different sizes at least. Raises InputError.
    """
    import numpy as np

    sizes, losses = np.log([n for n, _ in points]), np.log([loss for _, loss in points])
    if len(set(sizes.tolist())) < 2:
        raise InputError("a power law needs models of at least two sizes")
    slope, intercept = np.polyfit(sizes, losses, 1)
    alpha = -float(slope)
    return alpha, float(np.exp(intercept / alpha)) if alpha else float("inf")


@dataclass(frozen=True)
class Point:
    """A model's loss. name: of its result; interval: of the loss, 95%."""

    name: str
    parameters: int
    loss: float
    interval: tuple[float, float] | None = None


def draw(points: Sequence[Point], metric: str, path: str) -> dict[str, Any]:
    """Draws the points with their intervals and the law, and describes the fit."""
    picture(points, metric).savefig(path, dpi=150)
    alpha, scale = fit([(p.parameters, p.loss) for p in points])
    formula = f"L(N) = (N_c / N)^{alpha:.3f}, N_c = {scale:.3g}"
    return {"metric": metric, "alpha": alpha, "n_c": scale, "formula": formula, "points": [[p.parameters, p.loss] for p in points]}


def picture(points: Sequence[Point], metric: str) -> Figure:
    """The points with their names and intervals, and the law through them, as a figure of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    alpha, scale = fit([(p.parameters, p.loss) for p in points])
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sizes, losses = [p.parameters for p in points], [p.loss for p in points]
    ends = [min(sizes) / 1.3, max(sizes) * 1.3]
    legend = rf"$L(N) = (N_c / N)^{{{alpha:.3f}}}$, $N_c = {_power_of_ten(scale)}$"
    axes.plot(ends, [(scale / n) ** alpha for n in ends], color="0.6", linewidth=1.5, label=legend)
    drawn = [p for p in points if p.interval is not None]
    if drawn:
        reach = [
            [max(p.loss - p.interval[0], 0) for p in drawn if p.interval],
            [max(p.interval[1] - p.loss, 0) for p in drawn if p.interval],
        ]
        place = ([p.parameters for p in drawn], [p.loss for p in drawn])
        axes.errorbar(*place, yerr=reach, fmt="none", ecolor="tab:blue", elinewidth=1.2, capsize=3, label="95% interval")
    axes.scatter(sizes, losses, color="tab:blue", zorder=3)
    label = metric.replace("_", " ")
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=label, title=f"{label[0].upper()}{label[1:]} against model size")
    axes.yaxis.set_major_locator(LogLocator(10, subs=_TICKS if max(losses) > 3 * min(losses) else _FINE_TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    axes.margins(0.12)
    _label(axes, points, alpha, scale)
    return figure


def _label(axes: Any, points: Sequence[Point], alpha: float, scale: float) -> None:
    """Names beside the points: on the point's side of the line where there is room for it, else towards the middle of the axes.

    A falling line is open above on the right and below on the left; a rising one the other way. A name on the other side of the line
    than its point has a thin line to it.
    """
    from matplotlib.transforms import ScaledTranslation

    low, high = min(p.parameters for p in points), max(p.parameters for p in points)
    far = 0.05 * math.log(max(p.loss for p in points) / min(p.loss for p in points))
    leader = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5}
    for p in points:
        name = Path(p.name).stem
        shown = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
        on_line = (scale / p.parameters) ** alpha
        position = math.log(p.parameters / low) / math.log(high / low) if high > low else 0.5
        left = (p.loss < on_line) == (alpha >= 0)
        if (position if left else 1 - position) * _WIDTH < _LETTER * len(shown):
            left = position > 0.5
        above = (alpha >= 0) != left
        place = (p.parameters, max(p.loss, on_line) if above else min(p.loss, on_line))
        beside = ScaledTranslation((-8 if left else 8) / 72, (8 if above else -8) / 72, axes.figure.dpi_scale_trans)
        axes.annotate(
            _plain(shown), (p.parameters, p.loss), place, textcoords=axes.transData + beside, fontsize=9,
            ha="right" if left else "left", va="bottom" if above else "top",
            arrowprops=leader if abs(math.log(place[1] / p.loss)) > far else None,
        )  # fmt: skip


def _plain(text: str) -> str:
    """A name in which matplotlib reads no formula."""
    return text.replace("$", r"\$")


def _power_of_ten(value: float) -> str:
    """A number for a formula: 1.23 \\times 10^{8}."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else r"\infty"
