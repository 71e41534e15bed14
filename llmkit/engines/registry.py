"""Engines by name: chosen from the model reference before anything is loaded.

A new engine is one folder with an `EngineKind` and one line here; another package adds one by an entry point of the group
`llmkit.engines` whose object is an `EngineKind`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmkit.engines import ctranslate2, openai, torch
from llmkit.engines.base import EngineKind
from llmkit.engines.ctranslate2 import limits
from llmkit.errors import EngineLimitError, OutOfMemoryError, UnavailableError, UsageError, did_you_mean, one_line
from llmkit.models.devices import may_have_accelerator
from llmkit.models.libraries import check_hub
from llmkit.models.reference import check_name

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.decoding import Decoding
    from llmkit.models.settings import ModelSettings

GROUP = "llmkit.engines"
_BUILT_IN = (torch.ENGINE, ctranslate2.ENGINE, openai.ENGINE)


def engines() -> dict[str, EngineKind]:
    """Every engine by its name. Raises UnavailableError for an entry point that can't be loaded or takes a name twice."""
    from importlib.metadata import entry_points  # not at the top: see `llmkit.models.devices`

    out = {kind.name: kind for kind in _BUILT_IN}
    for entry in entry_points(group=GROUP):
        try:
            kind = entry.load()
        except Exception as exc:  # another package's code
            raise UnavailableError(f"the engine '{entry.name}' of {entry.value} can't be loaded: {one_line(exc)}") from exc
        if not isinstance(kind, EngineKind):
            raise UnavailableError(f"the engine '{entry.name}' of {entry.value} is not an EngineKind")
        if kind.name in out:
            raise UnavailableError(f"two engines have the name '{kind.name}'", hint=f"uninstall the package of {entry.value}")
        out[kind.name] = kind
    return out


def choose(settings: ModelSettings, engine: str = "auto", decoding: Decoding | None = None) -> tuple[EngineKind, str | None]:
    """The engine that `engine` names, and for 'auto' why a lighter one was not chosen where it might have been.

    'auto' is the engine whose references `settings.reference` is one of; else for answers decoded as `decoding` on a CPU
    CTranslate2, where it gives the same text as torch does (or where weights in 8 bits are asked for, which it is faster with);
    else torch. Raises UsageError for an unknown name, EngineLimitError for what the engine does not have.
    """
    if engine == "auto" and settings.reference.startswith("builtin:"):  # nobody else's, so that no other package is asked
        return _light(settings, decoding)
    known = engines()
    if engine == "auto":
        chosen = next((kind for kind in known.values() if kind.claims(settings.reference)), None)
        if chosen is None:
            return _light(settings, decoding)
    elif engine in known:
        chosen = known[engine]
    else:
        raise UsageError(f"unknown engine '{engine}'", hint=did_you_mean(engine, known, default=f"auto, {', '.join(known)}"))
    chosen.check(settings, decoding)
    return chosen, None


def _light(settings: ModelSettings, decoding: Decoding | None) -> tuple[EngineKind, str | None]:
    """CTranslate2 where its answers are torch's, else torch and why, where a user would wonder."""
    torch.ENGINE.check(settings, decoding)
    if decoding is None or settings.device not in ("auto", "cpu") or settings.dtype not in ("auto", "float32"):
        return torch.ENGINE, None
    if settings.quantize == "int4" or settings.trust_remote_code or settings.device_map != "none":
        return torch.ENGINE, None  # the one engine that has them
    elsewhere = settings.device == "auto" and may_have_accelerator()
    if not settings.reference.startswith("builtin:") and (elsewhere or not limits.worth_converting(settings.reference)):
        return torch.ENGINE, None
    try:
        ctranslate2.ENGINE.check(settings, decoding)
    except EngineLimitError as exc:
        return torch.ENGINE, exc.message
    return ctranslate2.ENGINE, None


def _check_unopened(settings: ModelSettings, decoding: Decoding | None, chat: ChatSettings | None, draft: str | None) -> None:
    """Raises what is wrong with names, a template or a constraint before a library is imported."""
    for reference in (settings.reference, draft):
        if reference is not None:
            check_name(reference)
    if chat is not None:
        chat.source(None)
    if decoding is not None and decoding.constrained:
        from llmkit.engines.grammar import grammar

        grammar(decoding)


def open_engine(
    settings: ModelSettings,
    *,
    engine: str = "auto",
    decoding: Decoding | None = None,
    chat: ChatSettings | None = None,
    draft: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Loads the model (and the draft model that speculates for it) with the engine that is chosen for it.

    decoding: how answers will be decoded; without it 'auto' is torch. notice: told in a line why not a lighter engine.
    Raises UsageError as `choose` does, and what the engine raises: ModelError, UnavailableError or OutOfMemoryError.
    """
    chosen, why = choose(settings, engine, decoding)
    if not chosen.prefixes:
        _check_unopened(settings, decoding, chat, draft)

    def opened(kind: EngineKind) -> Engine:
        if kind is torch.ENGINE:
            check_hub()
        module, _, name = kind.opener.partition(":")
        tell: dict[str, Callable[[str], None]] = {"report": report, "warn": warn}
        if kind in (torch.ENGINE, ctranslate2.ENGINE):  # those of other packages know the other two
            tell["notice"] = notice
        made: Engine = getattr(importlib.import_module(module), name)(settings, chat=chat, draft=draft, **tell)
        return made

    if engine == "auto" and chosen is ctranslate2.ENGINE:
        try:
            return opened(chosen)
        except (EngineLimitError, OutOfMemoryError) as exc:  # known of this model only now
            chosen, why = torch.ENGINE, exc.message
    if why is not None:
        notice(f"{why}; torch runs instead, which takes longer to start")
    return opened(chosen)
