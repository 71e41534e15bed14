"""How every evaluation ends: gates, baseline, the answer on stdout, reports, the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.cli import console
from llmkit.cli.inputs import output_of
from llmkit.errors import GateError, InputError, OutputError, UnavailableError, UsageError
from llmkit.metrics.base import Gate, Result
from llmkit.metrics.gates import Condition, conditions
from llmkit.reports import formats
from llmkit.reports.figures import interval_text, number_text

if TYPE_CHECKING:
    from llmkit.jobs.output import Output
    from llmkit.metrics.significance import Comparison


#: Options about a file of scored rows.
NEEDS_OUTPUT = ("overwrite", "restart", "max_time")
#: Options that decide what happens with the result, not what it is.
NOT_THE_JOBS = ("overwrite", "restart", "max_time", "fail_if", "report", "json_output", "baseline", "max_regression", "test")


@dataclass(frozen=True)
class Ending:
    """What is to happen with a result; built, and so checked, before anything is computed."""

    conditions: tuple[Condition, ...]
    reports: tuple[str, ...]
    json_output: bool
    baseline: Result | None
    baseline_name: str
    max_regression: str | None
    test: str

    def finish(self, result: Result, out: console.Console) -> None:
        """Prints the result, writes the reports, and raises GateError when a gate fails.

        Raises InputError for a baseline of other rows or another signature.
        """
        gates = [condition.check(result.scores) for condition in self.conditions]
        if self.baseline is not None:
            for comparison in comparisons(self.baseline, result, self.baseline_name, "this run", test=self.test):
                out.notice(str(comparison))
                out.notice(comparison.power)
                gates.append(_regression(comparison, self.max_regression))
        result = replace(result, gates=tuple(gates))
        if self.json_output:
            console.write(json.dumps(result.as_json(), ensure_ascii=False) + "\n")
        else:
            _table(result)
        for path in self.reports:
            _write(path, formats.render(path, result))
        failed = [gate.message for gate in result.gates if not gate.passed]
        if failed:
            raise GateError("; ".join(failed))


def ending(
    names: Sequence[str],
    *,
    fail_if: Sequence[str] | None,
    reports: Sequence[str] | None,
    json_output: bool,
    baseline: str | None,
    max_regression: str | None,
    test: str,
) -> Ending:
    """Checks how an evaluation of the scores `names` is to end. Raises UsageError or InputError."""
    from llmkit.metrics.significance import TESTS

    for path in reports or ():
        formats.check(path)
    if test not in TESTS:
        raise UsageError(f"--test {test}: unknown", hint=f"one of {', '.join(TESTS)}")
    if max_regression is not None:
        if baseline is None:
            raise UsageError("--max-regression needs a --baseline to hold against")
        _bound(max_regression)
    earlier = None
    if baseline is not None:
        from llmkit.reports.results import read

        earlier = read(baseline)
        if not {s.name for s in earlier.scores} & set(names):
            raise UsageError(
                f"--baseline {baseline}: holds {', '.join(s.name for s in earlier.scores)}, and this run computes {', '.join(names)}"
            )
    return Ending(tuple(conditions(fail_if or (), names)), tuple(reports or ()), json_output, earlier, baseline or "", max_regression, test)


def rows_output(output: str | None, input: str, *, overwrite: bool, restart: bool) -> Output | None:
    """Takes hold of the file for the scored rows, None where none is asked for. Raises OutputError."""
    if output == "-":
        raise OutputError("--output -: the result is on standard output, so the scored rows need a file", hint="name a .jsonl file")
    if output is not None and Path(output).suffix.lower() != ".jsonl":
        raise OutputError(f"{output}: scored rows are written as .jsonl", hint="name a .jsonl file")
    return output_of(output, input, overwrite=overwrite, restart=restart)


def comparisons(baseline: Result, system: Result, baseline_name: str, system_name: str, *, test: str) -> list[Comparison]:
    """The scores that both results hold, compared on the same rows.

    Raises InputError when the rows or a signature differ: such numbers may not be compared.
    """
    from llmkit.metrics.significance import compare

    order = _pairing(baseline, system, baseline_name, system_name)
    out = []
    for score in system.scores:
        before = next((s for s in baseline.scores if s.name == score.name), None)
        if before is None or before.units is None or score.units is None or score.statistic is None:
            continue
        if _comparable(before.signature) != _comparable(score.signature):
            if _other_tokenizer(before.signature, score.signature):
                continue  # figures per token mean something else then; those per byte and word can be compared
            raise InputError(
                f"{score.name} has two different signatures: {before.signature} in {baseline_name}, {score.signature} in {system_name}",
                hint="measure both in the same way",
            )
        out.append(
            compare(score.name, before.units[order], score.units, score.statistic, higher_is_better=score.higher_is_better, test=test)
        )
    if not out:
        raise InputError(f"{baseline_name} and {system_name} have no score in common")
    return out


def _pairing(baseline: Result, system: Result, baseline_name: str, system_name: str) -> list[int]:
    """For each row of `system` the place of the same row in `baseline`."""
    places: dict[str, int] = {}
    for place, example in enumerate(baseline.examples):
        if example.id in places:
            raise InputError(f"id '{example.id}' occurs twice", path=baseline_name, hint="rows are paired by id")
        places[example.id] = place
    if len(system.examples) != len(baseline.examples):
        raise InputError(
            f"{baseline_name} has {len(baseline.examples):,} rows, {system_name} {len(system.examples):,}: the rows are not the same"
        )
    order: list[int] = []
    for example in system.examples:
        place = places.get(example.id, -1)
        if place < 0 or baseline.examples[place].digest != example.digest:
            what = "is not there" if place < 0 else "is another one"
            raise InputError(f"row '{example.id}' of {system_name} {what} in {baseline_name}", hint="both must score the same rows")
        order.append(place)
    return order


def _comparable(signature: str) -> str:
    """A signature without the seed and number of bootstrap resamples, which decide the interval alone."""
    return re.sub(r"\|(bs|seed):[^|]*", "", signature)


def _other_tokenizer(one: str, other: str) -> bool:
    """Whether two signatures of perplexity differ in the model's tokenizer alone."""
    parts = one.split("|"), other.split("|")
    return one.startswith("target:") and [p for p in parts[0] if p[:4] != "tok:"] == [p for p in parts[1] if p[:4] != "tok:"]


