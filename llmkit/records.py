"""The run record: everything needed to know what a run was, and to run it again."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

from llmkit import __version__

_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide an answer."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_bytes() -> int | None:
    """The most memory this process has held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def run_record(command: str, options: dict[str, Any], identity: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The record as it is written. `identity` is what a resume compares, `result` counts and measurements."""
    return {
        "llmkit": __version__,
        "command": command,
        "options": options,
        "identity": identity,
        "versions": versions(),
        "platform": platform.platform(),
        "result": result,
    }
