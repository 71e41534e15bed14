"""A reference (builtin:NAME, a folder, a GGUF file, org/name[@revision]) becomes a folder on this machine, checked.

Knows names, the hub and its cache; not weights or devices.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llmkit.errors import ModelError, UnavailableError, UsageError, one_line
from llmkit.files import file_sha256
from llmkit.models import builtin, configuration
from llmkit.models.checkpoint import Checkpoint, read_checkpoint
from llmkit.models.gguf.folder import model_folder
from llmkit.models.gguf.header import ENDING, read_header
from llmkit.models.libraries import check_hub
from llmkit.models.settings import network_hint
from llmkit.models.shelf import file_sha256 as remembered_sha256

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
#: A file of a model on the hub, in a folder of it where that is so.
_HUB_FILE = re.compile(
    rf"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/(?P<file>[\w./-]+{re.escape(ENDING)})(@(?P<revision>[\w./-]+))?", re.IGNORECASE
)
KINDS = "models are builtin:NAME, a folder, a .gguf file, or org/name[@revision] or org/name/file.gguf[@revision] on the hub"
#: What to do about a name that is neither a folder nor in the hub's cache.
NOT_HERE = "name a folder that exists, run once with the network, or use a built-in model: 'llmkit models' lists them"
#: What the hub's client raises for an address that can't be one, by name: its own client of HTTP is imported only when it is needed.
_BAD_ADDRESS = ("InvalidURL", "UnsupportedProtocol")
#: What is fetched from the hub: never pickles, never other frameworks' weights.
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "*.py")


@dataclass(frozen=True)
class Location:
    """Where a reference lies. `revision` is the hub's commit, where the model came from the hub."""

    reference: str
    folder: Path
    revision: str | None = None

    @property
    def is_builtin(self) -> bool:
        """Whether the model lies in the package."""
        return self.reference.startswith("builtin:")


