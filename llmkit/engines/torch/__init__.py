"""The engine of transformers and torch: any architecture, any device. Importing this imports neither."""

from llmkit.engines.base import Capabilities, EngineKind
from llmkit.models.devices import KINDS, QUANTIZATIONS

ENGINE = EngineKind(
    name="torch",
    capabilities=Capabilities(
        token_ids=True,
        streaming=True,
        sampling=True,
        beams=True,
        logprobs=True,
        scoring=True,
        constraints=True,
        speculation=True,
        adapters=True,
        devices=KINDS,
        quantizations=QUANTIZATIONS,
    ),
    opener="llmkit.engines.torch.engine:open_engine",
)
