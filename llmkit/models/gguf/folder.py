"""A GGUF file becomes a model folder of llmkit's own, once: found again by the file's hash and the libraries' versions.

Knows the shelf and what a conversion needs; how it is made, convert.py knows. Nothing heavy is imported for a file that is there already.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from llmkit import files
from llmkit.errors import ModelError, OutOfMemoryError, UnavailableError
from llmkit.models import memory
from llmkit.models.gguf.header import GgufHeader, read_header
from llmkit.models.shelf import CacheEntry, Shelf, file_sha256

SHELF = Shelf("gguf", form=2)


def model_folder(path: Path, reference: str, tell: Callable[[str], None]) -> Path:
    """The folder that a GGUF file was converted into, now where it has not been. tell: told in a line that this takes its time.

    Raises ModelError for a file that is damaged or can't be converted, OutOfMemoryError, and UnavailableError without the package
    that reads it or where nothing can be written.
    """
    name = _key(path)
    if (entry := _intact(name)) is not None:
        return entry.folder
    header = read_header(path)
    _check(header, reference)
    try:
        with SHELF.writing(name) as part:
            if (entry := _intact(name)) is not None:  # another process was faster
                return entry.folder
            from llmkit.models.gguf.convert import convert

            what = f"{reference} ({header.kinds[0]}) is converted to a model folder"
            tell(f"{what}, once, into {files.home()} (llmkit models clear removes it)")
            convert(header, part, reference)
            facts = {"reference": reference, "architecture": header.architecture, "kinds": list(header.kinds)}
            return SHELF.commit(name, part, facts).folder
    except OSError as exc:
        raise UnavailableError(
            f"{reference} can't be converted: {files.home()} cannot be written: {exc.strerror or exc}",
            hint="name another folder in LLMKIT_HOME",
        ) from exc


def _key(path: Path) -> str:
    parts = [str(SHELF.form), *(f"{name} {_version(name)}" for name in ("gguf", "transformers", "tokenizers"))]
    try:
        parts.append(file_sha256(path))
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # not at the top: see `llmkit.models.devices`

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _intact(name: str) -> CacheEntry | None:
    """A folder whose files are all as they were written; of the weights, the hash may be remembered."""
    entry = SHELF.find(name)
    if entry is None:
        return None
    try:
        intact = all(file_sha256(entry.folder / file) == expected for file, expected in entry.manifest["files"].items())
    except OSError:
        return None
    return entry if intact else None


def _check(header: GgufHeader, reference: str) -> None:
    """Raises for what can be known beforehand: a part of a model, a package that is missing, too little memory or disk."""
    if (header.number("split.count") or 1) > 1:
        raise ModelError(
            f"{reference} is one of {header.number('split.count')} parts of a model", hint="join them with llama-gguf-split of llama.cpp"
        )
    if importlib.util.find_spec("gguf") is None:
        raise UnavailableError("a GGUF file needs the package gguf", hint="pip install 'llmkit[gguf]'")
    most = 4 * header.parameters
    plan = memory.MemoryEstimate({"weights in float32": most, "the same while they are read": most}, memory.free_bytes())
    if not plan.fits:
        raise OutOfMemoryError(f"{reference} can't be converted: it {plan}", hint="a smaller model")
    if most > (room := SHELF.free_bytes()):
        raise UnavailableError(
            f"{reference} can't be converted: it takes {most / 2**30:.1f} GiB in {files.home()}, and {room / 2**30:.1f} are free",
            hint="make room, or name another folder in LLMKIT_HOME",
        )
