"""`llmkit completion`: the script that makes a shell complete commands, options and values.

source <(llmkit completion bash)
llmkit completion zsh > ~/.zfunc/_llmkit
llmkit completion fish > ~/.config/fish/completions/llmkit.fish
"""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit.cli import console
from llmkit.cli.command import add
from llmkit.cli.help import Page
from llmkit.errors import UsageError, did_you_mean

_BASH = """_llmkit() {
    local IFS=$'\\n'
    COMPREPLY=($(llmkit completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _llmkit llmkit
"""
_ZSH = """#compdef llmkit
_llmkit() {
    local -a found
    found=("${(@f)$(llmkit completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        _describe llmkit found -M 'm:{[:lower:][:upper:]}={[:upper:][:lower:]}'
    else
        _files
    fi
}
if [[ "${funcstack[1]}" = _llmkit ]]; then
    _llmkit "$@"
else
    compdef _llmkit llmkit
fi
"""
_FISH = """function __llmkit_complete
    set -l found (llmkit completion fish -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c llmkit -f -a '(__llmkit_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_PAGE = Page(("source <(llmkit completion bash)", "llmkit completion zsh > ~/.zfunc/_llmkit"), guide="completion")

app = typer.Typer(add_completion=False)


@add(app, "completion", help="Print the script that makes a shell complete llmkit's commands, options and values.", page=_PAGE)
def completion(
    *,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=lambda: list(SCRIPTS))],
    words: Annotated[list[str] | None, typer.Argument(metavar="", hidden=True)] = None,
) -> None:
    """Prints the script of `shell`, or for the script what may come after `words`. Raises UsageError for another shell."""
    if shell not in SCRIPTS:
        raise UsageError(f"'{shell}' is not one of {', '.join(SCRIPTS)}", hint=did_you_mean(shell, SCRIPTS))
    if not words:
        console.write(SCRIPTS[shell])
        return
    from llmkit.cli.completion import candidates, joined

    typed = joined(words) if shell == "bash" else words
    for value, text in candidates(typed):
        console.write(_line(shell, value, text, typed[-1]) + "\n")


def _line(shell: str, value: str, text: str, typed: str) -> str:
    """A candidate as the shell reads it. bash replaces what stands after the last colon or equals sign only."""
    text = " ".join(text.split())
    if shell == "bash":
        return value[max(typed.rfind(":"), typed.rfind("=")) + 1 :]
    if shell == "fish":
        return f"{value}\t{text}" if text else value
    escaped = value.replace(":", "\\:")
    return f"{escaped}:{text}" if text else escaped
