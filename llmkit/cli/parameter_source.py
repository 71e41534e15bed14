"""Where a value came from (typed, the environment, a file, a default), and the name by which its user gave it.

Knows contexts of Typer; not what an option does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import typer

from llmkit.cli.names import normalize

#: Keys of the context's shared state: the words typed after the command's name, and where values of a configuration file came from.
TYPED, CONFIGURED = "llmkit.typed", "llmkit.configured"


def on_command_line(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter was typed, and not taken from the environment, a configuration file or its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether the parameter has a value from anywhere but its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def option_name(ctx: Any, name: str) -> str:
    """The parameter as its user gave it: the option as typed, LLMKIT_TOP_P, or 'cfg.toml: top_p'."""
    parameter = next(p for p in ctx.command.params if p.name == name)
    source = ctx.get_parameter_source(name)
    if source is not None and source.name == "ENVIRONMENT":
        return str(parameter.envvar)
    if name in ctx.meta.get(CONFIGURED, {}) and (source is None or source.name == "DEFAULT_MAP"):
        return str(ctx.meta[CONFIGURED][name])
    options = (*parameter.opts, *parameter.secondary_opts)
    return typed(ctx.meta.get(TYPED, ()), options) or next((o for o in options if o.startswith("--")), options[0])


def as_given(ctx: Any, message: str) -> str:
    """`message` with each option it names written as the user gave it."""
    names = {o: p.name for p in ctx.command.params for o in p.opts if o.startswith("--")}

    def named_as_typed(match: re.Match[str]) -> str:
        name = names.get(match.group())
        return option_name(ctx, name) if name is not None else match.group()

    return re.sub(r"--[a-z][a-z0-9-]*", named_as_typed, message)


def with_source(ctx: Any, message: str) -> str:
    """`message` with the source of the value that it begins with, where nobody typed that: the environment, or a configuration file."""
    for parameter in ctx.command.params:
        name = parameter.name
        value = ctx.params.get(name)
        if isinstance(value, str) and message.startswith(f"{value}: ") and is_given(ctx, name) and not on_command_line(ctx, name):
            return f"{option_name(ctx, name)}: {message}"
    return message


def typed(words: Iterable[str], options: Iterable[str]) -> str | None:
    """The word by which one of `options` was typed, also under an alias."""
    for word in words:
        name = word.split("=", 1)[0]
        bare = name.lstrip("-")
        if name in options or name.removesuffix(bare) + normalize(bare) in options:
            return name
    return None
