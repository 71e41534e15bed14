"""A result as one HTML file that needs nothing beside it: scores, gates, distributions, best and worst rows. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from llmkit.metrics.base import Example, Gate, Result, Score
from llmkit.metrics.statistics import Numbers
from llmkit.reports.figures import facts, figure, interval_text, named_scores, number_text, title, way
from llmkit.reports.histogram import histogram

_SHOWN = 5
_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --soft: #5c5c66; --line: #ddd; --ground: #fff;
  --failed: #b00020; --passed: #1a7f37; --bar: #4a7ebb; --mark: #b00020 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6ea; --soft: #a5a5b0; --line: #444; --ground: #16161a;
  --failed: #ff8a80; --passed: #7ee787; --bar: #7aa7de; --mark: #ff8a80 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--ground) }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere } h1 { font-size: 1.5rem }
h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 600; overflow-wrap: break-word } th.n, td.n { text-align: right }
td.n { white-space: nowrap; font-variant-numeric: tabular-nums }
td.way, td.name, td.verdict { white-space: nowrap } code span { display: inline-block }
td.id { min-width: 3.2rem; max-width: 9rem } code { font-size: .8rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; margin: 1.5rem 0; color: var(--soft) }
dd { margin: 0; color: var(--text); overflow-wrap: anywhere }
.failed { color: var(--failed); font-weight: 600 } .passed { color: var(--passed) } .soft { color: var(--soft) }
.text { white-space: pre-wrap; overflow-wrap: anywhere }
figure { margin: 0; max-width: 42rem } svg { width: 100%; height: auto; display: block; overflow: visible } rect { fill: var(--bar) }
svg text { fill: var(--soft); font-size: 13px } svg line { stroke: var(--line) } svg .mark { stroke: var(--mark); stroke-dasharray: 4 3 }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 2rem }
@media (max-width: 40rem) {
  table.stacked, .stacked tbody, .stacked tr, .stacked td { display: block } .stacked tr:has(th) { display: none }
  .stacked tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
  .stacked td { border: 0; padding: .1rem 0; text-align: left }
  .stacked td[data-of]::before { content: attr(data-of) ": "; color: var(--soft) } .stacked td:empty { display: none }
  th, td { padding: .35rem .4rem } td.name { white-space: normal; font-weight: 600 } svg text { font-size: 21px }
}
"""


def to_html(result: Result) -> str:
    """The result as one HTML page that needs no other file."""
    name = title(result)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(name)} · llmkit evaluate</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1>",
        *_scores(result),
        *_gates(result),
        '<h2>This run</h2>\n<dl class="facts">',
        *(f"<dt>{escape(label)}</dt><dd>{_fact(label, value)}</dd>" for label, value in facts(result)),
        "</dl>",
    ]
    for name, score, examples in _by_row(result):
        parts += _rows_of(name, score, examples)
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _fact(label: str, value: str) -> str:
    return _code(value, " ") if label == "Command" else escape(value)


def _code(text: str, between: str) -> str:
    """Code whose lines break only after `between`: not inside `--fail-if`, or inside a part of a signature."""
    return "<code>" + between.join(f"<span>{escape(part)}</span>" for part in text.split(between)) + "</code>"


def _scores(result: Result) -> list[str]:
    rows = [
        f'<tr><td class="name">{escape(name)}</td><td class="n" data-of="score">{number_text(s)}</td>'
        f'<td class="n" data-of="95% interval">{interval_text(s)}</td><td class="way">{way(s)}</td>'
        f"<td>{_code(s.signature, '|')}</td></tr>"
        for name, s in named_scores(result)
    ]
    head = '<tr><th>metric</th><th class="n">score</th><th class="n">95% interval</th><th>better</th><th>signature</th></tr>'
    return ['<table class="stacked">', head, *rows, "</table>"]


def _gates(result: Result) -> list[str]:
    if not result.gates:
        return []
    failed = sum(not gate.passed for gate in result.gates)
    rows = [
        f'<tr><td class="verdict {_verdict(gate)}">{_verdict(gate)}</td><td data-of="gate">{escape(gate.condition)}</td>'
        f'<td data-of="found">{escape(gate.message)}</td></tr>'
        for gate in result.gates
    ]
    count = (
        f"{failed} of {len(result.gates)} failed" if failed else "passed" if len(result.gates) == 1 else f"all {len(result.gates)} passed"
    )
    return [f"<h2>Gates: {count}</h2>", '<table class="stacked">', "<tr><th>result</th><th>gate</th><th>found</th></tr>", *rows, "</table>"]


def _verdict(gate: Gate) -> str:
    return "passed" if gate.passed else "failed"


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
        histogram(values[known], name, score),
        '<div class="columns">',
        f"<div><h3>best</h3>{_examples(best, values, examples)}</div>",
        f"<div><h3>worst</h3>{_examples(worst, values, examples)}</div></div>",
    ]


def _examples(chosen: Sequence[int], values: Numbers, examples: Sequence[Example]) -> str:
    out = ["<table>"]
    for i in chosen:
        example = examples[i]
        texts = [("source", example.source), ("prediction", example.prediction), *(("reference", r) for r in example.references)]
        shown = "".join(f'<div class="text"><b>{name}</b> {escape(text[:600])}</div>' for name, text in texts if text)
        value = float(values[i])
        out.append(f'<tr><td class="id">{escape(example.id[:80])}</td><td class="n">{figure(value, value)}</td><td>{shown}</td></tr>')
    return "".join([*out, "</table>"])
