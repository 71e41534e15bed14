"""A result as one HTML file that needs nothing beside it: scores, gates, distributions, best and worst rows. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from llmkit.metrics.base import Example, Result, Score
from llmkit.metrics.statistics import Numbers
from llmkit.reports.figures import figure, interval_text, named_scores, number_text

_SHOWN = 5
_BINS = 30
_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --line: #ddd; --failed: #b00020; --passed: #1a7f37; --bar: #4a7ebb }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6ea; --line: #444; --failed: #ff8a80; --passed: #7ee787; --bar: #7aa7de } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--text) }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid var(--line) }
td.n { text-align: right; font-variant-numeric: tabular-nums } code { font-size: .8rem; overflow-wrap: anywhere }
.failed { color: var(--failed); font-weight: 600 } .passed { color: var(--passed) } .text { white-space: pre-wrap; overflow-wrap: anywhere }
svg { width: 100%; height: auto } rect { fill: var(--bar) } text { fill: var(--text) }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 2rem }
"""


def to_html(result: Result) -> str:
    """The result as one HTML page that needs no other file."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>llmkit evaluate</title><style>{_STYLE}</style></head><body>",
        "<h1>llmkit evaluate</h1>",
        f"<p>{escape(_about(result))}</p>",
        "<table><tr><th>metric</th><th>score</th><th>95% interval</th><th>signature</th></tr>",
        *(
            f'<tr><td>{escape(name)}</td><td class="n">{number_text(s)}</td><td class="n">{interval_text(s)}</td>'
            f"<td><code>{escape(s.signature)}</code></td></tr>"
            for name, s in named_scores(result)
        ),
        "</table>",
    ]
    if result.gates:
        parts.append("<h2>Gates</h2><table>")
        for gate in result.gates:
            verdict = "passed" if gate.passed else "failed"
            parts.append(f'<tr><td>{escape(gate.condition)}</td><td class="{verdict}">{verdict}</td><td>{escape(gate.message)}</td></tr>')
        parts.append("</table>")
    for name, score, examples in _by_row(result):
        parts += _rows_of(name, score, examples)
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _about(result: Result) -> str:
    counts = [f"{result.rows:,} rows", *(f"{n:,} {name}" for name, n in result.counts.items())]
    named = [str(result.about[name]) for name in ("model", "input", "device", "dtype") if name in result.about]
    return ", ".join([*counts, *named])


def _by_row(result: Result) -> list[tuple[str, Score, Sequence[Example]]]:
    """The scores of the result and of its parts, each with the rows that it is of."""
    out: list[tuple[str, Score, Sequence[Example]]] = [(score.name, score, result.examples) for score in result.scores]
    for part, each in result.parts.items():
        out += [(f"{part}.{name}", score, examples) for name, score, examples in _by_row(each)]
    return out


def _rows_of(name: str, score: Score, examples: Sequence[Example]) -> list[str]:
    """The distribution of a score over rows, and the rows at both ends of it."""
    if score.units is None or score.statistic is None or len(score.units) < 2 or len(examples) != len(score.units):
        return []
    with np.errstate(all="ignore"):
        values = score.statistic(score.units)
    known = [i for i in range(len(values)) if np.isfinite(values[i])]
    if len(known) < 2:
        return []
    order = sorted(known, key=lambda i: values[i], reverse=score.higher_is_better)
    best, worst = order[:_SHOWN], order[::-1][:_SHOWN]
    return [
        f"<h2>{escape(name)} by row</h2>",
        _histogram(values[known]),
        '<div class="columns">',
        f"<div><h3>best</h3>{_examples(best, values, examples)}</div>",
        f"<div><h3>worst</h3>{_examples(worst, values, examples)}</div></div>",
    ]


def _histogram(values: Numbers) -> str:
    # A long tail would squeeze all others into one bar.
    low, high = np.quantile(values, [0.0, 0.98])
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS)
    top = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{20 * i}" y="{100 - 100 * n / top:.1f}" width="18" height="{100 * n / top:.1f}">'
        f"<title>{figure(a, high)} to {figure(b, high)}: {n}</title></rect>"
        for i, (n, a, b) in enumerate(zip(counts.tolist(), edges, edges[1:], strict=False))
    )
    ends = f'<text x="0" y="118" font-size="12">{figure(low, high)}</text>'
    ends += f'<text x="{20 * _BINS}" y="118" font-size="12" text-anchor="end">{figure(high, high)}</text>'
    return f'<svg viewBox="0 0 {20 * _BINS} 122" role="img" aria-label="histogram">{bars}{ends}</svg>'


def _examples(chosen: Sequence[int], values: Numbers, examples: Sequence[Example]) -> str:
    out = ["<table>"]
    for i in chosen:
        example = examples[i]
        texts = [("source", example.source), ("prediction", example.prediction), *(("reference", r) for r in example.references)]
        shown = "".join(f'<div class="text"><b>{name}</b> {escape(text[:600])}</div>' for name, text in texts if text)
        out.append(
            f'<tr><td>{escape(example.id[:80])}</td><td class="n">{figure(float(values[i]), float(values[i]))}</td><td>{shown}</td></tr>'
        )
    return "".join([*out, "</table>"])
