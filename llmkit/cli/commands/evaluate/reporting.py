"""How every evaluation ends: gates, baseline, the result on stdout, reports, the exit code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.cli import console
from llmkit.cli.inputs import output_of
from llmkit.errors import GateError, LlmkitError, OutputError, UnavailableError, UsageError
from llmkit.metrics.base import Gate, Result
from llmkit.metrics.gates import Condition, Regression, conditions, regression, regression_gate
from llmkit.metrics.pairing import comparisons
from llmkit.reports import formats
from llmkit.reports.figures import interval_text, named_scores, number_text

if TYPE_CHECKING:
    from llmkit.cli.session import Session
    from llmkit.jobs.output import Output

#: Options about a file of scored rows.
NEEDS_OUTPUT = ("overwrite", "restart", "max_time")
#: Options that decide what happens with the result, not what it is.
NOT_THE_JOBS = ("overwrite", "restart", "max_time", "fail_if", "report", "json_output", "baseline", "max_regression", "test", "cache")


@dataclass(frozen=True)
class Ending:
    """What to do with a result. It is built, and so checked, before anything is computed."""

    conditions: tuple[Condition, ...]
    reports: tuple[str, ...]
    json_output: bool
    baseline: Result | None
    baseline_name: str
    max_regression: Regression | None
    test: str
    started: str
    clock: float
    session: Session | None = None
    command: str = ""

    def finish(self, result: Result, out: console.Console) -> None:
        """Prints the result, writes the reports, and raises GateError when a gate fails; a session's result is left to the session.

        Raises InputError for a baseline of other rows or another signature.
        """
        for condition in self.conditions:
            if condition.remark:
                out.warn(condition.remark)
        gates = [condition.check(result.scores) for condition in self.conditions]
        refusal: LlmkitError | None = None
        try:
            gates += self._against_baseline(result, out)
        except LlmkitError as exc:  # the numbers are right and were worth their time; only the comparison can't be made
            refusal = exc
        result = replace(
            result, gates=tuple(gates), started=self.started, seconds=time.monotonic() - self.clock, command=self.command,
            baseline=self.baseline_name,
        )  # fmt: skip
        if self.session is not None:
            self.session.results.append(result)
        else:
            show(result, as_json=self.json_output)
        write_reports(self.reports, result, out)
        if self.session is not None and refusal is None:
            return
        failed = say_gates(result.gates, out)
        if refusal is not None:
            for line in failed:
                out.warn(line)
            raise refusal
        if failed:
            raise GateError(*failed)

    def _against_baseline(self, result: Result, out: console.Console) -> list[Gate]:
        """A gate for each score that the baseline has, too. Raises InputError or UsageError where they cannot be compared."""
        if self.baseline is None:
            return []
        gates = []
        for comparison in comparisons(self.baseline, result, self.baseline_name, "this run", test=self.test):
            if comparison.power:
                out.notice(comparison.power)
            gates.append(regression_gate(comparison, self.max_regression))
        say_uncompared(result, out)
        return gates


def ending(
    names: Sequence[str],
    modules: Sequence[str] = (),
    *,
    fail_if: Sequence[str] | None,
    reports: Sequence[str] | None,
    json_output: bool,
    baseline: str | None,
    max_regression: str | None,
    test: str,
    session: Session | None = None,
    command: str = "",
) -> Ending:
    """Checks how an evaluation of the scores `names` is to end. modules: see `conditions`. Raises UsageError or InputError."""
    from llmkit.metrics.significance import check_test, named_test

    for path in reports or ():
        formats.check(path)
    test = named_test(test)
    if max_regression is not None:
        if baseline is None:
            raise UsageError("--max-regression needs --baseline")
        regression(max_regression)
    earlier = None
    if baseline is not None:
        from llmkit.reports.results import read

        earlier = read(baseline)
        for score in earlier.scores:
            if score.name in names and score.statistic is not None:
                check_test(test, score.name, score.statistic)
        if not any(s.name in names or s.name.startswith(tuple(f"{module}_" for module in modules)) for s in earlier.scores):
            held = ", ".join(s.name for s in earlier.scores) or "no score that is made of rows, as comparisons are"
            raise UsageError(f"--baseline {baseline}: it holds {held}; this run computes {', '.join(names)}")
    return Ending(
        tuple(conditions(fail_if or (), names, modules)),
        tuple(reports or ()),
        json_output,
        earlier,
        baseline or "",
        None if max_regression is None else regression(max_regression),
        test,
        datetime.now(UTC).isoformat(timespec="seconds"),
        time.monotonic(),
        session,
        command,
    )


def rows_output(
    output: str | None, input: str, known: Mapping[str, Any], *, overwrite: bool, restart: bool
) -> AbstractContextManager[Output | None]:
    """The file for the scored rows, see `output_of`. Raises OutputError for one that can't hold them."""
    from llmkit.jobs.output import JSON_LINES

    if output == "-":
        raise OutputError("--output -: the result is on standard output, so the scored rows need a file", hint="name a .jsonl file")
    if output is not None and Path(output).suffix.lower() not in JSON_LINES:
        raise OutputError(f"{output}: scored rows are written as {', '.join(JSON_LINES)}", hint="name a .jsonl file")
    return output_of(output, input, known, overwrite=overwrite, restart=restart)


def say_uncompared(result: Result, out: console.Console) -> None:
    """Says which scores no baseline bounds: quantiles, and those of a metric module, which gives one number for all rows."""
    if names := [score.name for score in result.scores if score.units is None]:
        out.notice(f"{', '.join(names)}: not compared with the baseline, as rows don't add up to {'it' if len(names) == 1 else 'them'}")


def say_gates(gates: Sequence[Gate], out: console.Console) -> list[str]:
    """Says of each gate that passed what it was about and how far off; returns a line for each that failed."""
    for gate in gates:
        if gate.passed:
            out.notice(gate.message)
    return [gate.message for gate in gates if not gate.passed]


def show(result: Result, *, as_json: bool) -> None:
    """Prints the result: one JSON object, or a table of its scores and those of its parts."""
    if as_json:
        console.write(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False) + "\n")
        return
    rows = [(name, number_text(score), interval_text(score), score.signature) for name, score in named_scores(result)]
    console.table(("metric", "score", "95% interval", "signature"), rows, right=("score",), whole=("metric", "signature"))


def write_reports(paths: Sequence[str], result: Result, out: console.Console) -> None:
    """Writes the reports, and says which. Raises UnavailableError."""
    from llmkit.files import write_whole

    for path in paths:
        try:
            write_whole(Path(path), formats.render(path, result))
        except OSError as exc:
            raise UnavailableError(f"--report {path}: cannot be written: {exc.strerror}", hint="name another file") from exc
    if paths:
        out.notice(f"wrote {', '.join(paths)}")
