"""What the commands share that take one text or many rows: standard input, options that need --input, the output's lock."""

from __future__ import annotations

import os
import re
import select
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmkit.cli import console
from llmkit.cli.command import option_names, refuse
from llmkit.cli.jobs import AnswerJobOptions
from llmkit.cli.options import AnswersOut, RowFormat
from llmkit.cli.parameter_source import option_name
from llmkit.cli.waiting import while_reading
from llmkit.errors import InputError, OutputError, UsageError
from llmkit.rows.reading import FORMATS
from llmkit.rows.text import read_text

if TYPE_CHECKING:
    from llmkit.jobs.output import Output, Writer
    from llmkit.jobs.shards import Shard

#: Endings of files with rows.
_ROWS = tuple(f".{name}{packed}" for name in FORMATS for packed in ("", ".gz"))
#: Options about rows and their file, which do not apply to one text. `AnswersOut.for_one` decides on a format of the answer.
ONLY_WITH_INPUT = (
    *option_names(RowFormat, AnswersOut, AnswerJobOptions, but=("output_format", "encoding")),
    "template", "prompt_field", "text_field", "verify_batching", "continue_last",
)  # fmt: skip

#: ... and those about a file that is there already, which do not apply to standard output.
NEEDS_FILE = ("overwrite", "restart", "retry_failed")


def only_with_input(ctx: typer.Context) -> None:
    """Refuses options about many rows where there is one text. Raises UsageError."""
    words = next((ctx.params.get(p.name) for p in ctx.command.params if p.param_type_name == "argument" and p.name), None) or ()
    file = next((word for word in words if is_rows(word)), None)
    file = "-" if file is None and "-" in words else file
    hint = f"did you mean -i {file}?" if file else "add -i FILE; the answer to one prompt goes to stdout"
    refuse(ctx, ONLY_WITH_INPUT, "needs --input", hint=hint)
    if words and "-" not in words:
        refuse(ctx, ("encoding",), "needs --input or standard input", hint="remove it; an argument has the terminal's encoding")


def is_rows(text: str) -> bool:
    """Whether a text is the name of a file that is here, and of a kind that holds rows."""
    return len(text) < 256 and text.lower().endswith(_ROWS) and os.path.isfile(text)


def remark_escapes(ctx: typer.Context, out: console.Console, names: Sequence[str]) -> None:
    """Says of options whose text holds a backslash and a letter, as \\n, that these are two characters."""
    for name in names:
        value = ctx.params.get(name)
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str) and (escape := re.search(r"\\[nrt]", text)):
                what = f"'{escape[0]}' is a backslash and the letter {escape[0][1]}"
                out.warn(f"{option_name(ctx, name)}: {what}; in a shell, $'{escape[0]}' is the control character")


def read_prompt(words: Sequence[str] | None, example: str, out: console.Console, encoding: str = "utf-8") -> str:
    """The text argument; standard input where there is none; both where '-' stands beside it, the piped text first.

    example: a command that is shown when there is neither. encoding: of standard input. Raises UsageError, also for a standard input
    without a byte, or InputError.
    """
    words = list(words or ())
    texts = [word for word in words if word != "-"]
    if len(texts) > 1 or len(words) - len(texts) > 1:
        from llmkit.cli.usage_errors import word_hint

        hint = next(filter(None, map(word_hint, texts)), None) if texts else "one - is enough"
        raise UsageError(
            f"expected one text, not {len(words)} arguments: '{words[1]}'", hint=hint or f"put quotes around the text: {example}"
        )
    if words and "-" not in words:
        if is_rows(texts[0]):
            out.notice(f"the prompt is the text '{texts[0]}'; -i {texts[0]} reads the rows of that file")
        if _is_left_unread():
            out.notice("standard input is not read beside an argument; add - to put it before the text")
        return texts[0]
    if not words and not _stdin_is_piped():
        raise UsageError("no prompt given", hint=f"{example}, or -i FILE for many")
    piped = _read_stdin(encoding)
    if not piped:  # most likely the command before the pipe has failed
        raise UsageError("standard input is empty", hint="give the text as an argument" if not texts else "remove -")
    if not texts:
        return piped.removesuffix("\n")
    return f"{piped.rstrip()}\n{texts[0]}" if piped.strip() else texts[0]


def _read_stdin(encoding: str) -> str:
    """All of standard input; says so when nothing arrives for a while. Raises InputError."""
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed", hint="give the text as an argument")
    with while_reading(console.Console().notice, all_of_it=True):
        return read_text("-", encoding)


@contextmanager
def output_of(
    output: str | None, input: str, known: Mapping[str, Any], *, overwrite: bool, restart: bool, answer: str = "text",
    write: Writer | None = None, shard: Shard | None = None,
) -> Iterator[Output | None]:  # fmt: skip
    """The file for the rows, locked until the end of the `with` block; None without `output`.

    known: the run's identity as far as its options tell it. answer and write: see `Output`. shard: the part of it that is made.
    Raises OutputError, also for a finished output of another run.
    """
    if output is None:
        if shard is not None:
            raise UsageError("--shard needs --output", hint="add -o FILE, the same for all shards")
        yield None
        return
    if shard is not None:
        from llmkit.jobs.output import RowsWriter, writer_of
        from llmkit.jobs.shards import shard_lines

        _ = write or writer_of(Path(output), answer)  # an ending that no format has is refused now
        output, write = shard.path(output), RowsWriter(shard_lines)
    if input and os.path.realpath(output) == os.path.realpath(input):
        raise OutputError(f"{output} is the input", hint="name another output")
    from llmkit.jobs.earlier import check_finished
    from llmkit.jobs.output import Output

    with Output(output, overwrite=overwrite, restart=restart, answer=answer, write=write) as target:
        check_finished(target, known)
        yield target


def _is_left_unread() -> bool:
    """Whether a pipe holds text that nobody asked for, and a person may wonder; off a terminal it is a loop's or a parent's."""
    if not sys.stderr.isatty() or not hasattr(select, "poll"):
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode):
            return False
    except OSError:
        return False
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _stdin_is_piped() -> bool:
    """A pipe or a file; not a terminal, not /dev/null, not closed."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
