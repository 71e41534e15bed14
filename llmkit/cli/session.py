"""What the commands of one run have in common when a suite calls several of them: opened models, and results that it collects.

Knows contexts of Typer; not suites.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.engines.base import Engine
    from llmkit.metrics.base import Result
    from llmkit.models.settings import ModelSettings

_KEY = "llmkit.session"


@dataclass
class Session:
    """models: by settings, engine, and the chat template where it can't be changed later; each opened once.

    results: of the commands that have ended, in order.
    """

    models: dict[tuple[ModelSettings, str, str], Engine] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)


def begin(ctx: Any) -> Session:
    """A session for the commands that are called under `ctx`."""
    session = ctx.meta[_KEY] = Session()
    return session


def session_of(ctx: Any) -> Session | None:
    """The session that the command of `ctx` is part of; None for one that was called by itself."""
    session: Session | None = ctx.meta.get(_KEY)
    return session
