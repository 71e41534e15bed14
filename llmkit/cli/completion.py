"""What may come next on a command line: commands, options, and values that are known here without loading anything heavy.

Knows the commands and their options; not the shells, whose scripts are in `commands/completion.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import typer

from llmkit.cli.names import ALIASES
from llmkit.cli.parsing import LIST

#: Separators at which bash cuts a word in pieces.
_CUTS = (":", "=")


def candidates(words: Sequence[str]) -> list[tuple[str, str]]:
    """Continuations of the last word, each with a description. Empty where the shell should offer files.

    words: what stands after `llmkit`, the word that is being typed last (it may be empty).
    """
    *before, typed = words or ("",)
    command, options, waiting = _walk(before)
    if waiting is not None:
        return _continued(typed, waiting, command)
    if typed.startswith("--") and "=" in typed:
        name, _, start = typed.partition("=")
        option = options.get(name)
        return [] if option is None else [(f"{name}={value}", text) for value, text in _continued(start, option, command)]
    if typed.startswith("-"):
        return _starting(typed, _names(options))
    if hasattr(command, "listed"):
        return _starting(typed, command.listed())
    argument = next((p for p in command.params if p.param_type_name == "argument"), None)
    return [] if argument is None else _continued(typed, argument, command)


def joined(words: Sequence[str], *, separators: Iterable[str] = _CUTS) -> list[str]:
    """Words as they were typed, where the shell gives `builtin:stories` as `builtin`, `:` and `stories`."""
    out: list[str] = []
    glue = False
    for word in words:
        cut = word in separators
        if out and (cut or glue):
            out[-1] += word
        else:
            out.append(word)
        glue = cut
    return out


def _walk(words: Sequence[str]) -> tuple[Any, dict[str, Any], Any]:
    """The command that `words` lead to, its options by name, and the option that waits for its value (or None)."""
    from llmkit.cli.app import app

    command: Any = typer.main.get_command(app)
    waiting = None
    for word in words:
        if waiting is not None:
            waiting = None
        elif word.startswith("-") and len(word) > 1:
            option = _options(command).get(word)
            waiting = option if option is not None and not option.is_flag else None
        elif hasattr(command, "listed"):
            inner = command.get_command(typer.Context(command, info_name=""), word)
            command = inner if inner is not None else command
    return command, _options(command), waiting


def _options(command: Any) -> dict[str, Any]:
    """Options by each of their names, those of other tools among them."""
    out = {name: p for p in command.params if p.param_type_name == "option" for name in (*p.opts, *p.secondary_opts)}
    return out | {f"--{alias}": out[f"--{name}"] for alias, name in ALIASES.items() if f"--{name}" in out}


def _names(options: dict[str, Any]) -> list[tuple[str, str]]:
    """Long names of options, without those of other tools."""
    named = {name: option for name, option in options.items() if name in (*option.opts, *option.secondary_opts)}
    own = {name: option for name, option in named.items() if name.startswith("--") and name[2:] not in ALIASES}
    more = [("--help", "Show the common options."), ("--help-all", "Show all options.")]
    return [*((name, option.help or "") for name, option in own.items() if not option.hidden), *more]


def _continued(typed: str, parameter: Any, command: Any) -> list[tuple[str, str]]:
    """Values that begin as `typed` does; of an option that takes several, separated by commas, those that may come last."""
    head, comma, start = typed.rpartition(",") if parameter.metavar == LIST else ("", "", typed)
    chosen = head.lower().split(",")
    values = [(value, text) for value, text in _values(parameter, command) if not comma or value.lower() not in chosen]
    return [(f"{head}{comma}{value}", text) for value, text in _starting(start, values)]


def _values(option: Any, command: Any) -> list[tuple[str, str]]:
    """Values that an option or argument takes, where they can be listed."""
    listed = option.shell_complete(typer.Context(command, info_name=""), "")
    if listed and listed[0].type == "plain":
        return [(item.value, item.help or "") for item in listed]
    if (option.metavar or "").strip("[]") == "REF":
        return _references()
    if option.metavar == "LANGUAGE":
        from llmkit.translation.languages import NAMES

        return [(name, "") for name in NAMES]
    if option.opts[0] == "--engine":
        from llmkit.engines.registry import engines

        return [(name, "") for name in ("auto", *engines())]
    return []


def _references() -> list[tuple[str, str]]:
    """Models on this machine."""
    from llmkit.models import builtin
    from llmkit.models.reference import cached_models

    return [
        *((f"builtin:{name}", "in the package") for name in builtin.names()),
        *((name, "in the cache") for name, _, _ in cached_models()),
    ]


def _starting(start: str, items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(value, text) for value, text in items if value.lower().startswith(start.lower())]
