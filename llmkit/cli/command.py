"""A command of llmkit: its options come in groups, and each value remembers where it came from.

A group is a dataclass whose fields are Typer options with defaults. `add` gives Typer the flat list of options and the
command's function the groups. Knows Typer; not what an option means.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from llmkit.cli import console
from llmkit.cli.names import normalize
from llmkit.errors import LlmkitError, UsageError

#: Keys of the context's shared state: the words typed, and where values of a configuration file came from.
TYPED, CONFIGURED = "llmkit.typed", "llmkit.configured"

_F = TypeVar("_F", bound=Callable[..., Any])


class Command(TyperCommand):
    """Reads environment values like the command line's, and names options in errors as they were given."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        for parameter in self.params:
            if getattr(parameter, "multiple", False):
                # A variable is one value, as one use of the option is; click would cut it at white space.
                setattr(parameter, "split_envvar_value", _whole)  # noqa: B010

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LlmkitError as exc:
            exc.message = as_given(ctx, console.with_options(exc.message))
            exc.hint = exc.hint and console.with_options(exc.hint)
            raise


def _whole(value: str) -> list[str]:
    return [value]


def add(app: typer.Typer, name: str, *, help: str) -> Callable[[_F], _F]:
    """Registers a function as the command `name`; its parameters that are dataclasses are groups of options."""

    def register(function: _F) -> _F:
        app.command(name, help=help, cls=Command, no_args_is_help=False)(_flat(function))
        return function

    return register


def _flat(function: Callable[..., Any]) -> Callable[..., Any]:
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

    def call(**values: Any) -> Any:
        built = {name: kind(**{n: values.pop(n) for n in names}) for name, (kind, names) in groups.items()}
        return function(**values, **built)

    call.__name__, call.__doc__ = getattr(function, "__name__", "command"), function.__doc__
    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return call


def on_command_line(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter was typed, and not taken from the environment, a configuration file or its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter has a value from anywhere but its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


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


def option_name(ctx: Any, name: str) -> str:
    """The parameter as its user gave it: the option as typed, LLMKIT_TOP_P, or 'cfg.toml: top_p'."""
    parameter = next(p for p in ctx.command.params if p.name == name)
    source = ctx.get_parameter_source(name)
    if source is not None and source.name == "ENVIRONMENT":
        return str(parameter.envvar)
    if name in ctx.meta.get(CONFIGURED, {}) and (source is None or source.name == "DEFAULT_MAP"):
        return str(ctx.meta[CONFIGURED][name])
    options = (*parameter.opts, *parameter.secondary_opts)
    typed = _typed(ctx.meta.get(TYPED, ()), options)
    return typed or next((o for o in options if o.startswith("--")), options[0])


def _typed(words: Iterable[str], options: Iterable[str]) -> str | None:
    """The word by which one of `options` was typed, also under an alias."""
    for word in words:
        name = word.split("=", 1)[0]
        if name in options or (name.startswith("--") and "--" + normalize(name[2:]) in options):
            return name
    return None


def as_given(ctx: Any, message: str) -> str:
    """`message` with each option it names written as the user gave it."""
    names = {o: p.name for p in ctx.command.params for o in p.opts if o.startswith("--")}

    def named_as_typed(match: re.Match[str]) -> str:
        name = names.get(match.group())
        return option_name(ctx, name) if name is not None else match.group()

    return re.sub(r"--[a-z][a-z0-9-]*", named_as_typed, message)


def usage_error(exc: typer.TyperException) -> LlmkitError:
    """What typer found wrong with the command line, in our form: the option as typed, what is wrong, what to do."""
    ctx, parameter = getattr(exc, "ctx", None), getattr(exc, "param", None)
    hint = f"'{ctx.command_path} --help' lists the {'commands' if hasattr(ctx.command, 'commands') else 'options'}" if ctx else None
    message = exc.format_message().replace("\n", " ")
    if parameter is not None and ctx is not None and exc.message and parameter.param_type_name == "option":
        message = f"{option_name(ctx, parameter.name)}: {exc.message}"
    unknown = getattr(exc, "option_name", None)
    if ctx is not None and isinstance(unknown, str) and unknown.startswith("--"):
        typed = _typed(ctx.meta.get(TYPED) or sys.argv[1:], (unknown,))
        message = message.replace(unknown, typed, 1) if typed else message
    return UsageError(message, hint=hint)
