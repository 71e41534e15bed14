"""Loss against model size with a fitted power law, as a picture.

L(N) = (N_c / N)^alpha: Kaplan et al., Scaling Laws for Neural Language Models (2020), equation 1.1, a straight line where both
axes are logarithmic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, UnavailableError, UsageError


def check(path: str) -> None:
    """Refuses a plot that could not be drawn, before anything is computed. Raises UsageError or UnavailableError."""
    import importlib.util

    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"`plot` {path}: plots are .png, .svg or .pdf")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"`plot` {path}: there is no folder {Path(path).absolute().parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("`plot` needs matplotlib", hint="pip install 'llmkit[plot]'")


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


def draw(points: Sequence[tuple[str, int, float]], metric: str, path: str) -> dict[str, Any]:
    """Draws (name, parameters, loss) and the law, and describes the fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    alpha, scale = fit([(n, loss) for _, n, loss in points])
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sizes = [n for _, n, _ in points]
    ends = [min(sizes) / 1.3, max(sizes) * 1.3]
    formula = f"L(N) = (N_c / N)^{alpha:.3f}, N_c = {scale:.3g}"
    axes.plot(ends, [(scale / n) ** alpha for n in ends], color="0.6", linewidth=1.5, label=formula)
    axes.scatter(sizes, [loss for _, _, loss in points], color="tab:blue", zorder=3)
    for name, n, loss in points:
        axes.annotate(Path(name).stem, (n, loss), textcoords="offset points", xytext=(6, 6), fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=metric.replace("_", " "))
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return {"metric": metric, "alpha": alpha, "n_c": scale, "formula": formula, "points": [[n, loss] for _, n, loss in points]}
