"""A command of llmkit: its options come in groups, and each value remembers where it came from.

A group of options is a dataclass whose fields are Typer options with defaults. `add` gives Typer the flat list of options and the
command's function the groups. `llmkit.cli.usage_errors` says what is wrong with a command line. Knows Typer; not what an option means.
"""

from __future__ import annotations

import gc
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from llmkit.cli import console, parsing
from llmkit.cli import help as help_pages
from llmkit.cli.config import misspelled_variables
from llmkit.cli.help import Page
from llmkit.cli.parameter_source import TYPED, as_given, is_given, on_command_line, option_name, with_source
from llmkit.cli.waiting import while_reading
from llmkit.errors import LlmkitError, UsageError

_F = TypeVar("_F", bound=Callable[..., Any])
_NO_PAGE = Page()
#: What makes a value of a word, by the type of the parameter.
_PLAIN: dict[Any, Callable[[Any], Any]] = {bool: parsing.yes_or_no, str: str, list[str]: str}
#: Options that name a file of which a command has one: the rows that are read, where they go, and more options.
_ONE_FILE = ("input", "output", "config")
#: Options that name a file of rows or texts, where '-' is standard input.
_READ = ("input", "data", "train", "predictions", "references")
#: More than a letter behind one dash: an option with its value, several options, or an option of another tool.
_ONE_DASH = re.compile(r"-[A-Za-z].")


