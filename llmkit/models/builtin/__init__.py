"""The models that lie in the package: their names, folders and checksums."""

from __future__ import annotations

from pathlib import Path

from llmkit.errors import ModelError, UnavailableError, UsageError, did_you_mean
from llmkit.files import file_sha256

#: Name → SHA-256 of its model.safetensors.
CHECKSUMS: dict[str, str] = {
    "stories": "0a959717df5b9ab6b268d8fc9b721dd4566d1de2416f5c817fa45cfc71b13c9c",
    "en-fr": "6872c275488ac783c6e63a4f66050ea9d59dc45ad32de86b8eed66a7cd968c99",
}

#: Name → SHA-256 of each file of its CTranslate2 form, which scripts/builtin/ctranslate2_form.py makes of the weights above.
CONVERTED: dict[str, dict[str, str]] = {
    "stories": {
        "config.json": "3411df62aa6652a761180aa8f2a7dac12b540fd1e165e66a9e4aad9ad5dc3795",
        "model.bin": "95139444f8103acba0b654391b7ac64c413d5e32f7330e315f043ed49bae2fbe",
        "vocabulary.json": "d6321a5c35810227968d9764ff2bea493a8f750621e70b9d484643ff9d85a6f0",
    },
    "en-fr": {
        "config.json": "a27f4e105222e3d874d2579637e16af9f7c59f2c6ae12c237fe240ae5db57d2e",
        "model.bin": "c625f783666b399f4de075b7d9f9c0bb68978651b2454088b5f22cba489b722d",
        "shared_vocabulary.json": "ca66d78b6d3b221c86f00aa89e23568508ffc20110429c33aa325ac2d575428f",
    },
}

#: Name → the languages of its card, in order; here they are known without reading YAML.
LANGUAGES: dict[str, tuple[str, ...]] = {"stories": (), "en-fr": ("en", "fr")}

DEFAULT = "builtin:stories"
#: A model that does more, for each.
_BIGGER = {DEFAULT: "Qwen/Qwen3-0.6B", "builtin:en-fr": "Helsinki-NLP/opus-mt-en-fr"}


def demonstration(reference: str, better: str = "") -> str | None:
    """The notice that a model is a small one of ours, and which to use instead; None for any other. better: what makes it write better."""
    bigger = _BIGGER.get(reference)
    return bigger and f"{reference}: a small demonstration model{better}; choose a bigger one with -m, for example -m {bigger}"


def names() -> list[str]:
    """The names of the built-in models, without 'builtin:'."""
    return list(CHECKSUMS)


def folder(name: str) -> Path:
    """The folder of a built-in model. Raises UsageError for an unknown name, UnavailableError where it is not installed."""
    if name not in CHECKSUMS:
        hint = did_you_mean(name, CHECKSUMS, default=f"there are {', '.join('builtin:' + n for n in CHECKSUMS)}")
        raise UsageError(f"there is no built-in model '{name}'", hint=hint)
    path = Path(__file__).parent / name.replace("-", "_")
    if not (path / "model.safetensors").exists():
        raise UnavailableError(f"builtin:{name} is missing from this installation", hint="install llmkit again")
    return path


def converted(name: str) -> Path:
    """The folder of a built-in model's CTranslate2 form, once its files have been checked.

    Raises UsageError for an unknown name, ModelError for a file whose content is not the package's, UnavailableError for one that can't
    be read.
    """
    home = folder(name) / "ctranslate2"
    for file, expected in CONVERTED[name].items():
        try:
            actual = file_sha256(home / file)
        except OSError as exc:
            raise UnavailableError(f"{home / file}: cannot be read: {exc.strerror or exc}", hint="install llmkit again") from exc
        if actual != expected:
            raise ModelError(f"{home / file}: its content does not have the SHA-256 it should", hint="install llmkit again")
    return home
