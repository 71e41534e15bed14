"""llmkit: generate, finetune, evaluate and translate with language models, from the command line and from Python.

    import llmkit
    model = llmkit.load("builtin:stories")
    print(llmkit.generate(model, ["Once upon a time"], max_new_tokens=20)[0].text)

Importing it imports nothing heavy: a name is looked up in its module when it is first used.
"""

from __future__ import annotations

import importlib

from llmkit.version import __version__

TYPE_CHECKING = False  # as type checkers know it: importing `typing` takes longer than all that comes before a quiet Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from llmkit.api import Translation, evaluate, finetune, generate, load, score, translate
    from llmkit.engines.decoding import Decoding
    from llmkit.errors import LlmkitError

_MODULES = {
    **dict.fromkeys(("Translation", "evaluate", "finetune", "generate", "load", "score", "translate"), "llmkit.api"),
    "Decoding": "llmkit.engines.decoding",
    "LlmkitError": "llmkit.errors",
}

__all__ = [
    "Decoding", "LlmkitError", "Translation", "__version__", "evaluate", "finetune", "generate", "load", "score", "translate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'llmkit' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
