"""The models that lie in the package: their names, folders and checksums."""

from __future__ import annotations

from pathlib import Path

from llmkit.errors import UnavailableError, UsageError

#: Name → SHA-256 of its model.safetensors.
CHECKSUMS: dict[str, str] = {
    "stories": "b235f4bde92695a0a77082ed1349776d6d9f608fedd87aae4db51ef689374a06",
}

DEFAULT = "builtin:stories"


def names() -> list[str]:
    return list(CHECKSUMS)


def folder(name: str) -> Path:
    """The folder of a built-in model. Raises UsageError for an unknown name."""
    import difflib

    if name not in CHECKSUMS:
        close = difflib.get_close_matches(name, CHECKSUMS, n=1)
        hint = f"did you mean builtin:{close[0]}?" if close else f"there are {', '.join('builtin:' + n for n in CHECKSUMS)}"
        raise UsageError(f"there is no built-in model '{name}'", hint=hint)
    path = Path(__file__).parent / name.replace("-", "_")
    if not (path / "model.safetensors").exists():
        raise UnavailableError(f"builtin:{name} is missing from this installation", hint="install llmkit again")
    return path