def locate(
    reference: str, *, offline: bool = False, trust_remote_code: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Location:
    """The folder of `reference`, downloading from the hub where needed and allowed, or made of a GGUF file.

    tell: told in a line what takes time now.

    Raises UsageError for an invalid name, ModelError or UnavailableError for a model that is damaged or not available.
    """
    if reference.startswith("builtin:"):
        return Location(reference, builtin.folder(reference.removeprefix("builtin:")))
    check_name(reference)
    path = Path(reference).expanduser()
    if os.path.isdir(path):
        return Location(reference, path.resolve())
    if (file := gguf_file(reference, offline=offline)) is not None:
        return Location(reference, model_folder(file.path, reference, tell), file.revision)
    name, _, revision = reference.partition("@")
    return _from_hub(reference, name, revision or None, offline=offline or hub_offline(), trust_remote_code=trust_remote_code)


def check_name(reference: str) -> None:
    """Raises what `locate` raises for a name that no model on this machine has and none on a hub can have; not for built-in ones."""
    path = Path(reference).expanduser()
    if os.path.isdir(path) or _names_gguf(reference):
        return
    if os.path.isfile(path):
        raise ModelError(f"{reference} is a file; a model is a folder or a .gguf file", hint="name the folder that holds config.json")
    if reference.startswith("openai:"):
        raise UsageError(f"{reference} is a model on a server, and this needs a model's weights", hint=KINDS)
    if _HUB_NAME.fullmatch(reference) is None or reference.startswith((".", "/", "~")) or ".." in reference:
        raise UnavailableError(
            f"there is no model folder '{reference if len(reference) < 200 else reference[:200] + '...'}'",
            hint=KINDS,
        )


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine. revision: the hub's commit, where it came from the hub."""

    path: Path
    revision: str | None = None


def gguf_file(reference: str, *, offline: bool = False) -> GgufFile | None:
    """The GGUF file that `reference` names, downloaded where needed and allowed; None for a model of another kind.

    Raises ModelError or UnavailableError for a file that is damaged or not available.
    """
    path = Path(reference).expanduser()
    if not _names_gguf(reference):
        return None
    if os.path.isfile(path):
        return GgufFile(path)
    match = _HUB_FILE.fullmatch(reference)
    if match is None or ".." in reference:
        raise UnavailableError(f"there is no model file '{reference if len(reference) < 200 else reference[:200] + '...'}'", hint=KINDS)
    return _file_from_hub(reference, match, offline=offline or hub_offline())


def _names_gguf(reference: str) -> bool:
    return reference.partition("@")[0].lower().endswith(ENDING) or Path(reference).suffix.lower() == ENDING


def resolve(
    reference: str, *, offline: bool = False, trust_remote_code: bool = False, tell: Callable[[str], None] = lambda _: None
) -> tuple[Location, Checkpoint]:
    """`locate`, then the folder's config, tokenizer files and headers checked against each other.

    tell: gets a line on what takes long. Raises what `locate` raises, ModelError for what does not fit together, UsageError for a model
    that brings code of its own.
    """
    location = locate(reference, offline=offline, trust_remote_code=trust_remote_code, tell=tell)
    checkpoint = read_checkpoint(location.folder, trust_remote_code=trust_remote_code)
    _check_known_hash(location, checkpoint)
    return location, checkpoint


def reads_all(reference: str) -> bool:
    """Whether a model is an encoder-decoder, as far as a name and its configuration tell before it is located; False if they do not."""
    folder = Path(reference).expanduser()
    if reference.startswith("builtin:"):
        return bool(builtin.LANGUAGES.get(reference.removeprefix("builtin:")))
    try:
        if folder.suffix.lower() == ENDING and os.path.isfile(folder):
            return read_header(folder).is_encoder_decoder
        return bool(os.path.isdir(folder) and configuration.optional(folder, "config.json").get("is_encoder_decoder", False))
    except ModelError:
        return False  # opening it says what is wrong


def hub_offline() -> bool:
    """Whether the environment says so, in the hub client's own terms."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def go_offline() -> None:
    """Makes every library of this process refuse the network. To be called before they are imported."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"


def cached_models() -> list[tuple[str, str, int]]:
    """Models in the hub's cache: (name, commit, bytes on disk)."""
    check_hub()
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted((r.repo_id, v.commit_hash, v.size_on_disk) for r in repos if r.repo_type == "model" for v in r.revisions)


def _check_known_hash(location: Location, checkpoint: Checkpoint) -> None:
    """A flipped bit in weights whose hash is known: the package's own, and the hub's content-addressed files."""
    if location.is_builtin:
        known = {checkpoint.files[0]: builtin.CHECKSUMS[location.reference.removeprefix("builtin:")]}
    else:
        # The hub's cache links a snapshot's large files to blobs named by their SHA-256.
        blobs = {path: _blob(path) for path in checkpoint.files if location.revision}
        known = {path: name for path, name in blobs.items() if name is not None}
    for path, expected in known.items():
        if file_sha256(path) != expected:
            raise ModelError(
                f"{path}: its SHA-256 is not the expected one",
                hint="install llmkit again" if location.is_builtin else f"delete {os.path.realpath(path)} and run again",
            )


def _blob(path: Path) -> str | None:
    """The SHA-256 that the hub's cache names a large file by; None where it has none."""
    name = os.path.basename(os.path.realpath(path))
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _file_from_hub(reference: str, match: re.Match[str], *, offline: bool) -> GgufFile:
    with _hub(reference, match["name"], match["revision"], offline=offline):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(match["name"], match["file"], revision=match["revision"], local_files_only=offline))
    if (expected := _blob(path)) is not None and remembered_sha256(path) != expected:
        raise ModelError(f"{path}: its SHA-256 is not the expected one", hint=f"delete {os.path.realpath(path)} and run again")
    return GgufFile(path, path.parents[match["file"].count("/")].name)


def _from_hub(reference: str, name: str, revision: str | None, *, offline: bool, trust_remote_code: bool) -> Location:
    patterns = [p for p in _PATTERNS if trust_remote_code or p != "*.py"]
    with _hub(reference, name, revision, offline=offline):
        from huggingface_hub import snapshot_download

        if not offline:
            _refuse_pickles(name, revision)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=offline))
    return Location(reference, folder, folder.name)


