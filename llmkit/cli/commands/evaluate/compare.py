"""`llmkit evaluate compare`: compare results of several runs with the first, on the same rows.

llmkit evaluate compare base.json tuned.json
llmkit evaluate compare small.json medium.json large.json --plot scaling.png
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.help import Page
from llmkit.cli.parsing import SHOW, option
from llmkit.cli.scoring import Test
from llmkit.errors import InputError, UsageError
from llmkit.metrics.pairing import comparisons

if TYPE_CHECKING:
    from llmkit.metrics.base import Result
    from llmkit.metrics.significance import Comparison


PAGE = Page(
    ("llmkit evaluate compare base.json tuned.json", "llmkit evaluate compare small.json medium.json large.json --plot scaling.png"),
    guide="evaluate",
    note="change: result minus baseline, with its 95% interval. effect: the change in standard deviations of the rows' changes (0.2 is "
    "small, 0.8 large). p: how often chance alone gives such a change; * marks p < 0.05.",
)


def compare(
    *,
    results: Annotated[list[str], typer.Argument(metavar="A.json B.json ...", help="Results written by --report FILE.json.")],
    test: Test = "auto",
    plot: Annotated[
        str | None,
        option("--plot", help="Plot loss against parameters with a power law: .png, .svg or .pdf.", panel=SHOW, metavar="FILE"),
    ] = None,
    display: opt.JsonQuiet,
) -> None:
    """Reads results of runs, and reports each score's difference from the first with its significance."""
    from llmkit.reports.results import read

    if len(results) < 2:
        raise UsageError("a comparison needs at least two results", hint="llmkit evaluate compare A.json B.json")
    if plot is not None:
        from llmkit.reports.scaling import check

        check(plot)
    read_results = [read(path) for path in results]
    compared = [
        (name, comparisons(read_results[0], result, results[0], name, test=test))
        for name, result in zip(results[1:], read_results[1:], strict=True)
    ]
    law = _scaling(dict(zip(results, read_results, strict=True)), plot) if plot is not None else None
    if display.json_output:
        rows = [{"result": name} | each.as_json() for name, several in compared for each in several]
        content: dict[str, Any] = {"baseline": results[0], "comparisons": rows}
        console.write(json.dumps(content | ({"scaling": law} if law else {}), ensure_ascii=False, allow_nan=False) + "\n")
        return
    _table(results[0], compared)
    out = display.console
    for _, several in compared[:1]:
        for each in several:
            if each.power:
                out.notice(each.power)
    if law:
        out.notice(f"{law['metric']}: {law['formula']}; wrote {plot}")


def _table(baseline: str, compared: list[tuple[str, list[Comparison]]]) -> None:
    """A table for each result under its name, narrow enough for 80 columns; what was tested, and remarks, on lines below it."""
    for number, (name, several) in enumerate(compared):
        console.write(f"{'' if number == 0 else chr(10)}{name} against {baseline}\n")
        console.table(_COLUMNS, [_line(each) for each in several], right=("score", "change", "effect", "p"))
        for how, tested in _grouped(several).items():
            console.write(f"{', '.join(tested)}: {how}\n" if len(tested) < len(several) else f"{how}\n")
    if any(each.significant for _, several in compared for each in several):
        console.write("* significant: p < 0.05\n")


_COLUMNS = ("metric", "score", "change", "95% interval", "effect", "p", "")


def _line(c: Comparison) -> tuple[str, ...]:
    interval = "" if c.interval is None else f"{c.interval[0]:+.3g} to {c.interval[1]:+.3g}"
    effect, p_value = "" if c.effect is None else f"{c.effect:+.2f}", "" if c.p_value is None else f"{c.p_value:.2g}"
    verdict = "better" if c.worse_by < 0 else "worse" if c.worse_by > 0 else ""
    return c.name, f"{c.value:.5g}", f"{c.difference:+.3g}", interval, effect, p_value, f"{verdict}{'*' * c.significant}"


def _grouped(several: list[Comparison]) -> dict[str, list[str]]:
    """How the metrics were tested, and what is to be said of that: each with the metrics that it is true of."""
    out: dict[str, list[str]] = {}
    for c in several:
        tested = f"p by {c.test}, n = {c.rows:,}{'' if c.unit == 'rows' else ' ' + c.unit}" if c.p_value is not None else ""
        if how := "; ".join(part for part in (tested, c.note) if part):
            out.setdefault(how, []).append(c.name)
    return out


def _scaling(results: dict[str, Result], plot: str) -> dict[str, Any]:
    """Loss against the number of parameters. Raises InputError for results that know no parameters or no loss."""
    from llmkit.reports.scaling import Point, draw

    # Losses per token of different tokenizers can't lie on one curve; bits per byte can.
    per_byte = all(any(s.name == "bits_per_byte" for s in result.scores) for result in results.values())
    name, sign = ("bits_per_byte", 1) if per_byte else ("mean_log_likelihood", -1)
    points = []
    for path, result in results.items():
        score = next((s for s in result.scores if s.name == name), None)
        parameters = result.about.get("parameters")
        if parameters is None or score is None:
            raise InputError("holds no loss of a model", path=path, hint="--plot needs results of evaluate perplexity")
        ends = None if score.interval is None else sorted(sign * end for end in score.interval)
        points.append(Point(path, int(parameters), sign * score.value, None if ends is None else (ends[0], ends[1])))
    return draw(points, "bits_per_byte" if per_byte else "mean loss per token", plot)
