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
        out.notice(f"{law['metric']}: {law['formula']}; {plot}")


def _table(baseline: str, compared: list[tuple[str, list[Comparison]]]) -> None:
    rows = []
    for name, several in compared:
        for c in several:
            interval = "" if c.interval is None else f"{c.interval[0]:+.4g} to {c.interval[1]:+.4g}"
            effect, p_value = "" if c.effect is None else f"{c.effect:+.2f}", "" if c.p_value is None else f"{c.p_value:.3g}"
            rows.append((name, c.name, f"{c.value:.6g}", f"{c.difference:+.4g}", interval, effect, p_value, c.note or c.test))
    console.table(("result", "metric", "score", f"against {baseline}", "95% interval", "effect", "p", "test"), rows)


def _scaling(results: dict[str, Result], plot: str) -> dict[str, Any]:
    """Loss against the number of parameters. Raises InputError for results that know no parameters or no loss."""
    from llmkit.reports.scaling import draw

    points = []
    for name, result in results.items():
        loss = next((-s.value for s in result.scores if s.name == "mean_log_likelihood"), None)
        bits = next((s.value for s in result.scores if s.name == "bits_per_byte"), None)
        parameters = result.about.get("parameters")
        if parameters is None or (loss is None and bits is None):
            raise InputError("no loss of a model is in it", path=name, hint="--plot needs results of evaluate perplexity")
        points.append((name, int(parameters), loss, bits))
    # Losses per token of different tokenizers can't lie on one curve; bits per byte can.
    metric = "bits_per_byte" if all(p[3] is not None for p in points) else "mean loss per token"
    return draw([(name, n, float((bits if metric == "bits_per_byte" else loss) or 0)) for name, n, loss, bits in points], metric, plot)
