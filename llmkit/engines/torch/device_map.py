"""A model that is larger than one device, spread over all of them, main memory and disk (accelerate's device map).

A layer whose weights lie elsewhere gets them copied to the device that computes, each time it runs: slower with every weight that is
not on a device, and never another result. Knows accelerate through transformers; not what the model is used for.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import UnavailableError, UsageError

#: Bytes of a map: one line per layer of the largest models is far less.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class DeviceMap:
    """Where the parts of a model go. layout: 'auto', or names of modules with their devices. folder: for weights moved to disk."""

    layout: str | dict[str, Any]
    folder: tempfile.TemporaryDirectory[str]

    @property
    def arguments(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` gets."""
        return {"device_map": self.layout, "offload_folder": self.folder.name}


def device_map(name: str) -> DeviceMap | None:
    """What the setting asks for: None for 'none'. Raises UsageError for a file that is no map, UnavailableError without room on disk."""
    if name == "none":
        return None
    layout = name if name == "auto" else _read(Path(name).expanduser())
    try:
        return DeviceMap(layout, tempfile.TemporaryDirectory(prefix="llmkit-offload-", ignore_cleanup_errors=True))
    except OSError as exc:
        raise UnavailableError(f"no folder for temporary files can be written: {exc.strerror or exc}", hint="set TMPDIR") from exc


def devices_of(model: Any) -> tuple[str, ...]:
    """The devices that hold weights of a loaded model, the first of them first; empty for a model that was not spread."""
    layout = getattr(model, "hf_device_map", None) or {}
    return tuple(dict.fromkeys(f"cuda:{place}" if isinstance(place, int) else str(place) for place in layout.values()))


def _read(path: Path) -> dict[str, Any]:
    example = 'an object such as {"model.embed_tokens": "cpu", "model.layers.0": 0, "model.layers.1": "disk"}'
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
    except OSError as exc:
        raise UsageError(f"`device_map` {path}: {exc.strerror}", hint="auto, or a .json file") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"`device_map` {path}: is not JSON", hint=example) from exc
    if not isinstance(content, dict) or not content or not all(_is_place(value) for value in content.values()):
        raise UsageError(f"`device_map` {path}: is not a map of modules to devices", hint=example)
    return content


def _is_place(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and value >= 0) or (isinstance(value, str) and bool(value))
