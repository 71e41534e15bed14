"""The engine of CTranslate2: fast and light on a CPU, for the built-in models. Importing this imports no library."""

from llmkit.engines.base import Capabilities, EngineKind

ENGINE = EngineKind(
    name="ctranslate2",
    capabilities=Capabilities(
        token_ids=True, streaming=True, beams=True, logprobs=True, scoring=True, devices=("cpu",), quantizations=("none", "int8")
    ),
    opener="llmkit.engines.ctranslate2.engine:open_engine",
    limits="llmkit.engines.ctranslate2.support:reason",
)