class Command(TyperCommand):
    """Reads environment values like the command line's, and names options in errors as they were given."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        for parameter in self.params:
            if getattr(parameter, "multiple", False):
                # A variable is one value, as one use of the option is; click would cut it at white space.
                setattr(parameter, "split_envvar_value", _whole)  # noqa: B010

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters with `--help`, each parsed without pydantic where it can be."""
        return _parsed_plainly(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keeps what was typed, for messages. Raises UsageError for words that no argument takes."""
        ctx.meta[TYPED] = list(args)
        ctx.allow_extra_args = True
        words = help_pages.asks_for_all(ctx, args)
        if not ctx.resilient_parsing and any(_ONE_DASH.match(word) for word in words):
            from llmkit.cli.usage_errors import check_one_dash

            check_one_dash(ctx, words)
        try:
            rest = super().parse_args(ctx, list(words))
        except typer.TyperException as exc:
            from llmkit.cli.usage_errors import set_context

            set_context(exc, ctx)
            raise
        if rest and not ctx.resilient_parsing:
            from llmkit.cli.usage_errors import extra_words

            raise extra_words(ctx, rest)
        if not ctx.resilient_parsing:
            self._check_given_once(ctx, words)
        return rest

    def _check_given_once(self, ctx: Any, words: list[str]) -> None:
        """Raises UsageError for a second file where one is read or written: the last would be taken, the others silently left out."""
        _, _, order = self.make_parser(ctx).parse_args(list(words))
        for parameter in order:
            times = order.count(parameter)
            if times > 1 and parameter.name in _ONE_FILE and not getattr(parameter, "multiple", False):
                hint = "run the command once per file, or join the files"
                raise UsageError(f"{option_name(ctx, parameter.name)} is given {times} times, and only once is allowed", hint=hint)

    def get_help(self, ctx: Any) -> str:
        """The page in llmkit's own layout: with the common options alone, unless all were asked for."""
        return help_pages.page(self, ctx)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Settings that an error names become options, written as they were given."""
        if not gc.isenabled():  # by the program; what is imported so far stays, and need not be looked at again
            gc.freeze()
            gc.enable()
        for name, meant in misspelled_variables(ctx):
            console.Console().warn(f"{name} sets no option", hint=f"did you mean {meant}?")
        piped = any(value == "-" or (isinstance(value, (list, tuple)) and "-" in value) for value in map(ctx.params.get, _READ))
        try:
            with while_reading(console.Console().notice) if piped else nullcontext():
                return super().invoke(ctx)
        except LlmkitError as exc:
            exc.message = with_source(ctx, as_given(ctx, console.with_options(exc.message)))
            exc.hint = exc.hint and console.with_options(exc.hint)
            raise


class Group(TyperGroup):
    """Commands under a name; says what to type for a name that is none of them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters with `--help`, each parsed without pydantic where it can be."""
        return _parsed_plainly(super().get_params(ctx))

    def listed(self) -> list[tuple[str, str]]:
        """The commands and what they do, as the help page shows them."""
        return [(name, command.help or "") for name, command in self.commands.items() if not command.hidden]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keeps what was typed, for messages; `help` before a command, or alone, is `--help` behind it."""
        while args[:1] == ["help"] and not ctx.resilient_parsing:
            args = [*args[1:], "--help"]
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, help_pages.asks_for_all(ctx, args))

    def get_help(self, ctx: Any) -> str:
        """The page in llmkit's own layout."""
        return help_pages.page(self, ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises UsageError with the nearest name for a command that there is not."""
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from llmkit.cli.usage_errors import unknown_command

            raise unknown_command(ctx, args, [name for name, _ in self.listed()])
        return super().resolve_command(ctx, args)


def show_help(ctx: typer.Context) -> None:
    """The help page on stderr, for a group that was called without a command. Raises typer.Exit with 2."""
    if ctx.invoked_subcommand is None:
        sys.stderr.write(ctx.get_help() + "\n")
        raise typer.Exit(2)


def _whole(value: str) -> list[str]:
    return [value]


def _parsed_plainly(parameters: list[Any]) -> list[Any]:
    """The parameters, which make their values by `_Parsed` from now on, but for those of which Typer alone knows how."""
    for parameter in parameters:
        described = getattr(parameter, "type_descriptor", None)
        if described is None:  # before Typer 0.29
            continue
        parse: Any = described.parameter_info.parser or _PLAIN.get(described.annotation)
        if parse is not None:
            parameter.get_runtime_param = partial(_Parsed, parse)
    return parameters


@dataclass(frozen=True)
class _Parsed:
    """Makes a parameter's values as Typer does, without pydantic: its import and its validators take a tenth of a short command."""

    parse: Callable[[Any], Any]

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value, or a list of them for a parameter with several. Raises typer.BadParameter."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        return [self.parse(item) for item in value] if several else self.parse(value)


def add(
    app: typer.Typer, name: str, *, help: str, page: Page = _NO_PAGE, without: tuple[str, ...] = (), hidden: bool = False
) -> Callable[[_F], _F]:
    """Registers a function as the command `name`; its parameters that are dataclasses are groups of options.

    page: what the help shows beside the options. without: parameters that keep their defaults under this name.
    """

    def register(function: _F) -> _F:
        flat = _flat(function, without)
        app.command(name, help=help, cls=Command, no_args_is_help=False, hidden=hidden)(help_pages.shows(page)(flat))
        return function

    return register


def _flat(function: Callable[..., Any], without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A function with the options of all groups as parameters, which calls `function` with the groups."""
    hints = get_type_hints(function, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, tuple[Any, list[str]]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            parameters[parameter.name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind)
            continue
        group: Any = kind
        default = group() if parameter.default is inspect.Parameter.empty else parameter.default
        own = get_type_hints(kind, include_extras=True)
        groups[parameter.name] = (kind, [field.name for field in fields(kind)])
        for field in fields(kind):
            parameters[field.name] = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=getattr(default, field.name), annotation=own[field.name]
            )

    kept = {name: parameters.pop(name).default for name in without}

    def call(**values: Any) -> Any:
        values |= kept
        built = {name: kind(**{n: values.pop(n) for n in names}) for name, (kind, names) in groups.items()}
        return function(**values, **built)

    call.__name__, call.__doc__ = getattr(function, "__name__", "command"), function.__doc__
    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return call


def command_line(ctx: typer.Context) -> str:
    """The command as it was typed, for a shell; without passwords in URLs."""
    return console.without_credentials(shlex.join([*ctx.command_path.split(), *ctx.meta.get(TYPED, ())]))


def option_names(*groups: type, but: Collection[str] = ()) -> tuple[str, ...]:
    """The options of the groups, those in `but` left out: what a form of a command would ignore is all of them unless it is named."""
    return tuple(dict.fromkeys(field.name for group in groups for field in fields(group) if field.name not in but))


def refuse(ctx: typer.Context, names: Iterable[str], why: str, *, hint: str | None = None) -> None:
    """Raises UsageError for the first of `names` that was typed: this form of the command would ignore it.

    Values from the environment or a configuration file are for many commands, and are passed over.
    """
    for name in names:
        if on_command_line(ctx, name):
            raise UsageError(f"{option_name(ctx, name)} {why}", hint=hint)


def options_set_by_user(ctx: typer.Context, *, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """The command's options that were given, for the run record: by long name, with underscores (`top_p`)."""
    skip = {"config", "quiet", "verbose", "debug", *leave}
    out = {}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = ctx.params.get(name)
        if name not in skip and is_given(ctx, name) and value not in (None, [], ()):
            out[parameter.opts[0].lstrip("-").replace("-", "_")] = list(value) if isinstance(value, tuple) else value
    return out


def identity(ctx: typer.Context, command: str) -> dict[str, Any]:
    """The identity of this run as far as the options tell it, before a model is loaded: of all of them, see `llmkit.records.identity`."""
    from llmkit import records

    named = {parameter.opts[0].lstrip("-").replace("-", "_"): parameter for parameter in ctx.command.params if parameter.name}
    options = {name: ctx.params.get(parameter.name or "") for name, parameter in named.items()}
    files = [name for name, parameter in named.items() if "FILE" in str(parameter.metavar or "")]
    return records.identity(command, options, files=files)
