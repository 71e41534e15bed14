"""Who is compared: one module per peer.

A module has NEEDS (the packages without which it is skipped), IMPORTS (the modules that take long to import) and TASKS: functions from
a `Job` to a function that does this job, or another one like it with other texts, from texts to texts or numbers, and says what it did.
What a user pays once (imports, loading, converting) is done before.
A new peer is a module here, and a `Contender` in each comparison of `bench/comparisons.py` that it takes part in.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """What is to be done. folder: the model's; texts: prompts or documents; scratch: a folder for what a peer writes.

    limits: new tokens of each text's answer, where they differ; those beyond are not counted. options: the peer's own, such as
    its engine or batch size.
    """

    folder: str
    texts: list[str]
    new_tokens: int = 0
    limits: list[int] = field(default_factory=list)
    steps: int = 0
    dtype: str = "float32"
    scratch: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """tokens: written, scored or trained. seconds: where the peer's own count is meant, and not all that the call took."""

    tokens: int
    seconds: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


Work = Callable[[Job], Done]


#: The module that peers on torch import first.
ON_TORCH = "bench.on_torch"
#: No network, and no warnings of tokenizers about forks.
SETTINGS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def settings() -> None:
    """Puts SETTINGS into this process's environment."""
    os.environ.update(SETTINGS)


def imports(peer: str, task: str, options: Mapping[str, Any]) -> Sequence[str]:
    """The modules that a peer imports for a task. Where its IMPORTS are a mapping, they depend on the engine, or else on the task."""
    names = importlib.import_module(f"bench.peers.{peer}").IMPORTS
    return tuple(names.get(options.get("engine", task), ()) if isinstance(names, Mapping) else names)


def missing(peer: str) -> str | None:
    """The first package that a peer needs and that is not installed; None when it can run."""
    needs = importlib.import_module(f"bench.peers.{peer}").NEEDS
    return next((name for name in needs if importlib.util.find_spec(name) is None), None)
