"""`llmkit evaluate run`: several test sets with their metrics and gates, in one command and with each model loaded once.

llmkit evaluate run suite.toml --report suite.xml --json
llmkit evaluate run suite.toml -m candidate --baseline yesterday.json --max-regression 2%

A suite names what each set measures, with the options of that command under their names:

    model = "gpt2"
    cache = ".cache/llmkit"

    [sets.books]
    measure = "perplexity"
    input = "books.jsonl"
    fail_if = "bits_per_byte > 1.2"

    [sets.quiz]
    measure = "choice"
    input = "questions.jsonl"
    fail_if = ["accuracy < 60", "accuracy_normalized < 60"]
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli import session as sessions
from llmkit.cli.command import command_line, refuse
from llmkit.cli.commands.evaluate import choice, perplexity, reporting, text
from llmkit.cli.config import check_once, option_of, parse, value_of
from llmkit.cli.help import Page
from llmkit.cli.names import normalize
from llmkit.cli.parameter_source import TYPED
from llmkit.cli.parsing import MODEL, option
from llmkit.cli.scoring import Baseline, MaxRegression, Report, Test, refuse_unread
from llmkit.errors import GateError, InputError, LlmkitError, RowsFailedError, StoppedError, TimeUpError, UsageError, did_you_mean
from llmkit.files import file_sha256
from llmkit.metrics.base import Gate, Result
from llmkit.metrics.examples import check_plain
from llmkit.metrics.gates import regression, regression_gate
from llmkit.metrics.pairing import comparisons
from llmkit.reports import formats
from llmkit.rows import open_rows

#: Options that are the suite's own, or print results that are no result of a set.
_NOT_IN_SETS = ("json", "config", "quiet", "verbose", "debug", "paired-bs", "paired-ar", "paired-bs-n", "paired-ar-n", "help")


PAGE = Page(
    ("llmkit evaluate run suite.toml --report suite.xml", "llmkit evaluate run suite.toml -m gpt2 --baseline yesterday.json"),
    guide="suites",
)


def run(
    ctx: typer.Context,
    *,
    suite: Annotated[str, typer.Argument(metavar="SUITE.toml", help="The test sets, and what to measure on each.")],
    model: Annotated[
        str | None, option("--model", "-m", help="Use this model in every set that runs a model.", panel=MODEL, metavar="REF")
    ] = None,
    baseline: Baseline = None,
    max_regression: MaxRegression = None,
    test: Test = "auto",
    report: Report = None,
    display: opt.JsonQuiet,
) -> int:
    """Measures the sets of a suite, and reports their scores and gates as one result."""
    if baseline is None:
        refuse(ctx, ("test",), "needs --baseline")
    out, started, clock = display.console, datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    command = command_line(ctx)  # the sets' commands share the context's memory of what was typed
    against = _Against.opened(baseline, max_regression, test)
    for path in report or ():
        formats.check(path)
    session = sessions.begin(ctx)
    sets = list(_sets(ctx, suite, model, quiet=display.quiet))
    for each in sets:
        each.check()
    _check_files(sets, report or ())
    measured = _Measured()
    for each in sets:
        out.notice(f"{each.name}: {each.measure}")
        measured.add(each, ctx, session, against, out)
    whole = replace(measured.whole(suite), started=started, seconds=time.monotonic() - clock, command=command, baseline=against.name)
    if measured.results:
        reporting.show(whole, as_json=display.json_output)
    reporting.write_reports(report or (), whole, out)
    return measured.end(out)


@dataclass
class _Measured:
    """What the sets gave: results by name, the sets that could not be measured with why, and why some can't be compared."""

    results: dict[str, Result] = field(default_factory=dict)
    failed: dict[str, LlmkitError] = field(default_factory=dict)
    refused: list[LlmkitError] = field(default_factory=list)
    code: int = 0

    def add(self, each: _Set, ctx: typer.Context, session: sessions.Session, against: _Against, out: console.Console) -> None:
        """Measures a set. An error is for the end: the other sets are worth their numbers. Raises StoppedError and TimeUpError."""
        try:
            self.code = max(self.code, each.measured(ctx))
        except (StoppedError, TimeUpError):
            raise
        except LlmkitError as exc:
            if not session.results:
                self.failed[each.name] = exc
                return
            self.refused.append(exc)  # measured, and not comparable with the set's own baseline
        result = session.results.pop()
        try:
            result = replace(result, gates=(*result.gates, *against.gates(each.name, result, out)))
        except LlmkitError as exc:
            self.refused.append(exc)
        self.results[each.name] = result

    def whole(self, suite: str) -> Result:
        """One result of all sets: each score and gate under its set's name, and the sets' results as parts. A set that could not be
        measured is a gate that failed.
        """
        scores, gates = [], [Gate(f"{name}: measured", passed=False, message=exc.message) for name, exc in self.failed.items()]
        for name, result in self.results.items():
            scores += [replace(s, name=f"{name}.{s.name}", units=None, statistic=None, blocks=None) for s in result.scores]
            gates += self._gates(name)
        rows = sum(result.rows for result in self.results.values())
        about = {"suite": suite, "suite_sha256": file_sha256(Path(suite))}
        return Result(tuple(scores), rows, {"sets": len(self.results)}, tuple(gates), about, parts=dict(self.results))

    def _gates(self, name: str) -> list[Gate]:
        return [Gate(f"{name}: {gate.condition}", gate.passed, f"{name}: {gate.message}") for gate in self.results[name].gates]

    def end(self, out: console.Console) -> int:
        """Says how the gates ended, and returns the exit code. Raises the first error of a set: one of gates before one of failed rows,
        and any other before both.
        """
        broken = reporting.say_gates([gate for name in self.results for gate in self._gates(name)], out)
        gates = [GateError(*broken)] if broken else []
        rows = [exc for exc in self.failed.values() if isinstance(exc, RowsFailedError)]
        others = [exc for exc in self.failed.values() if not isinstance(exc, RowsFailedError)]
        errors: list[LlmkitError] = [*others, *self.refused, *gates, *rows]
        if not errors:
            return self.code
        for exc in errors[1:]:
            for line in broken if isinstance(exc, GateError) else [exc.message]:
                out.warn(line)
        raise errors[0]


