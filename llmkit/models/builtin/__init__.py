"""The models that lie in the package: their names, folders and checksums."""

from __future__ import annotations

from pathlib import Path

from llmkit.errors import UnavailableError, UsageError, did_you_mean

#: Name → SHA-256 of its model.safetensors.
CHECKSUMS: dict[str, str] = {
    "stories": "0a959717df5b9ab6b268d8fc9b721dd4566d1de2416f5c817fa45cfc71b13c9c",
    "en-fr": "6872c275488ac783c6e63a4f66050ea9d59dc45ad32de86b8eed66a7cd968c99",
}

DEFAULT = "builtin:stories"


def names() -> list[str]:
    return list(CHECKSUMS)


def folder(name: str) -> Path:
    """The folder of a built-in model. Raises UsageError for an unknown name."""
    if name not in CHECKSUMS:
        hint = did_you_mean(name, CHECKSUMS, default=f"there are {', '.join('builtin:' + n for n in CHECKSUMS)}")
        raise UsageError(f"there is no built-in model '{name}'", hint=hint)
    path = Path(__file__).parent / name.replace("-", "_")
    if not (path / "model.safetensors").exists():
        raise UnavailableError(f"builtin:{name} is missing from this installation", hint="install llmkit again")
    return path
