"""The command reference and the man page, written from the options that the commands declare.

python scripts/reference.py              writes docs/reference.md and docs/llmkit.1
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from llmkit.cli.app import app
from llmkit.cli.names import ALIASES
from llmkit.version import HOMEPAGE, __version__

DOCS = Path(__file__).parent.parent / "docs"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it, in the order of the help page."""
    root: Any = typer.main.get_command(app)
    pending = [("llmkit", root)]
    while pending:
        path, command = pending.pop(0)
        yield path, command
        inner = [name for name, _ in getattr(command, "listed", list)()]
        pending[:0] = [(f"{path} {name}", command.get_command(typer.Context(command, info_name="llmkit"), name)) for name in inner]


def options(command: Any) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The options of a command by panel: name with value, help, environment variable."""
    from llmkit.cli.help import names_of, text_of

    panels: dict[str, list[tuple[str, str, str]]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            about = (names_of(parameter).strip(), text_of(parameter), str(parameter.envvar or ""))
            panels.setdefault(parameter.rich_help_panel or "Options", []).append(about)
    yield from panels.items()


def markdown() -> str:
    """The reference as a page."""
    lines = [
        "# Command reference", "",
        "Written by `python scripts/reference.py` from the options that the commands declare. Every option also has an environment",
        "variable, and a name in a `--config` file; the command line wins.", "",
    ]  # fmt: skip
    for path, command in commands():
        lines += [f"## {path}", "", command.help or "", ""]
        examples = command.callback.page.examples
        lines += ["```sh", *examples, "```", ""]
        for panel, rows in options(command):
            lines += [f"**{panel}**", "", "| option | meaning | variable |", "|---|---|---|"]
            lines += [f"| `{_cell(name)}` | {_cell(text)} | {f'`{variable}`' if variable else ''} |" for name, text, variable in rows]
            lines.append("")
    lines += ["## Names known from other tools", "", "| other tools | llmkit |", "|---|---|"]
    lines += [f"| `--{alias}` | `--{name}` |" for alias, name in sorted(ALIASES.items())]
    return "\n".join(lines) + "\n"


def man_page() -> str:
    """The reference for man(1)."""
    lines = [f'.TH LLMKIT 1 "" "llmkit {__version__}" "User Commands"', ".SH NAME", "llmkit \\- a command-line toolkit for language models"]
    for path, command in commands():
        lines += [f".SH {path.upper()}", _roff(command.help or "")]
        for _, rows in options(command):
            for name, text, _ in rows:
                lines += [".TP", f"\\fB{_roff(name)}\\fR", _roff(text)]
        lines += [".PP", "Examples:", ".nf", *(_roff(example) for example in command.callback.page.examples), ".fi"]
    return "\n".join([*lines, ".SH SEE ALSO", HOMEPAGE]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    (DOCS / "reference.md").write_text(markdown(), encoding="utf-8")
    (DOCS / "llmkit.1").write_text(man_page(), encoding="utf-8")