@dataclass(frozen=True)
class _Set:
    """One test set: a command of `evaluate`, parsed and not yet run. where: how messages call it."""

    name: str
    measure: str
    where: str
    context: Any
    arguments: list[str]

    def check(self) -> None:
        """Raises UsageError or InputError for gates, reports and inputs that the command would refuse later."""
        given = self.context.params
        with self._named():
            if given.get("baseline") is None:
                refuse(self.context, ("test",), "needs --baseline")
            if self.measure in ("score", "bleu"):
                refuse_unread(self.context, _metrics(given))
            reporting.ending(
                *MEASURES[self.measure](given), fail_if=given.get("fail_if"), reports=given.get("report"), json_output=False,
                baseline=given.get("baseline"), max_regression=given.get("max_regression"), test=given["test"],
            )  # fmt: skip
            plain = [*(given.get("predictions") or ()), *(given.get("references") or ())]
            inputs = given.get("input") or given.get("inputs") or []
            for path in [*plain, *([inputs] if isinstance(inputs, str) else inputs)]:
                if path == "-":
                    raise UsageError("a suite cannot read standard input", hint="name a file")
                if path in plain:
                    check_plain(path)
                open_rows(path, format="txt" if path in plain else given.get("input_format", "auto"), offline=True)

    def measured(self, ctx: typer.Context) -> int:
        """Runs the command, which leaves its result to the session; its exit code."""
        ctx.meta[TYPED] = self.arguments
        with self._named(), self.context:
            return int(self.context.command.invoke(self.context) or 0)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except LlmkitError as exc:
            exc.message = f"{self.where}: {exc.message}"
            raise


def _sets(ctx: typer.Context, path: str, model: str | None, *, quiet: bool) -> Iterator[_Set]:
    """The sets of a suite, parsed. Raises InputError or UsageError naming the set and the key."""
    content = parse(Path(path))
    tables = content.pop("sets", None)
    if not isinstance(tables, dict) or not tables or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError("has no sets", path=path, hint='a set is a table: [sets.books] with measure = "perplexity" and input')
    check_once(content, path)
    parent: Any = ctx.parent
    commands = {name: parent.command.get_command(parent, name) for name in MEASURES}
    for key in content:
        if not any(_option(command, key) for command in commands.values()):
            known = [parameter.opts[0].lstrip("-") for command in commands.values() for parameter in command.params]
            hint = "each [sets.NAME] has its own measure" if key == "measure" else did_you_mean(normalize(key), ["sets", *known])
            raise UsageError(f"{path}: unknown option '{key}'", hint=hint)
    shared = content | ({"model": model} if model else {})
    for name, table in tables.items():
        where = f"{path}, sets.{name}"
        measure = table.get("measure")
        if measure not in MEASURES:
            what = "no measure" if measure is None else f"unknown measure '{measure}'"
            hint = f"measure = one of {', '.join(MEASURES)}"
            near = [key for key in table if did_you_mean(normalize(key), ["measure"], cutoff=0.75)] if measure is None else []
            hint = f"did you mean 'measure' by '{near[0]}'?" if near else did_you_mean(str(measure), MEASURES, default=hint)
            raise UsageError(f"{where}: {what}", hint=hint)
        check_once(table, where)
        own = {key: value for key, value in table.items() if key != "measure" and not (model and key == "model")}
        yield _parsed(ctx, _Set(name, measure, where, None, []), commands[measure], own, shared, quiet=quiet)


