"""The output folder of a training run: its lock, what it is, its checkpoints and their hashes.

    OUT/                        the adapter (or model), README.md, metrics.jsonl, loss.png, run.json, once finished
    OUT/checkpoints/state.json  which run this is, and the SHA-256 of every file of every whole checkpoint
    OUT/checkpoints/checkpoint-N/

A checkpoint is written under another name and renamed when whole; only then it enters the state, so one that was being
written when the process died is never read. Optimizer and random states are pickles: they are read only with the hash that
this run wrote down. Knows files; not models.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import JobChangedError, OutputError, UnavailableError
from llmkit.files import acquire, sync_folder, write_whole
from llmkit.models.checkpoint import file_sha256
from llmkit.records import differences

FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint. history: what was logged up to its step."""

    step: int
    path: Path
    history: list[dict[str, Any]]


class RunFolder:
    """One output folder. `writes` is False in all processes of a run but one, which then neither locks nor writes."""

    def __init__(self, name: str, *, writes: bool = True, overwrite: bool = False, restart: bool = False) -> None:
        self.name, self.writes = name, writes
        self.path = Path(os.path.realpath(name))
        self._check()
        self._lock = acquire(self.path, self.name) if writes else None
        if writes and (overwrite or restart):
            self._clear(finished=overwrite)
        self.state = self.read()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def record_path(self) -> Path:
        return self.path / "run.json"

    @property
    def finished(self) -> bool:
        return self.record_path.exists()

    def begin(self, identity: dict[str, Any]) -> bool:
        """Takes the folder for this run, or goes on with it; whether there was one to go on with.

        Raises JobChangedError when the run that was begun here is another one.
        """
        if self.state:
            if changes := differences(self.state["identity"], identity):
                again = "--overwrite replaces it" if self.finished else "--restart starts over, or run the first command again"
                raise JobChangedError(f"{self.name}: the run here was another one: {'; '.join(changes)}", hint=again)
            return True
        if self.finished or (self.path.exists() and any(self.path.iterdir())):
            raise OutputError(f"{self.name} is not empty, and no run of finetune is known to have begun there", hint="name another folder")
        self.state = {"format": FORMAT, "identity": identity, "checkpoints": {}}
        if self.writes:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._write()
        return False

    def keep(self, **facts: Any) -> None:
        """Facts of the run that outlive the process."""
        self.state |= facts
        if self.writes:
            self._write()

    @property
    def staging(self) -> Path:
        """Where the next checkpoint is written before it is whole."""
        return self.checkpoints / "part"

    def stage(self) -> None:
        """Clears away what a process that died left there."""
        if self.writes and self.staging.exists():
            shutil.rmtree(self.staging)

    def commit(self, step: int, *, keep: int, best: int | None, **facts: Any) -> None:
        """Gives the staged checkpoint its name, and drops all but the newest `keep` and the best. facts: see `keep`."""
        staged, name = self.staging / f"checkpoint-{step}", f"checkpoint-{step}"
        hashes = {}
        for path in sorted(p for p in staged.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            hashes[str(path.relative_to(staged))] = file_sha256(path)
        target = self.checkpoints / name
        if target.exists():  # left by a process that died before it entered the state
            shutil.rmtree(target)
        os.replace(staged, target)
        self.staging.rmdir()
        sync_folder(self.checkpoints)
        whole: dict[str, Any] = {**self.state["checkpoints"], name: hashes}
        steps = sorted(map(_step, whole), reverse=True)
        kept = {*steps[:keep], *([best] if best is not None else [])}
        self.keep(checkpoints={n: h for n, h in whole.items() if _step(n) in kept}, **facts)
        for path in self.checkpoints.glob("checkpoint-*"):
            if path.name not in self.state["checkpoints"]:
                shutil.rmtree(path)

    def newest(self, warn: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint whose files have the hashes that were written down; None before the first.

        Raises OutputError when there are checkpoints and none is whole.
        """
        names = sorted(self.state["checkpoints"], key=_step, reverse=True)
        for name in names:
            if (wrong := self._damage(name)) is None:
                return self.saved(_step(name))
            warn(f"{self.name}: {name} is not read: {wrong}")
        if names:
            raise OutputError(f"{self.name}: none of its checkpoints is whole", hint="--restart starts over")
        return None

    def saved(self, step: int) -> Saved:
        path = self.checkpoints / f"checkpoint-{step}"
        history = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        return Saved(step, path, history)

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _damage(self, name: str) -> str | None:
        folder = self.checkpoints / name
        for file, sha256 in self.state["checkpoints"][name].items():
            path = folder / file
            if not path.is_file():
                return f"{file} is missing"
            if file_sha256(path) != sha256:
                return f"{file} is not the file that was written"
        return None

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.name} is a file; the result is a folder", hint="name a folder")
        parent = self.path.parent
        if not parent.is_dir():
            if not self.writes:
                return
            try:
                parent.mkdir(parents=True)
            except OSError as exc:
                raise OutputError(f"{self.name}: its folder can't be made: {exc.strerror}", hint="name another folder") from exc
        if not os.access(self.path if self.path.exists() else parent, os.W_OK):
            raise OutputError(f"{self.name}: not writable", hint="name another folder")

    def _clear(self, *, finished: bool) -> None:
        """Drops what an earlier run left; a finished one only where that was asked for."""
        if self.finished and not finished:
            return
        if self.checkpoints.is_dir() or self.finished:
            shutil.rmtree(self.path)

    def read(self) -> dict[str, Any]:
        """The state on disk, empty before a run has begun. Raises JobChangedError for one that can't be read."""
        path = self.checkpoints / "state.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise JobChangedError(f"{path}: cannot be read: {exc}", hint="--restart starts over") from exc
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise JobChangedError(f"{path}: written by another version", hint="--restart starts over")
        return content

    def _write(self) -> None:
        with unwritable(self.name):
            write_whole(self.checkpoints / "state.json", json.dumps(self.state, indent=1) + "\n")


@contextmanager
def unwritable(name: str) -> Iterator[None]:
    """A full disk, in the several ways that Python, torch and safetensors say it, as UnavailableError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as exc:
        # torch.save has no error of its own
        if isinstance(exc, RuntimeError) and not any(
            sign in str(exc) for sign in ("PytorchStreamWriter", "inline_container", "file write")
        ):
            raise
        what = " ".join((getattr(exc, "strerror", None) or str(exc)).split())[:200]
        raise UnavailableError(
            f"{name}: cannot be written: {what}; the last whole checkpoint is kept", hint="make room, then run the same command again"
        ) from exc


def _step(name: str) -> int:
    return int(name.rpartition("-")[2])
