"""Options from a file: TOML, YAML, or the run record of an earlier run.

Top-level names are options of every command that has them; a table named like a command holds that command's own.
Values are parsed like the command line's. A run record may come from a stranger: it carries no consent and no place to
write. Knows files and names; not what an option does.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from llmkit.cli.names import COMMANDS, SPELLINGS, module_of, normalize
from llmkit.cli.parameter_source import CONFIGURED, TYPED, on_command_line, option_name
from llmkit.errors import InputError, LlmkitError, UsageError, did_you_mean, one_line

#: Bytes of a file of options. tomllib takes quadratic time for a key of many parts.
_MOST = {".toml": 1 << 15, ".json": 1 << 24, ".yaml": 1 << 18, ".yml": 1 << 18}
#: Values of a YAML file, aliases written out.
_NODES = 10_000
#: Digits of a number: Python refuses to write more than 4,300.
_DIGITS = 4000
#: Parts of a dotted name.
_PARTS = 16
#: Options of a record that name places to write or machines to work on, or replace files, or say where a key is sent, or ask for no
#: whole result: never taken from one.
_NOT_FROM_RECORDS = (
    "api_base", "ray", "cpus_per_worker", "gpus_per_worker", "output", "cache", "report", "report_to", "plot", "overwrite", "restart",
    "retry_failed", "config", "json", "debug",
)  # fmt: skip
#: How the name of an option is spelled in a record; anything else could smuggle in a value.
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
#: Letters that a variable of the environment must share with one of ours, from 0 to 1, to be a misspelling of it.
_LIKENESS = 0.87
#: Options by which a person consents to running code.
_CONSENT = ("trust_remote_code", "run_code")


def load_config(ctx: typer.Context, value: str | None) -> str | None:
    """Makes the options of the file `value` the command's defaults. Raises InputError or UsageError naming file and key."""
    if value is None:
        return None
    try:
        _load(ctx, value)
    except LlmkitError as exc:
        if not on_command_line(ctx, "config"):
            exc.message = f"{option_name(ctx, 'config')}: {exc.message}"
        raise
    return value


def _load(ctx: typer.Context, value: str) -> None:
    names = [SPELLINGS.get(name, name) for name in ctx.command_path.split()[1:]]
    origins: dict[str, str] = ctx.meta.setdefault(CONFIGURED, {})
    defaults: dict[str, Any] = dict(ctx.default_map or {})
    for key, content in _options(value, names, ctx.meta.get(TYPED, [])).items():
        parameter = option_of(ctx.command, key)
        if parameter is None:
            if key in origins or _of_another_command(key):
                continue
            known = [p.opts[0].lstrip("-") for p in ctx.command.params]
            raise UsageError(f"{value}: unknown option '{key}'", hint=did_you_mean(normalize(key), known))
        origins[parameter.name] = f"{value}: {key}"
        defaults[parameter.name] = value_of(parameter, content, f"{value}: {key}")
    ctx.default_map = defaults


def record_options(content: dict[str, Any], path: str | Path, consented: tuple[str, ...]) -> dict[str, Any]:
    """The options of a run record, without places to write. consented: options of consent that a person has given.

    Raises InputError for invalid options, UsageError where the run needs a consent that is not given.
    """
    options = content.get("options")
    if not isinstance(options, dict):
        raise InputError("options: not a table", path=path)
    for name in options:
        if not _NAME.fullmatch(str(name)):
            raise InputError(f"options.{one_line(repr(name), 60)}: not the name of an option", path=path)
    options = {normalize(str(name)).replace("-", "_"): value for name, value in options.items()}
    for name in _CONSENT:
        if options.get(name) not in (None, False) and name not in consented:
            raise UsageError(
                f"{path}: the recorded run used {_flag(name)}, which runs code; a record cannot allow that",
                hint=f"read that code first, then add {_flag(name)} to this command",
            )
    if "trust_remote_code" not in consented and _runs_a_module(options.get("metrics")):
        raise UsageError(
            f"{path}: metrics: the record names a module, which runs code; a record cannot allow that",
            hint="read that code first, then add --trust-remote-code to this command",
        )
    return {name: value for name, value in options.items() if name not in (*_NOT_FROM_RECORDS, *_CONSENT)}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _runs_a_module(metrics: Any) -> bool:
    """Whether a list of metrics names one that is not ours."""
    from llmkit.metrics import registry

    if metrics is None:
        return False
    try:
        return any(name not in registry.names() for name in registry.chosen(metrics))
    except (UsageError, AttributeError, TypeError):  # also for what is no list of names
        return True


