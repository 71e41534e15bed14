"""An engine by what the model reference asks for. A new engine is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.engines.chat import ChatSettings


def open_engine(
    settings: ModelSettings,
    *,
    chat: ChatSettings | None = None,
    draft: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Loads the model (and the draft model that speculates for it) and gives the engine that runs it.

    Raises what `llmkit.engines.torch.loading.load` raises.
    """
    from dataclasses import replace

    loaded = load(settings, report, warn)
    from llmkit.engines.torch.engine import TorchEngine

    helper = load(replace(settings, reference=draft, adapter=None), report) if draft else None
    return TorchEngine(loaded, chat=chat, draft=helper, owns_model=True)
