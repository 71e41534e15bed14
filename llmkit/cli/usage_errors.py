"""What is wrong with a command line, and what to type instead: unknown names, names of other tools, words that are files.

Knows names and contexts of Typer; not what an option does.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from llmkit.cli.names import ALIASES, COMMANDS_ELSEWHERE, OPTIONS_ELSEWHERE, normalize
from llmkit.cli.parameter_source import TYPED, option_name, typed
from llmkit.errors import LlmkitError, UsageError, did_you_mean

#: Letters that an option's name must share with what was typed, from 0 to 1, to be meant by it.
_LIKENESS = 0.75
#: What is left over of a condition without quotes.
_OF_A_CONDITION = re.compile(r"[<>=!]{1,2}|[<>=!]{0,2}[+-]?[\d.]+%?")
#: A hint that is a sentence about llmkit, not a command of it.
_SENTENCE = re.compile(r"llmkit has no ")
#: A value in quotes that is longer than a person would read, and what is shown of it.
_LONG, _SHORT = re.compile(r"'([^']{200})[^']+'"), r"'\1...'"


def set_context(exc: typer.TyperException, ctx: Any) -> None:
    """Tells an error of the parser where it happened: it does not always know."""
    if getattr(exc, "ctx", None) is None:
        exc.ctx = ctx  # type: ignore[attr-defined]


def unknown_command(ctx: Any, words: Sequence[str], known: Iterable[str]) -> UsageError:
    """No command is named `words[0]`; `words` are all that was typed from there."""
    name = words[0]
    known = list(known)
    near = difflib.get_close_matches(name, [*known, *COMMANDS_ELSEWHERE], n=1, cutoff=_LIKENESS)
    hint = COMMANDS_ELSEWHERE.get(near[0] if near and near[0] not in known else name)
    if hint is not None:
        hint = f"use {hint}" if hint.startswith("llmkit ") and not _SENTENCE.match(hint) else hint
    else:
        hint = did_you_mean(name, known) or _meant_text(name, root=ctx.parent is None)
    return UsageError(f"no such command '{name[:80]}'", hint=hint or f"'{ctx.command_path} --help' lists the commands")


def _meant_text(word: str, *, root: bool) -> str | None:
    if not root and Path(word).is_file():
        return f"a command comes first: llmkit evaluate perplexity -i {shlex.quote(word)}, or score -p {shlex.quote(word)} -r REFERENCES"
    if root and Path(word).is_file():
        return f"did you mean: llmkit generate -i {shlex.quote(word)}"
    return f"did you mean: llmkit generate {shlex.quote(word)[:60]}" if root and " " in word else None


def extra_words(ctx: Any, words: Sequence[str]) -> UsageError:
    """The command takes no text, or not so many."""
    options = {name for parameter in ctx.command.params for name in parameter.opts}
    files = [shlex.quote(word) for word in words if Path(word).suffix or Path(word).is_file()]
    hint = f"'{ctx.command_path} --help' lists the options"
    if all(_OF_A_CONDITION.fullmatch(word) for word in words) and typed(ctx.meta.get(TYPED, ()), ("--fail-if",)):
        hint = '--fail-if takes one condition in quotes: --fail-if "perplexity > 30"'
    elif len(files) == 2 and {"-p", "-r"} <= options:
        hint = f"did you mean -p {files[0]} -r {files[1]}?"
    elif len(files) == 1 and "-i" in options:
        hint = f"did you mean -i {files[0]}?"
    return UsageError(f"unexpected argument{'s' * (len(words) > 1)}: {' '.join(words)[:200]}", hint=hint)


def usage_error(exc: typer.TyperException) -> LlmkitError:
    """What typer found wrong with the command line, in our form: the option as typed, what is wrong, what to do."""
    ctx, parameter, name = getattr(exc, "ctx", None), getattr(exc, "param", None), getattr(exc, "option_name", None)
    hint = f"'{ctx.command_path} --help' lists the {'commands' if hasattr(ctx.command, 'listed') else 'options'}" if ctx else None
    message = exc.format_message().replace("\n", " ")
    if ctx is not None and parameter is not None and parameter.param_type_name == "argument" and not exc.message:
        shown = getattr(getattr(ctx.command, "callback", None), "page", None)
        what = str(parameter.metavar or parameter.name).strip("[]")
        return UsageError(f"no {what} given", hint=shown.examples[0] if shown and shown.examples else hint)
    if parameter is not None and ctx is not None and exc.message and parameter.param_type_name == "option":
        return UsageError(f"{option_name(ctx, parameter.name)}: {_LONG.sub(_SHORT, exc.message)}", hint=hint)
    if ctx is None or not isinstance(name, str):
        return UsageError(message, hint=hint)
    named = typed(ctx.meta.get(TYPED) or sys.argv[1:], (name,)) or name
    option = next((p for p in ctx.command.params if name in p.opts), None)
    if option is not None:
        value = "" if option.is_flag else f": {name} {option.metavar or 'TEXT'}"
        return UsageError(f"{named} {'takes no value' if option.is_flag else 'needs a value'}{value}", hint=hint)
    return UsageError(f"no such option {named}", hint=_instead(ctx, name, named) or hint)


def _instead(ctx: Any, name: str, named: str) -> str | None:
    """What to type in place of the unknown option `name`."""
    if hasattr(ctx.command, "listed") and ctx.parent is None:
        words = " ".join(shlex.quote(word) for word in ctx.meta.get(TYPED, ()))
        return f"options follow the command: llmkit generate {words}"[:200]
    bare = named.lstrip("-").replace("_", "-")
    for key in (named, bare, normalize(bare)):
        if key in OPTIONS_ELSEWHERE:
            return OPTIONS_ELSEWHERE[key]
    ours = {o[2:] for p in ctx.command.params if not p.hidden for o in (*p.opts, *p.secondary_opts) if o.startswith("--")}
    meant = {**{o: o for o in ours}, **{alias: name for alias, name in ALIASES.items() if name in ours}}
    close = difflib.get_close_matches(bare, meant, n=1, cutoff=_LIKENESS)
    return f"did you mean --{meant[close[0]]}?" if close else None
