"""The engine of CTranslate2: fast and light on a CPU, for the families of models that it knows. Importing this imports no library."""

from llmkit.engines.base import Capabilities, EngineKind

ENGINE = EngineKind(
    name="ctranslate2",
    capabilities=Capabilities(
        token_ids=True,
        streaming=True,
        beams=True,
        logprobs=True,
        scoring=True,
        adapters=True,
        devices=("cpu",),
        quantizations=("none", "int8"),
    ),
    opener="llmkit.engines.ctranslate2.opening:open_engine",
    limits="llmkit.engines.ctranslate2.limits:reason",
)
