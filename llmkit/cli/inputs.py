"""What the commands share that take one text or many rows: standard input, options that go with --input, the output's lock."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import typer

from llmkit.errors import InputError, OutputError, UsageError
from llmkit.rows.text import read_text

if TYPE_CHECKING:
    from llmkit.jobs.output import Output, Writer

_MANY = (
    "output", "template", "prompt_field", "text_field", "limit", "overwrite", "restart", "retry_failed", "max_time", "max_errors",
    "verify_batching",
)  # fmt: skip


def read_prompt(argument: str | None, example: str) -> str:
    """The argument, standard input, or both: the piped text first. example: shown when there is neither."""
    piped = None
    if argument == "-" or _stdin_is_piped():
        if sys.stdin is None or sys.stdin.closed:
            raise InputError("standard input is closed", hint="give the text as an argument")
        piped = read_text("-")
    if argument is None or argument == "-":
        if piped is None:
            raise UsageError("there is no prompt", hint=f"{example}, or -i FILE for many")
        return piped
    return f"{piped.rstrip()}\n{argument}" if piped and piped.strip() else argument


def only_with_input(ctx: typer.Context) -> None:
    """Refuses options about many rows where there is one text. Raises UsageError."""
    for name in _MANY:
        if ctx.params.get(name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --input", hint="add -i FILE; the answer to one prompt goes to stdout")


def output_of(
    output: str | None, input: str, *, overwrite: bool, restart: bool, answer: str = "text", write: Writer | None = None
) -> Output | None:
    """Takes hold of the file for the rows, None where none is asked for. answer and write: see `Output`. Raises OutputError."""
    if output is None:
        return None
    if input and os.path.realpath(output) == os.path.realpath(input):
        raise OutputError(f"{output} is the input", hint="name another output")
    from llmkit.jobs.output import Output

    return Output(output, overwrite=overwrite, restart=restart, answer=answer, write=write)


def _stdin_is_piped() -> bool:
    """A pipe or a file; not a terminal, not /dev/null, not closed."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
