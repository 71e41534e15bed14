"""Engines by name: chosen from the model reference before anything is loaded.

A new engine is one folder with an `EngineKind` and one line here; another package adds one by an entry point of the group
`llmkit.engines` whose object is an `EngineKind`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from llmkit.engines import torch
from llmkit.engines.base import EngineKind
from llmkit.errors import UnavailableError, UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.engines.chat import ChatSettings
    from llmkit.models.settings import ModelSettings

GROUP = "llmkit.engines"
_BUILT_IN = (torch.ENGINE,)


def engines() -> dict[str, EngineKind]:
    """Every engine by its name. Raises UnavailableError for an entry point that can't be loaded or takes a name twice."""
    out = {kind.name: kind for kind in _BUILT_IN}
    for entry in entry_points(group=GROUP):
        try:
            kind = entry.load()
        except Exception as exc:  # another package's code
            raise UnavailableError(f"the engine '{entry.name}' of {entry.value} can't be loaded: {one_line(exc)}") from exc
        if not isinstance(kind, EngineKind):
            raise UnavailableError(f"the engine '{entry.name}' of {entry.value} is no EngineKind")
        if kind.name in out:
            raise UnavailableError(f"two engines have the name '{kind.name}'", hint=f"uninstall the package of {entry.value}")
        out[kind.name] = kind
    return out


def choose(settings: ModelSettings, engine: str = "auto") -> EngineKind:
    """The engine that `engine` names, or for 'auto' the one whose references `settings.reference` is one of, else torch.

    Raises UsageError for an unknown name, or for settings that the engine does not have.
    """
    known = engines()
    if engine == "auto":
        chosen = next((kind for kind in known.values() if kind.claims(settings.reference)), torch.ENGINE)
    elif engine in known:
        chosen = known[engine]
    else:
        raise UsageError(f"unknown engine '{engine}'", hint=did_you_mean(engine, known, default=f"auto, {', '.join(known)}"))
    chosen.check_settings(settings)
    return chosen


def open_engine(
    settings: ModelSettings,
    *,
    engine: str = "auto",
    chat: ChatSettings | None = None,
    draft: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Loads the model (and the draft model that speculates for it) with the engine that is chosen for it.

    Raises UsageError as `choose` does, and what the engine raises: ModelError, UnavailableError or OutOfMemoryError.
    """
    module, _, name = choose(settings, engine).opener.partition(":")
    opened: Engine = getattr(importlib.import_module(module), name)(settings, chat=chat, draft=draft, report=report, warn=warn)
    return opened
