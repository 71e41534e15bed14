"""The Typer app: the names of the commands, loaded when called; errors become a message and an exit code.

Nothing else happens here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from llmkit import __version__
from llmkit.cli import console, streams
from llmkit.cli.names import normalize
from llmkit.errors import LlmkitError

#: A command's name, its module, and the line the help page shows for it (so that help imports no command).
COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("llmkit.cli.commands.generate", "Text from a prompt, or an answer to every row of a file."),
    "finetune": ("llmkit.cli.commands.finetune", "A LoRA adapter from a data file, by a run that resumes."),
    "merge": ("llmkit.cli.commands.merge", "An adapter and its base as one model, shown to answer alike."),
    "translate": ("llmkit.cli.commands.translate", "A text, the lines of a file, or a field of its rows, in another language."),
    "evaluate": ("llmkit.cli.commands.evaluate", "Numbers about a model or about saved outputs."),
    "models": ("llmkit.cli.commands.models", "What is here: built-in and cached models, and what one needs."),
    "doctor": ("llmkit.cli.commands.doctor", "What works on this machine, and the fix for what does not."),
    "rerun": ("llmkit.cli.commands.rerun", "Run a recorded run again and say whether the result is the same."),
}

#: Another spelling that people type.
_SPELLINGS = {"fine-tune": "finetune"}

_VERSION = f"llmkit {__version__}\n"


class LazyGroup(TyperGroup):
    """Commands by name; a command's module is imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        cmd_name = _SPELLINGS.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        if ctx.resilient_parsing or _listing(ctx):
            return typer.main.get_command(_named(cmd_name, line))
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        _draw(command, self.rich_markup_mode)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        ctx.meta["llmkit.resolving"] = True
        self.commands = cast("Any", dict.fromkeys(COMMANDS))  # for "did you mean"
        try:
            return super().resolve_command(ctx, args)
        finally:
            ctx.meta["llmkit.resolving"] = False


def _draw(command: Any, mode: Any) -> None:
    """Help pages of `command` and what is under it with boxes ('rich') or plain (None)."""
    command.rich_markup_mode = mode
    for inner in getattr(command, "commands", {}).values():
        _draw(inner, mode)


def _listing(ctx: Any) -> bool:
    return not ctx.meta.get("llmkit.resolving", False)


def _named(name: str, line: str) -> typer.Typer:
    stub = typer.Typer(add_completion=False)
    stub.command(name, help=line)(lambda: None)
    return stub


app = typer.Typer(
    name="llmkit",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": normalize},
)


@app.callback(invoke_without_command=True, help="A toolkit for language models: generate, finetune, evaluate, translate.")
def _root(
    version: bool = typer.Option(False, "--version", "-V", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        console.write(_VERSION)
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with the code of the contract."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.prepare()
    # Boxes are for eyes; a pipe gets plain lines, which are also drawn in half the time.
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    debug = "--debug" in arguments or os.environ.get("LLMKIT_DEBUG", "") not in ("", "0")
    try:
        code = _call(arguments)
        streams.finish()
        return code
    except typer.TyperException as exc:
        # A private class of typer, whose message is the help page (empty where rich has drawn it already).
        if type(exc).__name__ == "NoArgsIsHelpError":
            console.raw_error(exc.format_message() + "\n")
            return 2
        console.error(LlmkitError(exc.format_message().replace("\n", " "), hint=_help_hint(exc)))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as exc:
        return exc.exit_code
    except (console.ClosedPipeError, BrokenPipeError):
        streams.silence()
        return streams.SIGPIPE_EXIT
    except Exception as exc:
        if debug:
            console.traceback(exc)
        known = exc if isinstance(exc, LlmkitError) else streams.error(exc) if isinstance(exc, OSError) else None
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


def _bug(exc: Exception) -> LlmkitError:
    reason = str(exc).splitlines()[0] if str(exc) else "(no message)"
    return LlmkitError(f"unexpected {type(exc).__name__}: {reason}", hint="this is a bug in llmkit; --debug shows where")


def _help_hint(exc: typer.TyperException) -> str | None:
    ctx = getattr(exc, "ctx", None)
    return f"'{ctx.command_path} --help' lists the options" if ctx is not None else None
