"""A result as Markdown, for the summary of a CI step."""

from __future__ import annotations

from llmkit.metrics.base import Result
from llmkit.reports.figures import direction, facts, interval_text, named_scores, number_text, title


def to_markdown(result: Result) -> str:
    """The result as a Markdown page."""
    lines = [f"### {cell(title(result))}", "", "| metric | score | 95% interval | signature |", "|---|---:|---|---|"]
    lines += [
        f"| {cell(name)} | {number_text(s)} {direction(s)} | {interval_text(s)} | `{cell(s.signature)}` |"
        for name, s in named_scores(result)
    ]
    if result.gates:
        lines += ["", "| gate | result | found |", "|---|---|---|"]
        lines += [f"| {cell(g.condition)} | {'passed' if g.passed else '**failed**'} | {cell(g.message)} |" for g in result.gates]
    lines += ["", *(f"- {name}: {cell(value)}" for name, value in facts(result))]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text inside a table cell: no bar, no line end, no HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