@contextmanager
def _hub(reference: str, name: str, revision: str | None, *, offline: bool) -> Iterator[None]:
    """What the hub's client raises in the block, as our errors."""
    check_hub()
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import disable_progress_bars, logging

    check_token()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    missing = f"the hub has no model '{name}', or it is private", "check the spelling; for a private model log in: hf auth login"
    why = "this run is offline" if offline else f"the hub{' of HF_ENDPOINT' * ('HF_ENDPOINT' in os.environ)} can't be reached"
    said: dict[type[Exception], tuple[str, str]] = {  # of an error of several kinds, the first that is here counts
        hub.GatedRepoError: (
            f"{name} is gated: its terms must be accepted first",
            "accept them on the model's page, then log in: hf auth login",
        ),
        hub.RevisionNotFoundError: (f"{name} has no revision '{revision or 'main'}'", "name a branch, tag or commit with @revision"),
        hub.RepositoryNotFoundError: missing,
        hub.LocalEntryNotFoundError: (f"{reference}: there is no such folder; {why} and it is not in the cache", NOT_HERE),
        hub.EntryNotFoundError: (f"{name} has no file of the name in {reference}", "its page on the hub lists its files"),
    }
    try:
        yield
    except ModelError:
        raise
    except tuple(said) as exc:
        message, hint = next(text for kind, text in said.items() if isinstance(exc, kind))
        raise UnavailableError(message, hint=hint) from exc
    except hub.HfHubHTTPError as exc:
        status = exc.response.status_code if exc.response is not None else "?"
        refused = "log in with a token that may read it: hf auth login" if status in (401, 403) else "try again later"
        message, hint = missing if status == 404 else (f"{name}: the hub answered with status {status}", refused)
        raise UnavailableError(message, hint=hint) from exc
    except hub.HFValidationError as exc:
        raise UsageError(f"'{reference}' is not a model's name", hint="builtin:NAME, a folder, or org/name[@revision]") from exc
    except Exception as exc:
        # a proxy, its package, a certificate or an address
        unusable = isinstance(exc, ImportError | ValueError | FileNotFoundError) or type(exc).__name__ in _BAD_ADDRESS
        if not unusable and not isinstance(exc, OSError) and not is_connection_error(exc):
            raise
        hint = (network_hint("HF_ENDPOINT") if unusable else None) or "run the same command again"
        reason = one_line(exc).replace("`", "'")
        raise UnavailableError(f"{name} could not be downloaded: {type(exc).__name__}: {reason}", hint=hint) from exc


def check_token() -> None:
    """Raises UnavailableError for a token that was pasted with an invisible character: it can't be sent. Its value is in no message."""
    from huggingface_hub import get_token

    tokens = {name: os.environ.get(name, "") for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    with suppress(OSError, ValueError):
        tokens["the token of hf auth login"] = get_token() or ""
    for name, token in tokens.items():
        if not (token.strip().isascii() and token.strip().isprintable()):
            raise UnavailableError(f"{name} contains a character that is not allowed in a token", hint="copy the token again")


def _refuse_pickles(name: str, revision: str | None) -> None:
    """Says before a download that a model has no safetensors. Raises the hub client's errors when it can't be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        files = [s.rfilename for s in HfApi().model_info(name, revision=revision, timeout=30).siblings or ()]
    except OfflineModeIsEnabled:
        return
    except Exception as exc:
        if is_connection_error(exc):
            return  # snapshot_download falls back to the cache, and says so when it can't
        raise
    if not any(f.endswith(".safetensors") for f in files):
        pickles = [f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        what = f"only pickle weights ({pickles[0]}), which can run code when they are read" if pickles else "no weights"
        of_llama_cpp = next((f for f in files if f.lower().endswith(ENDING)), None)
        hint = f"name a file: {name}/{of_llama_cpp}" if of_llama_cpp else "look for a revision or a copy of it with safetensors"
        raise ModelError(f"{name} has {what}", hint=hint)


def is_connection_error(exc: Exception) -> bool:
    """No HTTP answer at all: refused, reset, timed out, not resolved."""
    from huggingface_hub.errors import HfHubHTTPError

    return not isinstance(exc, HfHubHTTPError) and any("httpx" in c.__module__ or c is ConnectionError for c in type(exc).__mro__)
