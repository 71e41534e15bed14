"""What is unusual in a configuration: values of another kind or size than the architecture has by itself.

Said when a model can't be made or run, as where to look: libraries tell what broke, and seldom which value did it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from llmkit.errors import one_line

#: Values that are named; a text of another name than usual counts only where the library's reason has it.
_MOST = 3
_LARGEST = 2**31
#: A smaller size may be that of anything.
_TELLING = 16
_PARTS = ("text_config", "encoder", "decoder")
#: Names that say nothing about how a model is built.
_PLAIN = frozenset({"architectures", "model_type", "transformers_version", "auto_map", *_PARTS})


def unusual(config: Mapping[str, Any], usual: Mapping[str, Any], reason: str, sizes: Collection[int] = ()) -> str | None:
    """A phrase of what to look at in `config`, None where nothing stands out. usual: the architecture's own values.

    reason: what a library said of it. sizes: those that the configuration asks for and the weights do not have.
    """
    parts = [config, *(part for name in _PARTS if isinstance(part := config.get(name), Mapping))]
    values: list[tuple[str, Any]] = [(name, value) for part in parts for name, value in part.items() if name not in _PLAIN]
    odd = [(name, value) for name, value in values if type(value) is int and value in sizes and value >= _TELLING]
    odd = odd or [(name, value) for name, value in values if _is_odd(name, value, usual.get(name), reason)]
    # nothing stands out: what is left open or zero, and what the architecture does not have by itself
    odd = odd or [(name, value) for name, value in values if name not in usual or _is_empty(value, usual[name])]
    odd += [(name, config[name]) for name in _PARTS if name in config and name not in usual]
    said = [f"'{name}' is {one_line(repr(value), 60)}" for name, value in odd]
    return f"unusual in config.json: {', '.join(said[:_MOST])}" if said else None


def _is_odd(name: str, value: Any, usual: Any, reason: str) -> bool:
    if value is None or value == usual:
        return False
    if _is_number(value):
        if usual is not None and not _is_number(usual):
            return True
        low = 0 if usual is None or usual >= 0 else -math.inf
        nothing = value == 0 and bool(usual) and not name.endswith("_token_id")
        return not math.isfinite(value) or value < low or abs(value) > _LARGEST or nothing or _said(value, reason)
    if usual is not None and type(value) is not type(usual):
        return True
    if isinstance(value, bool):  # weights that are missing may be those that a switch asks for
        return "missing" in reason
    return isinstance(value, str) and _said(value, reason)


def _is_empty(value: Any, usual: Any) -> bool:
    return (value is None and usual is not None) or (value == 0 and _is_number(value) and usual is None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any, reason: str) -> bool:
    """Whether the reason shows the value, but for short numbers, which may be any."""
    return repr(value) in reason and (isinstance(value, str) or len(str(value)) > 2)
