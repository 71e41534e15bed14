"""Help pages: a command's common options on one screen, all of them under --help-all.

A command says in its `Page` which options are common and shows commands to copy. Knows options as text; not what they do.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llmkit.cli.console import is_colored
from llmkit.version import HOMEPAGE

#: Key of the context's shared state: whether all options were asked for.
ALL = "llmkit.help_all"
#: Columns of a page at most: longer lines are hard to read.
_WIDEST = 100
_F = TypeVar("_F", bound=Callable[..., Any])
_BOLD, _CYAN, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[0m"


@dataclass(frozen=True)
class Page:
    """What a command's help shows beside its options.

    examples: commands to copy. common: the options of the short page, by parameter name; empty for all of them.
    guide: the page of `docs/` about it. note: what the words of its output mean.
    """

    examples: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    guide: str = ""
    note: str = ""


def shows(about: Page) -> Callable[[_F], _F]:
    """Marks a command's function with its page."""

    def mark(function: _F) -> _F:
        function.page = about  # type: ignore[attr-defined]
        return function

    return mark


def asks_for_all(ctx: Any, words: list[str]) -> list[str]:
    """`words` with --help for --help-all, which is remembered in the context."""
    end = words.index("--") if "--" in words else len(words)
    if "--help-all" not in words[:end]:
        return words
    ctx.meta[ALL] = True
    return ["--help" if word == "--help-all" and place < end else word for place, word in enumerate(words)]


def page(command: Any, ctx: Any) -> str:
    """The help page of `command`: of its common options, or of all when those were asked for."""
    ctx.color = is_colored()  # off a terminal typer drops colors otherwise, also those that FORCE_COLOR asks for
    about: Page = getattr(command.callback, "page", None) or Page()
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    chosen = options
    if about.common and not ctx.meta.get(ALL):
        by_name = {parameter.name: parameter for parameter in options}
        chosen = [by_name[name] for name in about.common if name in by_name]
    lines = [*_wrapped(f"Usage: {' '.join((ctx.command_path, *_usage(command)))}", width), *_wrapped(command.help or "", width), ""]
    if about.examples:
        lines += [*(f"  {example}" for example in about.examples), ""]
    if about.note:
        lines += [*_wrapped(about.note, width), ""]
    commands = getattr(command, "listed", None)
    if commands:
        lines += [_heading("Commands"), *_columns(commands(), width), ""]
    lines += _panels(chosen, width)
    hidden = len(options) - len(chosen)
    if hidden:
        lines.append(f"All {len(options)} options: {ctx.command_path} --help-all")
    return "\n".join([*lines, f"Guide: {HOMEPAGE}/blob/main/docs/{about.guide or 'README'}.md"])


def _usage(command: Any) -> Iterator[str]:
    yield "[OPTIONS]"
    if getattr(command, "listed", None):
        yield "COMMAND"
    for parameter in command.params:
        if parameter.param_type_name == "argument" and not getattr(parameter, "hidden", False):
            yield str(parameter.metavar or parameter.name.upper())


def _panels(options: Iterable[Any], width: int) -> list[str]:
    """Options under the headings of their panels, in the order in which a panel comes first."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in options:
        panels.setdefault(parameter.rich_help_panel or "Options", []).append((names_of(parameter), text_of(parameter)))
    column = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
    return [line for heading, rows in panels.items() for line in (_heading(heading), *_columns(rows, width, column))]


def _columns(rows: Sequence[tuple[str, str]], width: int, column: int | None = None) -> Iterator[str]:
    """Names and texts side by side. column: characters of the longest name."""
    column = (column or max(len(name) for name, _ in rows)) + 4
    for name, text in rows:
        first, *rest = _wrapped(text, max(width - column, 24)) or [""]
        yield f"  {_colored(name, _CYAN)}{' ' * (column - 2 - len(name))}{first}"
        yield from (" " * column + line for line in rest)


def names_of(parameter: Any) -> str:
    """An option as it is written: '-m, --model REF', or '    --adapter REF'."""
    longs = [name for name in parameter.opts if name.startswith("--")]
    shorts = [name for name in parameter.opts if name not in longs]
    value = "" if parameter.is_flag else f" {parameter.metavar or 'TEXT'}"
    return "".join(f"{name}, " for name in shorts).ljust(4) + " / ".join([*longs[:1], *parameter.secondary_opts[:1]]) + value


def text_of(parameter: Any) -> str:
    """What an option does, with its default."""
    default = parameter.default
    if default in (None, "", (), []) or isinstance(default, bool) or callable(default) or "[default:" in (parameter.help or ""):
        return parameter.help or ""
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{parameter.help} [default: {shown}]"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _heading(text: str) -> str:
    return _colored(text, _BOLD)


def _colored(text: str, color: str) -> str:
    return f"{color}{text}{_PLAIN}" if is_colored() else text