def misspelled_variables(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Variables of the environment that set no option of any command, each with the one that its name is closest to.

    A name that is close to none may be a script's own, and is not ours to judge.
    """
    own = {str(parameter.envvar) for parameter in ctx.command.params}
    given = [name for name in os.environ if name.startswith("LLMKIT_") and name not in own and name != "LLMKIT_HOME"]
    if not given:
        return
    known = {str(p.envvar) for command in _commands().values() for p in command.params if p.envvar}
    for name in given:
        meant = "LLMKIT_" + normalize(name.removeprefix("LLMKIT_").lower()).replace("-", "_").upper()
        close = [meant] if meant in known else difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        if name not in known and close:
            yield name, close[0]


def _options(path: str, names: list[str], typed: list[str]) -> dict[str, Any]:
    """The options that the file sets for the command `names` (('evaluate', 'score')), as it spells them."""
    content = parse(Path(path))
    if "options" in content and ("llmkit" in content or "command" in content):  # a run record
        consented = tuple(n for n in _CONSENT if _flag(n) in typed or os.environ.get(f"LLMKIT_{n.upper()}"))
        return {str(key): value for key, value in record_options(content, path, consented).items()}
    return _of_command(content, path, names)


def _of_command(content: dict[Any, Any], path: str, names: list[str]) -> dict[str, Any]:
    """Options at the top, then those in the command's own tables, which win."""
    out: dict[str, Any] = {}
    tables: list[dict[Any, Any]] = []
    check_once(content, path)
    for key, value in content.items():
        if not isinstance(key, str):
            named = "a long number" if _long(key) else repr(key)
            raise UsageError(f"{path}: {named} is not the name of an option", hint="names are text: max_new_tokens")
        if key in _command_names():
            if not isinstance(value, dict):
                raise InputError(f"'{key}' is not a table of options", path=path)
            if key in names:
                tables.append(value)
        elif isinstance(value, dict) and not _of_another_command(key):
            raise UsageError(
                f"{path}: unknown table '{key}'", hint=did_you_mean(key, _command_names(), default="tables are named like commands")
            )
        else:
            out[key] = value
    for table in tables:
        out |= _of_command(table, path, names)
    return out


def parse(path: Path) -> dict[Any, Any]:
    """The table that a TOML, YAML or JSON file holds. Raises InputError."""
    try:
        most = _MOST.get(path.suffix, _MOST[".toml"])
        with path.open("rb") as file:
            data = file.read(most + 1)  # of a device or a pipe no size is known
        if len(data) > most:
            raise InputError(f"has more than {most:,} bytes, too many for options", path=path)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot be read: {getattr(exc, 'strerror', None) or exc}", path=path) from exc
    try:
        content = _content(text, path.suffix)
    except (ValueError, RecursionError) as exc:
        what = "too deeply nested" if isinstance(exc, RecursionError) else exc
        raise InputError(f"is not valid {path.suffix.lstrip('.') or 'TOML'}: {what}", path=path) from exc
    if not isinstance(content, dict):
        raise InputError("holds no table of options", path=path)
    return content


def _content(text: str, suffix: str) -> Any:
    """Raises ValueError or RecursionError."""
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_once)
    if suffix not in (".yaml", ".yml"):
        import tomllib

        if any(line.partition("=")[0].count(".") > _PARTS for line in text.splitlines()):
            raise ValueError(f"a name of more than {_PARTS} parts")
        return tomllib.loads(text)
    return _yaml(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of names that are unique, as TOML wants them. Raises ValueError."""
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"'{name[:80]}' occurs twice")
        content[name] = value
    return content


def _yaml(text: str) -> Any:
    """Raises ValueError, also for aliases that stand for more than a person would write."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _written_out(node, {}) > _NODES:
            raise ValueError(f"its aliases stand for more than {_NODES:,} values")
        if isinstance(node, yaml.MappingNode):
            _once([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(one_line(exc)) from exc


def _written_out(node: Any, known: dict[int, int]) -> int:
    """How many values a YAML node stands for when each alias is written out; more than the limit for one inside itself."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _NODES + 1  # while it is counted
    inner = node.value if isinstance(node.value, list) else []
    parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
    known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def check_once(table: dict[Any, Any], where: str) -> None:
    """Raises UsageError for two keys of a table that are one option in two spellings: max_new_tokens, max-new-tokens, max_tokens."""
    known: dict[str, str] = {}
    for key in (key for key, value in table.items() if isinstance(key, str) and not isinstance(value, dict)):
        if (first := known.setdefault(normalize(key), key)) != key:
            raise UsageError(f"{where}: '{first}' and '{key}' are the same option", hint="use only one of them")


def option_of(command: Any, key: str) -> Any:
    """The command's parameter of that name, None where it has none."""
    dashed = "--" + normalize(key)
    for parameter in command.params:
        if parameter.param_type_name == "option" and (parameter.name == key.replace("-", "_") or dashed in parameter.opts):
            return parameter
    return None


def value_of(parameter: Any, value: Any, where: str) -> Any:
    """`value` as the command line would give it: text, or texts for an option that can be repeated. Raises UsageError."""
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {_shown(value)} is neither true nor false", hint="write true or false, without quotes")
        return value
    if parameter.multiple:
        return [_text(item, where) for item in (value if isinstance(value, list) else [value])]
    if isinstance(value, (dict, list)) and "JSON" in str(parameter.metavar or ""):
        return json.dumps(value)
    return _text(value, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{where}: {_shown(value)} is not one value", hint="a text or a number is expected")
    if _long(value):
        raise UsageError(f"{where}: a number of more than {_DIGITS:,} digits")
    if problem := no_argument(value):
        raise UsageError(f"{where}: {problem}")
    return str(value)


def no_argument(value: Any) -> str | None:
    """Why a value could not stand on a command line; None for one that could."""
    if "\0" in str(value):
        return "the text holds a NUL character"
    try:
        os.fsencode(str(value))
    except UnicodeEncodeError:
        return "the text holds half of a character (a lone surrogate)"
    return None


def _long(value: Any) -> bool:
    """Whether a value is a whole number with more digits than Python writes (3.32 bits are one)."""
    return isinstance(value, int) and value.bit_length() > 3 * _DIGITS


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {list: "a list", dict: "a table", type(None): "nothing"}
    if type(value) in kinds:
        return kinds[type(value)]
    return "a long number" if _long(value) else f"{str(value)[:40]!r}"


def _commands() -> dict[str, Any]:
    """Every command and subcommand by its name; loads the modules of all commands, none of them heavy."""
    out: dict[str, Any] = {}
    for name in COMMANDS:
        command = typer.main.get_command(importlib.import_module(module_of(name)).app)
        out[name] = command
        out |= getattr(command, "commands", {})
    return out


def commands_with(option: str) -> list[str]:
    """The commands ('generate', 'evaluate score') that have the option `option` ('--top-p')."""
    out = []
    for name in COMMANDS:
        command = typer.main.get_command(importlib.import_module(module_of(name)).app)
        forms = {name: command} | {f"{name} {sub}": form for sub, form in getattr(command, "commands", {}).items()}
        out += [path for path, form in forms.items() if any(option in (*p.opts, *p.secondary_opts) and not p.hidden for p in form.params)]
    return out


def _command_names() -> tuple[str, ...]:
    return (*COMMANDS, "perplexity", "bleu", "score", "choice", "code", "compare", "run", "list", "show", "clear")


def _of_another_command(key: str) -> bool:
    return any(option_of(command, key) is not None for command in _commands().values())
