"""How every evaluation ends: gates, the answer on stdout, reports, the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit import console
from llmkit.errors import GateError, UsageError
from llmkit.metrics.base import Result, Score

if TYPE_CHECKING:
    from llmkit.metrics.gates import Condition

_ENDINGS = (".json", ".md")


def check_reports(paths: Sequence[str]) -> None:
    """Refuses a report that could not be written, before anything is computed. Raises UsageError."""
    for path in paths:
        if Path(path).suffix.lower() not in _ENDINGS:
            raise UsageError(f"--report {path}: reports are written as {' or '.join(_ENDINGS)}")
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"--report {path}: there is no folder {Path(path).absolute().parent}")


def finish(result: Result, conditions: Sequence[Condition], *, json_output: bool, reports: Sequence[str]) -> None:
    """Prints the result, writes the reports, and raises GateError when a gate fails."""
    result = replace(result, gates=tuple(condition.check(result.scores) for condition in conditions))
    if json_output:
        console.write(_json(result))
    else:
        _table(result)
    for path in reports:
        _write(Path(path), _json(result) if path.lower().endswith(".json") else markdown(result))
    failed = [gate.message for gate in result.gates if not gate.passed]
    if failed:
        raise GateError("; ".join(failed))


def markdown(result: Result) -> str:
    """The result as Markdown, for the summary of a CI step."""
    lines = ["| metric | score | 95% interval | signature |", "|---|---:|---|---|"]
    lines += [f"| {_cell(s.name)} | {_number(s)} | {_interval(s)} | `{_cell(s.signature)}` |" for s in result.scores]
    lines += ["", ", ".join([f"{result.rows:,} rows", *(f"{n:,} {name}" for name, n in result.counts.items())])]
    if result.gates:
        lines += ["", "| gate | |", "|---|---|"]
        lines += [f"| {_cell(g.condition)} | {'passed' if g.passed else '**failed**'}: {_cell(g.message)} |" for g in result.gates]
    return "\n".join(lines) + "\n"


def _table(result: Result) -> None:
    from rich.table import Table

    table = Table("metric", "score", "95% interval", "signature", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.columns[3].overflow = "fold"
    for score in result.scores:
        table.add_row(score.name, _number(score), _interval(score), score.signature)
    console.table(table)


def _number(score: Score) -> str:
    return f"{score.value:.4f}" if abs(score.value) < 10 else f"{score.value:,.2f}"


def _interval(score: Score) -> str:
    if score.interval is None:
        return ""
    low, high = (f"{x:.4f}" if abs(score.value) < 10 else f"{x:,.2f}" for x in score.interval)
    return f"{low} to {high}"


def _json(result: Result) -> str:
    return json.dumps(result.as_json(), ensure_ascii=False) + "\n"


def _cell(text: str) -> str:
    """Text inside a table cell of Markdown: no bar, no line end, no HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _write(path: Path, text: str) -> None:
    from llmkit.jobs.output import write_atomically

    write_atomically(path, text)
