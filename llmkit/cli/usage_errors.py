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

from llmkit.cli.config import commands_with
from llmkit.cli.elsewhere import COMMANDS_ELSEWHERE, OPTIONS_ELSEWHERE, OPTIONS_OF_COMMAND
from llmkit.cli.names import ALIASES, COMMANDS, normalize
from llmkit.cli.parameter_source import TYPED, option_name, typed
from llmkit.errors import LlmkitError, UsageError

#: Letters that an option's name must share with what was typed, from 0 to 1, to be meant by it.
_LIKENESS = 0.75
#: The same for a name of two letters: one of them.
_ONE_OF_TWO = 0.5
#: The same for a name of another tool, which says something else, and for a command that begins with another letter.
_SLIP = 0.85
#: The same for a command.
_LIKE_A_COMMAND = 0.6
#: What is left over of a condition without quotes.
_OF_A_CONDITION = re.compile(r"[<>=!]{1,2}|[<>=!]{0,2}[+-]?[\d.]+%?")
#: Words of another tool's command that say little, among them names of tools: they are looked at last.
_GENERAL = ("run", "test", "model", "models", "cache", "prompt", "sample", "vllm", "hf", "ollama", "llama", "transformers", "torchtune")
#: A hint that is a sentence about llmkit, not a command of it.
_SENTENCE = re.compile(r"llmkit has no ")
#: An option in a hint.
_OPTION = re.compile(r"--[a-z][a-z-]*[a-z]")
#: What other tools write behind a flag.
_YES_NO = ("true", "false")
#: Dashes that a text editor or a web page makes of a hyphen, as an option begins with it.
_OTHER_DASHES = re.compile(r"[-\u2010-\u2015\u2212]*[\u2010-\u2015\u2212][-\u2010-\u2015\u2212]*(?=[A-Za-z])")
#: What is likely the name of a model, or a suite's file.
_A_MODEL, _SUITES = re.compile(r"(builtin|openai):\S+|gpt2\S*|[\w.-]+/[\w.@-]+"), (".toml", ".yaml", ".yml")
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
    hint = _elsewhere(name, known)
    if hint is not None:
        hint = f"use {hint}" if hint.startswith("llmkit ") and not _SENTENCE.match(hint) else hint
    elif ctx.parent is not None and name in COMMANDS:
        hint = f"'llmkit {name}' is a command by itself"
    else:
        hint = _slip(name, [*known, "help"]) or _longer(name, known) or _meant_text(name, ctx)
    return UsageError(f"no such command '{name[:80]}'", hint=hint or f"'{ctx.command_path} --help' lists the commands")


def _elsewhere(name: str, known: Sequence[str]) -> str | None:
    """What another tool's command is here: by its name, by a word of it (`llama-perplexity`), or by a name one letter off."""
    lower = name.lower().replace("_", "-")
    if _A_MODEL.fullmatch(name):
        return None
    if lower in COMMANDS_ELSEWHERE:
        return COMMANDS_ELSEWHERE[lower]
    parts = re.split(r"[-.:]", lower)
    if "." in lower and parts[0] in COMMANDS_ELSEWHERE:  # `chat.completions.create`: what it is of comes first
        return COMMANDS_ELSEWHERE[parts[0]]
    if any(part in known for part in parts):
        return None
    near = difflib.get_close_matches(lower, [*known, *COMMANDS_ELSEWHERE], n=1, cutoff=_LIKENESS)
    # letters alone take 'comet' for 'complete'; a slip keeps the first letter and the length
    if near and near[0] not in known and near[0][0] == lower[0] and abs(len(near[0]) - len(lower)) <= 1:
        return COMMANDS_ELSEWHERE[near[0]]
    telling = sorted(parts, key=lambda part: part in _GENERAL)
    return next((COMMANDS_ELSEWHERE[part] for part in telling if len(parts) > 1 and part in COMMANDS_ELSEWHERE), None)


def _slip(name: str, known: Sequence[str]) -> str | None:
    """The command that was misspelled: letters alone take 'arena' for 'rerun', so one with another first letter must be almost the same."""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_LIKE_A_COMMAND)
    if not near or (near[0][0] != name[0].lower() and difflib.SequenceMatcher(None, near[0], name.lower()).ratio() < _SLIP):
        return None
    return f"did you mean '{near[0]}'?"


def _longer(name: str, known: Sequence[str]) -> str | None:
    """The command that `name` begins, or that is a word of it."""
    meant = [command for command in known if (len(name) > 2 and command.startswith(name)) or command in re.split(r"[-_.:]", name)]
    return f"did you mean '{meant[0]}'?" if len(meant) == 1 else None


def _meant_text(word: str, ctx: Any) -> str | None:
    """What a word that is no command may be: a text, a file, a model."""
    root, quoted = ctx.parent is None, shlex.quote(word)
    if ctx.command.name == "models":
        return f"did you mean: llmkit models show {quoted[:60]}" if _A_MODEL.fullmatch(word) else None
    if Path(word).suffix in _SUITES and (Path(word).is_file() or not root):
        return f"did you mean: llmkit evaluate run {quoted}"
    if not root and Path(word).is_file():
        return f"a command comes first: llmkit evaluate perplexity -i {quoted}, or score -p {quoted} -r REFERENCES"
    if root and Path(word).is_file():
        return f"did you mean: llmkit generate -i {quoted}"
    if root and _A_MODEL.fullmatch(word):
        return f'did you mean: llmkit generate -m {quoted[:60]} "..."'
    return f"did you mean: llmkit generate {quoted[:60]}" if root and " " in word else None


