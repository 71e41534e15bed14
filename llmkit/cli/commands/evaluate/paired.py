"""`llmkit evaluate score --paired-bs|--paired-ar`: several systems' saved outputs against the first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmkit.cli import console
from llmkit.errors import UsageError
from llmkit.metrics.paired import PairedResult

#: Options that cannot be combined with a paired test: it has several systems, and so no single result.
_ONE_RESULT = ("fail_if", "baseline", "max_regression", "report", "output", "input", "model")
#: ... of which a value from the environment or a configuration file is for other commands.
PLACES = ("output", "input", "model")


def paired_test(options: Mapping[str, Any]) -> str | None:
    """'bs', 'ar' or None. Raises UsageError for options that cannot be combined with a paired test."""
    if options["paired_bs"] and options["paired_ar"]:
        raise UsageError("--paired-bs and --paired-ar cannot be combined", hint="use only one of them")
    test = "bs" if options["paired_bs"] else "ar" if options["paired_ar"] else None
    if test is None:
        return None
    if other := next((name for name in _ONE_RESULT if options.get(name)), None):
        hint = "it compares files of saved outputs: -p FILE -p FILE -r FILE"
        if other in ("fail_if", "baseline", "max_regression", "report"):
            hint = "score one system with --report base.json, then the other with --baseline base.json"
        raise UsageError(f"--paired-{test} and --{other.replace('_', '-')} cannot be combined", hint=hint)
    return test


def show_paired(result: PairedResult, out: console.Console, *, as_json: bool) -> None:
    """Prints each system's scores and the p-values against the first, and says which scores are the first's."""
    baseline = result.systems[0]
    for system in result.systems[1:]:
        if same := [name for name, score in system.scores.items() if score == baseline.scores[name]]:
            out.notice(f"{system.name}: the same {', '.join(same)} as {baseline.name}, so there is no difference to test")
    if as_json:
        console.write(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False) + "\n")
        return
    lines = []
    for system in result.systems:
        for metric, score in system.scores.items():
            ends = system.intervals.get(metric)
            p_value = system.p_values.get(metric)
            interval = "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
            shown = "" if p_value is None else f"{p_value:.4f}"
            lines.append((system.name, metric, f"{score:.2f}", interval, shown, result.signatures[metric]))
    console.table(
        ("system", "metric", "score", "95% interval", "p", "signature"), lines, right=("score", "p"), whole=("metric", "signature")
    )