def _regression(comparison: Comparison, allowed: str | None) -> Gate:
    """Without a bound, a significant loss fails; with one, any loss beyond it."""
    name = f"{comparison.name} not worse than the baseline" + (f" by more than {allowed}" if allowed else "")
    if comparison.value != comparison.value:
        return Gate(name, False, f"{comparison.name} is not a number")
    if allowed is None:
        return Gate(name, not (comparison.worse_by > 0 and comparison.significant), str(comparison))
    amount, relative = _bound(allowed)
    bound = amount * abs(comparison.baseline) if relative else amount
    return Gate(name, comparison.worse_by <= bound, str(comparison))


def _bound(text: str) -> tuple[float, bool]:
    """(0.02, True) for '2%', (0.5, False) for '0.5'. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    if match is None:
        raise UsageError(f"--max-regression '{text}': neither a percentage nor a number", hint="for example 2% or 0.5")
    return float(match[1]) / (100 if match[2] else 1), bool(match[2])


def _table(result: Result) -> None:
    rows = [(score.name, number_text(score), interval_text(score), score.signature) for score in result.scores]
    console.table(("metric", "score", "95% interval", "signature"), rows, right=("score",))


def _write(path: str, text: str) -> None:
    from llmkit.files import write_whole

    try:
        write_whole(Path(path), text)
    except OSError as exc:
        raise UnavailableError(f"--report {path}: cannot be written: {exc.strerror}", hint="name another file") from exc