def word_hint(word: str) -> str | None:
    """What to do about a word that was no text: the value of an option that has none (`--dora True`), or an option with another dash."""
    if _OTHER_DASHES.match(word):
        name = _OTHER_DASHES.sub("", word, count=1)
        return f"it begins with another dash than '-': type {'-' if len(name) == 1 else '--'}{name[:80]}"
    return f"an option without a value is on when it is given: remove {word}" if word.lower() in _YES_NO else None


def extra_words(ctx: Any, words: Sequence[str]) -> UsageError:
    """The command takes no text, or not so many."""
    options = {name for parameter in ctx.command.params for name in parameter.opts}
    files = [shlex.quote(word) for word in words if Path(word).suffix or Path(word).is_file()]
    hint = f"'{ctx.command_path} --help' lists the options"
    if all(_OF_A_CONDITION.fullmatch(word) for word in words) and typed(ctx.meta.get(TYPED, ()), ("--fail-if",)):
        hint = '--fail-if takes one condition in quotes: --fail-if "perplexity > 30"'
    elif (of_the_word := word_hint(words[0])) is not None:
        hint = of_the_word
    elif len(files) == 2 and {"-p", "-r"} <= options:
        hint = f"did you mean -p {files[0]} -r {files[1]}?"
    elif len(files) == 1 and "-i" in options:
        hint = f"did you mean -i {files[0]}?"
    return UsageError(f"unexpected argument{'s' * (len(words) > 1)}: {' '.join(words)[:200]}", hint=hint)


def check_one_dash(ctx: Any, words: Sequence[str]) -> None:
    """Raises UsageError for a word that is read as short options other than those its user means.

    `-ngl 99` would be `-n gl`, as in no tool that has it; `-max-length 9` names a model 'ax-length', and `-m=gpt2` one '=gpt2'.
    """
    valued = {name for parameter in ctx.command.params if not getattr(parameter, "is_flag", True) for name in parameter.opts}
    known = {name for parameter in ctx.command.params for name in parameter.opts}
    before = ""
    for word in words:
        if word == "--":
            return
        name, _, value = word.partition("=")
        if before not in valued and name[:1] == "-" and name[1:2].isalpha() and name not in known - valued:
            if len(name) > 2 and name not in known and (hint := _elsewhere_option(ctx, name)) is not None:
                raise UsageError(f"no such option {name}", hint=hint)
            if len(name) > 2 and name not in known and (long := f"--{normalize(name[1:])}") in known:
                raise UsageError(f"no such option {name}", hint=f"did you mean {long}?")
            if name in valued and len(name) == 2 and value:
                raise UsageError(f"{word[:80]}: a value follows {name} without '='", hint=f"{name} {shlex.quote(value)[:80]}")
        before = name if name == word and not name.startswith("--") else f"--{normalize(word[2:])}"


def _elsewhere_option(ctx: Any, *names: str) -> str | None:
    """What to type here for another tool's option, known by any of `names`; what it means in this command goes first."""
    here = [OPTIONS_OF_COMMAND.get((str(ctx.command.name), name)) for name in names]
    hint = next(filter(None, [*here, *(OPTIONS_ELSEWHERE.get(name) for name in names)]), None)
    return hint and _with_its_command(ctx, hint)


def _with_its_command(ctx: Any, hint: str) -> str:
    """A hint that names options which this command does not have, with a command that has them."""
    named = [] if "llmkit " in hint else _OPTION.findall(hint)
    ours = {name for parameter in ctx.command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    others = commands_with(named[0]) if named and not ours.intersection(named) else []
    return f"{hint} (llmkit {others[0]})" if others else hint


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
    if ctx.command.name == "evaluate":
        words = " ".join(shlex.quote(word) for word in ctx.meta.get(TYPED, ()))
        return f"options follow the command: llmkit evaluate perplexity {words}"[:200]
    bare = named.lstrip("-").lower().replace("_", "-").rsplit(".", 1)[-1]  # litgpt has --train.epochs
    ours = {o[2:] for p in ctx.command.params if not p.hidden for o in (*p.opts, *p.secondary_opts) if o.startswith("--")}
    meant = {**{o: o for o in ours}, **{alias: name for alias, name in ALIASES.items() if name in ours}}
    if (bare not in meant or not named.startswith("--")) and (hint := _elsewhere_option(ctx, named, bare, normalize(bare))) is not None:
        return hint
    name = f"--{normalize(bare)}"
    if name[2:] not in ours and (others := commands_with(name)):
        return f"{name} is an option of llmkit {' and '.join(others if len(others) < 3 else (others[0], 'others'))}"
    likeness = _LIKENESS if len(bare) > len("to") else _ONE_OF_TWO
    close = [bare] if bare in meant else [near for near in difflib.get_close_matches(bare, meant, cutoff=likeness) if _is_meant(bare, near)]
    if close:
        return f"did you mean --{meant[close[0]]}?"
    slip = difflib.get_close_matches(bare, OPTIONS_ELSEWHERE, n=1, cutoff=_SLIP)
    return _with_its_command(ctx, OPTIONS_ELSEWHERE[slip[0]]) if slip else None


def _is_meant(typed: str, ours: str) -> bool:
    """Whether two similar names of options are one: letters alone take `--count` for `--output`."""
    same_word = set(typed.split("-")) & set(ours.split("-"))
    return bool(same_word) or typed.endswith(ours) or typed.startswith(ours) or (typed[0] == ours[0] and abs(len(typed) - len(ours)) <= 2)
