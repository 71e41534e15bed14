"""`llmkit evaluate code`: pass@k of generated programs. It runs them.

llmkit generate -i problems.jsonl -n 10 --temperature 0.8 -o samples.jsonl
llmkit evaluate code -i samples.jsonl -k 1,10 --run-code
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import options as opt
from llmkit.cli.help import Page
from llmkit.cli.parsing import SCORING, number_option, option
from llmkit.cli.scoring import GateOptions
from llmkit.errors import InputError, RowError, UsageError
from llmkit.metrics.base import Example, Result, row_digest
from llmkit.rows import Row, Rows, Total, open_rows
from llmkit.rows.fields import CONTINUED_PROGRAMS, WHOLE_PROGRAMS, first_name, row_id

if TYPE_CHECKING:
    from llmkit.metrics.code import Program

PAGE = Page(
    (
        "llmkit generate -i problems.jsonl -n 10 --temperature 0.8 -o samples.jsonl",
        "llmkit evaluate code -i samples.jsonl -k 1,10 --run-code",
    ),
    ("input", "run_code", "k", "code_timeout", "fail_if", "baseline", "report", "json_output"),
    "evaluate",
)


def code(
    ctx: typer.Context,
    *,
    rows_in: opt.RowsIn,
    run_code: Annotated[bool, option("--run-code", help="Allow running the programs on this machine.", panel=SCORING)] = False,
    k: Annotated[str, option("--k", "-k", help="Values of k for pass@k: 1,10.", panel=SCORING)] = "1",
    code_timeout: Annotated[float, number_option("--code-timeout", help="Time limit per program, in seconds.", panel=SCORING)] = 10.0,
    gates: GateOptions,
    display: opt.Display,
) -> int:
    """Reads problems with their programs, runs each in the sandbox, and reports pass@k."""
    out, input = display.console, rows_in.input
    if not all(part.strip().isdecimal() and int(part) > 0 for part in k.split(",")):
        raise UsageError(f"-k {k}: numbers of 1 or more are needed, for example 1,10")
    wanted = list(dict.fromkeys(int(part) for part in k.split(",")))
    end = gates.ending(ctx, [f"pass@{n}" for n in wanted], json_output=display.json_output)
    if input is None:
        raise UsageError("no input given", hint="name rows with --input FILE")
    if not run_code:
        raise UsageError(
            "pass@k runs programs that a model wrote, with your permissions",
            hint="read them, then add --run-code; a container is safer",
        )
    if not 0 < code_timeout < float("inf"):
        raise UsageError(f"--code-timeout {code_timeout}: it must be above 0")
    from llmkit.jobs.stopping import at_once
    from llmkit.metrics.code import Limits, check_samples, isolation, pass_at_k, passes
    from llmkit.models.cores import available_cores

    rows = open_rows(input, **rows_in.reading)
    programs, examples = _problems(rows)
    for n in wanted:
        check_samples(n, [len(own) for own in programs])
    apart = isolation()
    out.notice(apart)
    all_programs = [program for own in programs for program in own]
    with at_once(), out.progress("programs") as progress:
        progress.expect(Total(len(all_programs), True))
        ran = passes(all_programs, Limits(code_timeout), workers=available_cores(), told=lambda: progress.advance(1))
    flat = iter(ran)
    results = [[next(flat) for _ in each] for each in programs]
    scores = tuple(pass_at_k(n, results, code_timeout) for n in wanted)
    about = {"input": rows.name, "input_sha256": rows.sha256, "isolation": apart}
    end.finish(Result(scores, len(programs), about=about, examples=tuple(examples)), out)
    return 0


def _problems(rows: Rows) -> tuple[list[list[Program]], list[Example]]:
    """The programs of each problem, and its example. Rows of one `task_id` are samples of one problem, as in HumanEval's samples: each in
    a row of its own. Raises InputError without a row, RowError for one that can't be used.
    """
    from llmkit.metrics.code import Program

    programs: list[list[Program]] = []
    examples: list[Example] = []
    tasks: dict[str, int] = {}
    for row in rows:
        own, check = _programs(row, rows.name)
        task = row.fields.get("task_id")
        place = len(programs) if task is None else tasks.setdefault(str(task), len(programs))
        if place == len(programs):
            programs.append([])
            examples.append(Example(row_id(row.fields, row.index + 1), row_digest([check], row.fields.get("prompt")), check, own[0]))
        elif check != examples[place].source:
            what = f"task_id '{str(task)[:80]}' has another test in an earlier row"
            raise RowError(what, path=rows.name, line=row.line, hint="rows of one task_id are samples of one problem")
        programs[place] += [Program(program, check) for program in own]
    if not programs:
        raise InputError("there are no rows to score", path=rows.name)
    return programs, examples


def _programs(row: Row, file_name: str) -> tuple[list[str], str]:
    """The programs of a row and the test that runs after each: `prediction(s)` stand alone, `text(s)` and `completion(s)` continue the
    `prompt`. Raises RowError.
    """
    from llmkit.metrics.code import complete_program, complete_test

    if row.error is not None:
        raise row.error
    if "text" in row.fields and (other := first_name(row.fields, ("completions", "completion"))) is not None:
        raise RowError(f"fields 'text' and '{other}' could both be the program", path=file_name, line=row.line, hint="remove one of them")
    name = first_name(row.fields, (*WHOLE_PROGRAMS, *CONTINUED_PROGRAMS))
    value: Any = row.fields.get(name or "")
    programs, check = [value] if isinstance(value, str) else value, _test(row)
    if not isinstance(programs, list) or not programs or not all(isinstance(p, str) for p in programs) or check is None:
        there = ", ".join(list(row.fields)[:12]) or "none"
        missing = "test" if check is None else name or "texts"
        raise RowError(f"no field '{missing}' with code (fields: {there})", path=file_name, line=row.line)
    entry_point = row.fields.get("entry_point")
    if entry_point is not None and not isinstance(entry_point, str):
        raise RowError("field 'entry_point' is not text", path=file_name, line=row.line)
    try:
        check = complete_test(check, entry_point)
    except InputError as exc:
        raise RowError(exc.message, path=file_name, line=row.line, hint=exc.hint) from exc
    prompt = row.fields.get("prompt")
    if name in CONTINUED_PROGRAMS and isinstance(prompt, str):
        programs = [complete_program(prompt, program) for program in programs]
    return programs, check


def _test(row: Row) -> str | None:
    """The field `test`, or MBPP's `test_list` with what comes before it: texts or lists of statements; None without one."""
    last = "test" if row.fields.get("test") is not None else "test_list"
    parts: list[Any] = []
    for name in (last,) if last == "test" else ("test_imports", "test_setup_code", last):
        value = row.fields.get(name) or []
        parts += value if isinstance(value, list) else [value]
    return "\n".join(parts) if row.fields.get(last) is not None and all(isinstance(part, str) for part in parts) else None
