"""The output folder of a training run: its lock, which run it holds, its checkpoints and their hashes.

    OUT/                        the adapter (or model), README.md, metrics.jsonl, loss.png, run.json, once finished
    OUT/checkpoints/state.json  which run this is, and the SHA-256 of every file of every complete checkpoint
    OUT/checkpoints/checkpoint-N/

What a run wrote is known by the names in state.json and run.json; nothing else is ever removed or replaced, and a result that
is there stays until its successor is complete. A checkpoint is exactly the files of its manifest: one with a file more, less
or changed is not read. Optimizer and random states are pickles, so this is also what keeps them safe.
Knows files; not models.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import JobChangedError, OutputError, TrainingError, UnavailableError, counted
from llmkit.files import file_sha256
from llmkit.records import differences
from llmkit.training.state import ELSEWHERE, Entry, RunState, paths, read_history, read_record, read_state

_NAME = re.compile(r"checkpoint-(\d+)")
#: Settings that only say how long a run is.
_LENGTH = ("optimization.epochs ", "optimization.max_steps ")


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint. history: what was logged up to its step."""

    step: int
    path: Path
    history: list[dict[str, Any]]


class RunFolder:
    """One output folder. `writes` is False in all processes of a run but one, which then neither lock nor write.

    Making one only looks. Raises OutputError for a place where no result can go, or whose state can't be read.
    """

    def __init__(self, name: str, *, writes: bool = True) -> None:
        self.name, self.writes = name, writes
        self.path = Path(os.path.realpath(name))
        self.record_path = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        #: Where the next checkpoint, and the result, are written before they are complete.
        self.staging, self.final = self.checkpoints / "part", self.checkpoints / "final"
        self._check()
        self.read()

    @property
    def metrics_path(self) -> Path:
        """metrics.jsonl, out of the way of an older one while that is not yet replaced."""
        return (self.checkpoints if self.state is not None and self.state.replaces else self.path) / "metrics.jsonl"

    @property
    def finished(self) -> bool:
        """Whether the result in the folder is that of its last run."""
        if self.record is None:
            return False
        return self.state is None or (not self.state.replaces and self.record["identity"] == self.state.identity)

    @contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Holds the folder inside the block, and looks at it again. Raises OutputError when another process holds it."""
        if not self.writes:
            yield self
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{self.name}: its folder can't be made: {exc.strerror}", hint="name another folder") from exc
        with files.locked(self.path, self.name):
            self.read()
            yield self

    @property
    def known(self) -> RunState:
        """The state of a run that has begun."""
        if self.state is None:
            raise RuntimeError("no run has begun in the folder")
        return self.state

    def read(self) -> None:
        """Reads state and record as they are on disk. Raises OutputError for what is not ours or is damaged."""
        self.state = read_state(self.checkpoints / "state.json")
        self.record = read_record(self.record_path)

    def check(self, identity: dict[str, Any], *, overwrite: bool = False, restart: bool = False) -> str:
        """What this run is to the folder: 'finished', 'resume', or 'fresh'. Changes nothing.

        Raises JobChangedError when the folder's run is another one, OutputError when the folder is not a run's.
        """
        identity = self._as_extended(identity)
        if self.record is not None and self.finished and not overwrite:
            if changes := differences(self.record["identity"], identity):
                longer = all(change.startswith(_LENGTH) for change in changes)
                hint = "`extend` makes it longer, `overwrite` replaces it" if longer else "`overwrite` replaces it"
                raise JobChangedError(f"{self.name} holds another run: {'; '.join(changes)}", hint=hint)
            self._check_result(self.record["result"]["files"])
            return "finished"
        if self.state is not None and self.state.earlier and not restart:
            raise JobChangedError(f"{self.name}: its run was started by an earlier version of llmkit", hint="`restart` starts over")
        if self.state is not None and not self.finished:
            changes = differences(self.state.identity, identity)
            goes_on = not changes and not restart and (not overwrite or bool(self.state.replaces))
            if changes and not (restart or overwrite):
                hint = "`restart` starts over, or run the first command again"
                raise JobChangedError(f"{self.name}: the unfinished run used other options: {'; '.join(changes)}", hint=hint)
            self._check_room()
            return "resume" if goes_on else "fresh"
        if self.record is None and not self._is_empty():
            raise OutputError(f"{self.name} is not empty and holds no run of llmkit finetune", hint="name another folder")
        self._check_room()
        return "fresh"

    def check_extendable(self) -> None:
        """Raises OutputError when no run here is finished or on the way to be longer."""
        if self.state is None or not (self.finished or self.state.identity.get("extended")):
            hint = "the same command without `extend` continues an unfinished run"
            raise OutputError(f"{self.name}: no finished run to extend", hint=hint)

    def check_extension(self, identity: dict[str, Any], steps: int) -> str:
        """What this run is to the folder if it is to make a finished one longer: 'extend', or 'resume' or 'finished' where it has begun.

        steps: of this run. Raises JobChangedError when more than its length differs, OutputError when there is no finished run or no
        checkpoint to go on from.
        """
        self.check_extendable()
        if self.record is None or not self.finished or self.state is None:
            return self.check(identity)
        changes = differences(self.record["identity"], self._as_extended(identity))
        if not changes:
            return self.check(identity)
        if others := [change for change in changes if not change.startswith(_LENGTH)]:
            raise JobChangedError(f"{self.name} holds another run: {'; '.join(others)}", hint="`adapter` starts a new run from its weights")
        self._check_result(self.record["result"]["files"])
        done, planned = self.record["result"]["steps"], self.record["result"]["planned_steps"]
        if done < planned:
            raise JobChangedError(
                f"{self.name}: its run was stopped early, at step {done}", hint="`adapter` starts a new run from its weights"
            )
        if steps <= done:
            trained = counted(done, "step")
            raise JobChangedError(
                f"{self.name} has been trained for {trained}, and this run has {steps}", hint="more `epochs` or `max_steps`"
            )
        if not any(entry.step == done for entry in self.state.checkpoints.values()):
            raise OutputError(f"{self.name}: its last checkpoint is missing", hint="`adapter` starts a new run from its weights")
        self._check_room()
        return "extend"

    def extend(self, identity: dict[str, Any]) -> None:
        """Makes the finished run one of another length, that goes on from its last checkpoint. Its result stays until then."""
        old = self.known
        last = max(entry.step for entry in old.checkpoints.values())
        longer = {**identity, "extended": [*old.identity.get("extended", []), last]}
        there = tuple(n for n in self._result_files() if (self.path / n).is_file())
        new = replace(old, identity=longer, files=tuple(n for n in old.files if n not in there), replaces=there)
        self.state = replace(new, checkpoints={name: replace(entry, run=new.digest) for name, entry in old.checkpoints.items()})
        if self.writes:
            self._write()

    def _as_extended(self, identity: dict[str, Any]) -> dict[str, Any]:
        """An identity with the steps at which the folder's run was made longer: these are the run's own, and no option."""
        known = self.state.identity if self.state is not None else self.record["identity"] if self.record is not None else {}
        return identity | ({"extended": known["extended"]} if known.get("extended") else {})

    def begin(self, identity: dict[str, Any]) -> None:
        """Takes the folder for a new run. An earlier run's checkpoints go; its result stays until this one's is complete."""
        old = self.state
        result = (*self._result_files(), *(old.replaces if old else ()))
        there = tuple(dict.fromkeys(n for n in result if (self.path / n).is_file()))
        loose = tuple(n for n in (old.files if old else ()) if n not in there)  # of a run that was not finished
        stale = () if old is None else (*old.stale, *paths(old.checkpoints), *paths(old.pending))
        self.state = RunState(identity, files=loose if there else ("metrics.jsonl", *loose), replaces=there, stale=stale)
        if self.writes:
            with unwritable(self.name):
                self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._write()
            self.clear()

    def clear(self) -> None:
        """Removes what an earlier run, or a process that died, left below checkpoints/. Raises OutputError for what is not llmkit's."""
        if not self.writes or self.state is None:
            return
        known = {name: entry for name, entry in self.state.pending.items() if name not in self.state.checkpoints}
        files.remove_files(self.checkpoints, (*self.state.stale, *paths(known)))
        for path in (self.staging, self.final):
            if path.exists():
                shutil.rmtree(path)
        self.keep(stale=(), pending={})
        for path in sorted(self.checkpoints.iterdir()):
            if _NAME.fullmatch(path.name) and path.name not in self.state.checkpoints:
                raise OutputError(f"{path}: not written by this run", hint=ELSEWHERE)

    @contextmanager
    def kept_is_told(self) -> Iterator[None]:
        """An error that ends the run inside the block says that the last checkpoint is kept, where there is one."""
        try:
            yield
        except (TrainingError, UnavailableError) as exc:
            if self.state is None or not self.state.checkpoints:
                raise
            raise type(exc)(f"{exc.message}; the last complete checkpoint is kept", hint=exc.hint) from exc

    def keep(self, **facts: Any) -> None:
        """Facts of the run that outlive the process: fields of `RunState`."""
        self.state = replace(self.known, **facts)
        if self.writes:
            self._write()

    def stage(self) -> None:
        """Clears away what a process that died left in the staging folder."""
        if self.writes and self.staging.exists():
            shutil.rmtree(self.staging)

    def commit(self, step: int, *, keep: int, best: int | None, seconds: float) -> None:
        """Gives the staged checkpoint its name, and drops all but the newest `keep` and the best."""
        name = f"checkpoint-{step}"
        staged = self.staging / name
        files.sync_tree(staged)
        written = {str(p.relative_to(staged)): p for p in sorted(staged.rglob("*")) if p.is_file()}
        sizes = {name: path.stat().st_size for name, path in written.items()}
        entry = Entry(step, self.known.digest, {name: file_sha256(path) for name, path in written.items()}, sizes)
        self.keep(pending={name: entry})
        os.replace(staged, self.checkpoints / name)
        self.staging.rmdir()
        files.sync_folder(self.checkpoints)
        complete = {**self.known.checkpoints, name: entry}
        newest = sorted((e.step for e in complete.values()), reverse=True)
        kept = {*newest[:keep], *([best] if best is not None else [])}
        dropped = {n: e for n, e in complete.items() if e.step not in kept}
        left = {n: e for n, e in complete.items() if n not in dropped}
        self.keep(checkpoints=left, pending={}, stale=tuple(paths(dropped)), seconds=seconds)
        files.remove_files(self.checkpoints, paths(dropped))

    def newest(self, warn: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint that is exactly what was written; None before the first.

        Raises OutputError when there are checkpoints and none is complete.
        """
        names = sorted(self.known.checkpoints, key=lambda n: self.known.checkpoints[n].step, reverse=True)
        for name in names:
            try:
                return self.saved(self.known.checkpoints[name].step)
            except OutputError as exc:
                warn(f"{self.name}: {name} is skipped: {exc.message}")
        if names:
            raise OutputError(f"{self.name}: none of its checkpoints is complete", hint="`restart` starts over")
        return None

    def saved(self, step: int) -> Saved:
        """The checkpoint of a step. Raises OutputError when it is not exactly what was written."""
        name = f"checkpoint-{step}"
        entry = self.known.checkpoints.get(name)
        if entry is None:
            raise OutputError(f"{name} is not known to this run")
        path = self.checkpoints / name
        if wrong := _damage(path, entry, self.known.digest):
            raise OutputError(wrong)
        return Saved(step, path, read_history(path, step))

    def publish(self) -> None:
        """The complete result in `final` gets its place file by file, the record last; what it replaces goes then.

        Raises OutputError for a file of the same name that is not this run's, UnavailableError for a full disk.
        """
        names = [str(p.relative_to(self.final)) for p in self.final.rglob("*") if p.is_file()]
        own = {*self.known.files, *self.known.replaces}
        for name in names:
            if name not in own and os.path.lexists(self.path / name):
                raise OutputError(f"{self.path / name}: not written by this run, so it is not replaced", hint=ELSEWHERE)
        with unwritable(self.name):
            files.sync_tree(self.final)
            self.keep(files=tuple(sorted({*self.known.files, *names})))
            # the weights last but for the record, whose presence says that all is there
            for name in sorted(names, key=lambda n: (n == "run.json", n.endswith(".safetensors"), n)):
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.final / name, self.path / name)
            files.sync_folder(self.path)
            files.remove_files(self.path, (name for name in own if name not in names))
            shutil.rmtree(self.final)
            if self.known.replaces:
                files.remove_files(self.checkpoints, ["metrics.jsonl"])
            self.keep(replaces=(), files=tuple(names))
        self.record = read_record(self.record_path)

    def _is_empty(self) -> bool:
        """Whether nothing is in the folder but what a run leaves that died before its state was written."""
        left = {self.checkpoints, files.part_of(self.checkpoints / "state.json")}
        return all(path in left for path in self.path.rglob("*"))

    def _result_files(self) -> list[str]:
        return list(self.record["result"]["files"]) if self.record is not None else []

    def _check_result(self, written: dict[str, str]) -> None:
        """Raises OutputError when a finished result is no longer what was written."""
        for name, sha256 in written.items():
            path = self.path / name
            if name.endswith((".safetensors", "adapter_config.json")) and (not path.is_file() or file_sha256(path) != sha256):
                what = "has changed since it was written" if path.is_file() else "is missing"
                raise OutputError(f"{path}: {what}", hint="`overwrite` trains it again")

    def _check(self) -> None:
        files.check_name(self.path, self.name)
        if not self.path.name:
            raise OutputError(f"{self.name}: not a folder for a result", hint="name a folder")
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.name} is a file; the result is a folder", hint="name a folder")
        place = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise OutputError(f"{self.name}: not writable", hint="name another folder")

    def _check_room(self) -> None:
        """Raises OutputError for something else at a name that the run needs: now, and not after a night of training."""
        for path in (self.checkpoints, self.staging, self.final, *self.checkpoints.glob("checkpoint-*")):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
                raise OutputError(f"{path}: something else is in the place of a folder of the run", hint=ELSEWHERE)
        for name in ("state.json", "metrics.jsonl"):
            files.check_own(self.checkpoints / name, "a file of the run")
        own = {*self._result_files(), *(("run.json",) if self.record is not None else ())}
        own |= {*self.state.files, *self.state.replaces} if self.state is not None else set()
        for name in ("run.json", "metrics.jsonl", "README.md", "loss.png", "adapter_config.json", "adapter_model.safetensors"):
            if not os.path.lexists(self.path / name):
                continue
            if name not in own or not stat.S_ISREG(os.lstat(self.path / name).st_mode):
                raise OutputError(f"{self.path / name}: something else is in the place of a file of the result", hint=ELSEWHERE)

    def _write(self) -> None:
        with unwritable(self.name):
            self.known.write(self.checkpoints / "state.json")


def _damage(folder: Path, entry: Entry, digest: str) -> str | None:
    """What is wrong with a checkpoint, None when it is exactly what was written."""
    if entry.run != digest:
        return "it belongs to another run"
    if missing := _required(entry.files):
        return f"{missing} is not in its manifest"
    for name, sha256 in entry.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return f"{name} is missing"
        # by its size first: the hash of a file that was made endless would be waited for
        if path.stat().st_size != entry.sizes.get(name, path.stat().st_size) or file_sha256(path) != sha256:
            return f"{name} has changed since it was written"
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            name = str(path.relative_to(folder))
            if name not in entry.files:
                return f"{name} was not written by the run"
        elif not any(n.startswith(f"{path.relative_to(folder)}{os.sep}") for n in entry.files):
            return f"{path.relative_to(folder)} was not written by the run"
    return None


def _required(names: dict[str, str]) -> str | None:
    """A file that a resume needs and the manifest lacks."""
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "watch.json"):
        if name not in names:
            return name
    if not any(re.fullmatch(r"rng_state(_\d+)?\.pth", name) for name in names):
        return "rng_state.pth"
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    model = {"config.json"} | ({"model.safetensors"} & names.keys() or {"model.safetensors.index.json"})
    wanted = adapter if adapter & names.keys() else model
    return next((name for name in sorted(wanted) if name not in names), None)


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
        raise UnavailableError(f"{name}: cannot be written: {what}", hint="make room, then run the same command again") from exc
