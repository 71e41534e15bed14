"""The options of models that servers run: where they are, and how they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.command import refuse
from llmkit.cli.parsing import MODEL, count_option, duration, group, option, seconds

if TYPE_CHECKING:
    from llmkit.models.settings import ServerSettings


ApiBase = Annotated[
    list[str] | None,
    option("--api-base", help="openai:NAME: a server's address, http://host:8000/v1 (repeatable).", panel=MODEL, metavar="URL"),
]


@group
class ServerOptions:
    """How the servers of an openai:NAME are asked."""

    api_base: ApiBase = None
    concurrency: Annotated[int, count_option("--concurrency", help="openai:NAME: requests in flight.", panel=MODEL)] = 16
    request_timeout: Annotated[
        str, option("--request-timeout", help="openai:NAME: the most time for one request.", panel=MODEL, metavar="TIME", parser=duration)
    ] = "10m"
    max_retries: Annotated[int, count_option("--max-retries", help="openai:NAME: how often a request is tried again.", panel=MODEL)] = 10

    @property
    def server(self) -> ServerSettings:
        """As the engine takes them, times in seconds. Raises UsageError for an address that can't be one."""
        from llmkit.models.settings import ServerSettings

        return ServerSettings(tuple(self.api_base or ()), self.concurrency, seconds(self.request_timeout) or 600.0, self.max_retries)


def runs_on_server(reference: str) -> bool:
    """Whether a model has no folder that its own settings could be read from, because an engine asks a server for it."""
    from llmkit.engines.registry import engines

    return ":" in reference and not reference.startswith("builtin:") and any(kind.claims(reference) for kind in engines().values())


def refuse_without_server(ctx: typer.Context, reference: str) -> None:
    """Refuses options about requests for a model that no server runs. Raises UsageError."""
    if runs_on_server(reference):
        return
    why = f"applies to models on servers (openai:NAME); {reference} runs on this machine"
    refuse(ctx, ("concurrency", "request_timeout", "max_retries"), why, hint="remove it")
