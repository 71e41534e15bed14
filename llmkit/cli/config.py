"""Options from a file: TOML, YAML, or the run record of an earlier run.

Top-level names are options of every command; a table named like a command holds that command's own.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from llmkit.cli.names import normalize
from llmkit.errors import InputError, UsageError


def read_config(path: str, command: str, known: dict[str, str]) -> dict[str, Any]:
    """The options that `path` sets for `command`, by parameter name.

    known: parameter name → its option as typed. Raises InputError for an unreadable file and UsageError for an
    unknown option.
    """
    content = _parse(Path(path))
    if "llmkit" in content and "options" in content:  # a run record
        content = content["options"]
    own = content.get(command, {})
    if not isinstance(own, dict):
        raise InputError(f"'{command}' is not a table of options", path=path)
    merged = {k: v for k, v in content.items() if not isinstance(v, dict)} | own
    return {_parameter(name, known, path): value for name, value in merged.items()}


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"cannot be read: {getattr(exc, 'strerror', None) or exc}", path=path) from exc
    try:
        if path.suffix == ".json":
            content = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            try:
                content = yaml.safe_load(text)
            except yaml.YAMLError as exc:
                raise ValueError(" ".join(str(exc).split())) from exc
        else:
            import tomllib

            content = tomllib.loads(text)
    except ValueError as exc:
        raise InputError(f"is not valid {path.suffix.lstrip('.') or 'TOML'}: {exc}", path=path) from exc
    if not isinstance(content, dict):
        raise InputError("holds no table of options", path=path)
    return content


def _parameter(name: str, known: dict[str, str], path: str) -> str:
    dashed = "--" + normalize(name)
    for parameter, opt in known.items():
        if parameter == name.replace("-", "_") or opt == dashed:
            return parameter
    close = difflib.get_close_matches(dashed, known.values(), n=1)
    raise UsageError(f"{path}: unknown option '{name}'", hint=f"did you mean '{close[0].lstrip('-')}'?" if close else None)
