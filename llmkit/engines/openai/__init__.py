"""The engine of OpenAI-compatible servers: a model that runs elsewhere, on one server or many. Importing this imports no library."""

from llmkit.engines.base import Capabilities, EngineKind

ENGINE = EngineKind(
    name="openai",
    capabilities=Capabilities(streaming=True, sampling=True, logprobs=True, scoring=True),
    opener="llmkit.engines.openai.engine:open_engine",
    prefixes=("openai:",),
    limits="llmkit.engines.openai.limits:reason",
)
