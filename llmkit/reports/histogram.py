"""How a score is spread over the rows, as an SVG picture with axes that says what it leaves out."""

from __future__ import annotations

from html import escape

import numpy as np

from llmkit.errors import counted
from llmkit.metrics.base import Score
from llmkit.metrics.statistics import Numbers
from llmkit.reports.figures import figure, number_text, way

_BINS = 30
#: Share of the rows that is spread out; a long tail would squeeze all others into one bar, and goes into the last.
_SPREAD = 0.98
#: Of the drawing, in its own units: left and upper edge of the bars, and their room.
_LEFT, _TOP, _WIDTH, _HEIGHT = 46, 10, 600, 130
_FOOT = _TOP + _HEIGHT


def histogram(values: Numbers, name: str, score: Score) -> str:
    """Rows by their score, with a mark at the score of all of them. values: [rows], finite, two at least."""
    low, high = (float(x) for x in np.quantile(values, [0.0, _SPREAD]))
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS)
    first, last = float(edges[0]), float(edges[-1])
    said, mark = [], ""
    if first <= score.value <= last:
        x = _LEFT + _WIDTH * (score.value - first) / (last - first)
        mark = f'<line class="mark" x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="{_FOOT}"/>'
        said.append(f"The dashed line is the score of all rows, {number_text(score)}.")
    if beyond := int((values > high).sum()):
        most = figure(float(values.max()), high)
        said.append(f"The last bar also holds {counted(beyond, 'row')} above {figure(high, high)}, up to {most}.")
    drawn = _bars(counts.tolist(), edges) + _axes(int(counts.max()), (first, (first + last) / 2, last)) + mark
    drawn += _text(_LEFT + _WIDTH / 2, _FOOT + 46, f"{name} of a row ({way(score)} is better)")
    return (
        f'<figure><svg viewBox="0 0 {_LEFT + _WIDTH + 4} {_FOOT + 56}" role="img" aria-label="histogram of {escape(name)} by row">{drawn}'
        f'</svg><figcaption class="soft">{" ".join(said)}</figcaption></figure>'
    )


def _bars(counts: list[int], edges: Numbers) -> str:
    step, top = _WIDTH / _BINS, max(1, *counts)
    out = []
    for i, n in enumerate(counts):
        height, ends = _HEIGHT * n / top, f"{figure(float(edges[i]), float(edges[-1]))} to {figure(float(edges[i + 1]), float(edges[-1]))}"
        place = f'x="{_LEFT + step * i:.1f}" y="{_FOOT - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}"'
        out.append(f"<rect {place}><title>{ends}: {counted(n, 'row')}</title></rect>")
    return "".join(out)


def _axes(top: int, ticks: tuple[float, float, float]) -> str:
    """top: rows of the highest bar; ticks: values at the left end, the middle and the right end."""
    middle = _TOP + _HEIGHT / 2
    out = [f'<line x1="{_LEFT}" y1="{_FOOT}" x2="{_LEFT + _WIDTH}" y2="{_FOOT}"/>']
    for share, value, anchor in zip((0, 0.5, 1), ticks, ("start", "middle", "end"), strict=True):
        out.append(_text(_LEFT + share * _WIDTH, _FOOT + 20, figure(value, ticks[-1]), anchor))
    out += [_text(_LEFT - 8, _TOP + 10, f"{top:,}", "end"), _text(_LEFT - 8, _FOOT, "0", "end")]
    out.append(f'<g transform="rotate(-90 14 {middle:.0f})">{_text(14, middle, "rows")}</g>')
    return "".join(out)


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
