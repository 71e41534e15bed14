"""The Typer app: the names of the commands, loaded when called; errors become a message and an exit code.

Nothing else happens here.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer

from llmkit.cli import console, streams
from llmkit.cli.command import Group, show_help
from llmkit.cli.help import Page, shows
from llmkit.cli.names import COMMANDS, SPELLINGS, module_of, normalize
from llmkit.errors import LlmkitError, ModelError, OutOfMemoryError, UsageError, one_line
from llmkit.models.cores import share_cores
from llmkit.models.libraries import import_failure
from llmkit.models.panics import is_panic
from llmkit.version import __version__

_VERSION = f"llmkit {__version__}\n"
#: Characters of a name that no file can have, as a message shows it.
_LONG_NAME = 80


class LazyGroup(Group):
    """Commands by name; a command's module is imported when it is called."""

    def listed(self) -> list[tuple[str, str]]:
        """Every command with its line of help, from a table: no command's module is imported."""
        return list(COMMANDS.items())

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports the module of a command, by its name or another spelling of it; None for an unknown name."""
        cmd_name = SPELLINGS.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(module_of(cmd_name)).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="llmkit",
    cls=LazyGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": normalize},
)


_PAGE = Page(('llmkit generate "Once upon a time"', 'llmkit translate "Good morning" --to fr'))


@app.callback(invoke_without_command=True, help="A toolkit for language models: generate, finetune, evaluate, translate.")
@shows(_PAGE)
def _root(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", "-V", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        console.write(_VERSION)
        raise typer.Exit
    show_help(ctx)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with the code of the contract."""
    codes: list[int] = []
    atexit.register(_leave, os.getpid(), codes)  # the first to be registered is the last to be called
    codes.append(run(argv))
    sys.exit(codes[0])


def _leave(process: int, codes: Sequence[int]) -> None:
    """Ends the process, unless it is a fork, once libraries have cleaned up: taking the interpreter apart takes as long as a few words."""
    if not codes or os.getpid() != process:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed; what stands in it has been tried before
            stream.flush()
    os._exit(codes[0])


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.set_up()
    share_cores()
    debug = "--debug" in arguments or os.environ.get("LLMKIT_DEBUG", "") not in ("", "0")
    try:
        code = _call(arguments)
        streams.finish()
        return code
    except typer.TyperException as exc:
        from llmkit.cli.usage_errors import usage_error  # and the names of other tools, which only a mistake needs

        console.error(usage_error(exc))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as exc:
        return exc.exit_code
    except (console.ClosedPipeError, BrokenPipeError):
        streams.silence()
        return streams.SIGPIPE_EXIT
    except BaseException as exc:
        if not isinstance(exc, Exception) and not is_panic(exc):
            raise
        if debug:
            console.traceback(exc)
        known = _known(exc)
        if isinstance(exc, OSError) and known is not None:
            streams.silence()
        console.error(known or _bug(exc))
        return (known or LlmkitError("")).exit_code


def _call(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):  # typer would load pydantic to parse it
        console.write(_VERSION)
        return 0
    try:
        return int(app(arguments, prog_name="llmkit", standalone_mode=False) or 0)
    except SystemExit as exc:
        # typer ends the process by itself when a pipe is closed while it writes a help page
        if isinstance(exc.__context__, BrokenPipeError):
            raise BrokenPipeError from exc
        raise


def _known(exc: BaseException) -> LlmkitError | None:
    """What an exception says that is no bug."""
    if isinstance(exc, MemoryError):
        return OutOfMemoryError("the memory is full", hint="close other programs, or give this one more memory")
    if isinstance(exc, OSError):
        return streams.error(exc) or _bad_name(exc)
    if is_panic(exc):
        return ModelError(f"the model's tokenizer can't be used: {one_line(exc)}", hint="copy or download the model again")
    return exc if isinstance(exc, LlmkitError) else import_failure(exc)


def _bad_name(exc: OSError) -> LlmkitError | None:
    """A name that no file can have, at any place where one is given; None for any other error."""
    if exc.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
        return None
    name = os.fsdecode(exc.filename) if isinstance(exc.filename, (str, bytes)) else str(exc.filename or "a name")
    return UsageError(f"{name if len(name) <= _LONG_NAME else name[:_LONG_NAME] + '...'}: {exc.strerror}", hint="name another file")


def _bug(exc: BaseException) -> LlmkitError:
    reason = str(exc).splitlines()[0] if str(exc) else "(no message)"
    return LlmkitError(f"unexpected {type(exc).__name__}: {reason}", hint="this is a bug in llmkit; --debug shows where")