def _parsed(ctx: typer.Context, blank: _Set, command: Any, own: Mapping[str, Any], shared: Mapping[str, Any], *, quiet: bool) -> _Set:
    """The set with its command line: its own options as if they were typed, the suite's as from a configuration file."""
    arguments: list[str] = []
    off: list[str] = []  # switches that this set turns off, which no argument does
    for key, value in own.items():
        parameter = _option(command, key)
        if parameter is None:
            known = [p.opts[0].lstrip("-") for p in command.params if p.opts[0].lstrip("-") not in _NOT_IN_SETS]
            raise UsageError(f"{blank.where}: unknown option '{key}' of {blank.measure}", hint=did_you_mean(normalize(key), known))
        given = value_of(parameter, value, f"{blank.where}: {key}")
        if parameter.is_flag:
            arguments += [parameter.opts[0]] if given else []
            off += [] if given else [parameter.name]
        else:
            arguments += [f"{parameter.opts[0]}={item}" for item in (given if isinstance(given, list) else [given])]
    # saved outputs are no model's to answer
    left = ("model",) if own.keys() & {"predictions", "prediction_field", "prediction-field"} else ()
    defaults = {
        parameter.name: value_of(parameter, value, f"{blank.where}: {key}")
        for key, value in shared.items()
        if key not in left and (parameter := _option(command, key)) is not None
    }
    defaults["quiet"] = quiet
    try:
        context = command.make_context(blank.measure, list(arguments), parent=ctx, default_map=defaults)
    except typer.TyperException as exc:
        raise UsageError(f"{blank.where}: {exc.format_message()}") from exc
    context.params |= dict.fromkeys(off, False)
    return replace(blank, context=context, arguments=arguments)


def _check_files(sets: Sequence[_Set], reports: Sequence[str]) -> None:
    """Raises UsageError where two sets, or a set and the suite, would write one file."""
    writers = {os.path.realpath(path): "the suite's own --report" for path in reports}
    for each in sets:
        given = each.context.params
        for path in [*filter(None, [given.get("output")]), *(given.get("report") or ())]:
            if (other := writers.setdefault(os.path.realpath(path), each.where)) != each.where:
                raise UsageError(f"{each.where}: {path} is also written by {other}", hint="name a file for each set")


def _option(command: Any, key: str) -> Any:
    """The command's option of that name that a suite may give; None without one."""
    parameter = option_of(command, key)
    return None if parameter is None or parameter.opts[0].lstrip("-") in _NOT_IN_SETS else parameter


def _text_scores(given: Mapping[str, Any]) -> Scores:
    """Raises UsageError for unknown metrics."""
    from llmkit.metrics.registry import module_names

    runs = given["model"] is not None and not given["predictions"]
    metrics = _metrics(given)
    return text.names(metrics, given["repeat"] if runs else 1), module_names(metrics)


def _metrics(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a set that scores texts. Raises UsageError."""
    from llmkit.metrics.registry import chosen

    return chosen(given.get("metrics", "bleu"), trust_remote_code=given["trust_remote_code"])


#: The names of a command's scores, as far as they are known beforehand, and which of them are metric modules.
Scores = tuple[Sequence[str], Sequence[str]]
#: Commands of `evaluate` that a set may measure with, and the scores that each will have with such values of its options.
MEASURES: dict[str, Callable[[Mapping[str, Any]], Scores]] = {
    "perplexity": lambda given: (perplexity.names(len(given["inputs"] or ()), given["against"]), ()),
    "score": _text_scores,
    "bleu": _text_scores,
    "choice": lambda _: (choice.NAMES, ()),
    "code": lambda given: ([f"pass@{part.strip()}" for part in given["k"].split(",")], ()),
}


@dataclass(frozen=True)
class _Against:
    """An earlier result of the suite, and how much worse than it a set may be."""

    baseline: Result | None
    name: str
    bound: str | None
    test: str

    @classmethod
    def opened(cls, baseline: str | None, bound: str | None, test: str) -> _Against:
        """Raises UsageError or InputError."""
        if bound is not None:
            if baseline is None:
                raise UsageError("--max-regression needs --baseline")
            regression(bound)
        if baseline is None:
            return cls(None, "", None, test)
        from llmkit.reports.results import read

        earlier = read(baseline)
        if not earlier.parts:
            raise InputError("is not the result of a suite", path=baseline, hint="written by evaluate run --report FILE.json")
        return cls(earlier, baseline, bound, test)

    def gates(self, name: str, result: Result, out: console.Console) -> list[Gate]:
        """How the set `name` compares. A set that the baseline does not have is said, and passes."""
        if self.baseline is None:
            return []
        if name not in self.baseline.parts:
            out.notice(f"{name}: not in {self.name}, so it is not compared")
            return []
        compared = comparisons(
            self.baseline.parts[name], result, f"set '{name}' of {self.name}", f"set '{name}' of this run", test=self.test
        )
        reporting.say_uncompared(result, out)
        return [regression_gate(comparison, regression(self.bound) if self.bound else None) for comparison in compared]
