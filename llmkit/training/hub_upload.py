"""A finished adapter or merged model on a hub: exactly the files that its record lists, with the card.

Knows folders of ours and the hub's client; not models.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, UnavailableError, UsageError, counted, one_line
from llmkit.files import file_sha256, read_at_most
from llmkit.jobs.reporter import Reporter, Silent
from llmkit.models.libraries import check_hub
from llmkit.models.reference import check_token, hub_offline, is_connection_error
from llmkit.models.settings import network_hint

#: Records of folders that llmkit wrote: of finetune, and of merge.
_RECORDS = ("run.json", "merge.json")
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class UploadResult:
    """Where a folder went. url: of the commit; files: their names."""

    name: str
    url: str
    files: tuple[str, ...]


def upload(folder: str, name: str, *, private: bool = False, report: Reporter | None = None) -> UploadResult:
    """Puts what a run wrote into `folder` on the hub as `name` (org/name), in one commit.

    private: for a repository that is made; one that is there stays as it is. Raises InputError for a folder that is not a complete
    result of llmkit, UsageError for a name, UnavailableError when the hub can't be reached or refuses.
    """
    check_hub()
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import disable_progress_bars, logging

    if not _NAME.fullmatch(name):
        raise _no_name(name)
    check_token()
    if hub_offline():
        raise UnavailableError("publishing needs the network, and this run is offline", hint="unset HF_HUB_OFFLINE")
    files = result_files(Path(folder))
    disable_progress_bars()
    logging.set_verbosity_error()
    api = HfApi(library_name="llmkit")
    try:
        api.create_repo(name, private=private or None, exist_ok=True)
        (report or Silent()).notice(f"{folder}: {counted(len(files), 'file')} to {name}")
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message="A model made by llmkit", repo_type="model"
        )
    except hub.HfHubHTTPError as exc:
        status = exc.response.status_code if exc.response is not None else 0
        if status in (401, 403):
            raise UnavailableError(
                f"{name}: the hub refuses to write (status {status})", hint="log in with a token that may write: hf auth login"
            ) from exc
        hint = "is there such a user or organization?" if status == 404 else "try again later"
        raise UnavailableError(f"{name}: the hub answered with status {status}", hint=hint) from exc
    except hub.HFValidationError as exc:
        raise _no_name(name) from exc
    except Exception as exc:
        unusable = isinstance(exc, ImportError | ValueError | FileNotFoundError)  # a proxy, its package, or a certificate
        if not unusable and not isinstance(exc, OSError) and not is_connection_error(exc):
            raise
        hint = (network_hint() if unusable else None) or "the same command tries again"
        raise UnavailableError(f"{name}: the hub can't be reached: {one_line(exc)}", hint=hint) from exc
    return UploadResult(name, str(commit.commit_url), files)


def _no_name(name: str) -> UsageError:
    return UsageError(f"'{name}' is not a name on the hub", hint="org/name, or your user name and a name")


def result_files(folder: Path) -> tuple[str, ...]:
    """Names of the files of a complete result, its record included; nothing else in the folder.

    Raises InputError when there is no record, or a file is not the one that was written.
    """
    record = next((folder / name for name in _RECORDS if (folder / name).is_file()), None)
    if record is None:
        raise InputError("holds no finished result of llmkit finetune or llmkit merge", path=folder, hint="name the folder of one")
    try:
        content: dict[str, Any] = json.loads(read_at_most(record))
        written = content["result"]["files"] if record.name == "run.json" else dict.fromkeys(content["files"])
        names = sorted({*map(str, written), record.name})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InputError(f"is not a record of llmkit ({type(exc).__name__})", path=record) from exc
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise InputError("is missing", path=path, hint="train or merge it again with `overwrite`")
        if written.get(name) is not None and not name.endswith(".md") and file_sha256(path) != written[name]:
            raise InputError("has changed since it was written", path=path, hint="train or merge it again with `overwrite`")
    return tuple(names)
