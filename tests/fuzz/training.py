"""Folders of training runs, stopped and finished: a result is the one that an undisturbed run gives, or the run is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from fuzz.bases import FINETUNE
from fuzz.case import Case
from fuzz.damage import copied, edit_file, harmed, plant, replace

_KEYS = (
    "identity",
    "checkpoints",
    "files",
    "replaces",
    "pending",
    "stale",
    "seconds",
    "before",
    "format",
    "result",
    "options",
    "step",
    "run",
)
_NAMES = ("checkpoint-1", "checkpoint-2", "checkpoint-9", "part", "final", "state.json", "metrics.jsonl")


def case(chance: Random, folder: Path, bases: Path) -> Case:
    whole = bases / "training"
    shutil.copy(whole / "rows.jsonl", folder)
    run = copied(whole / chance.choice(("stopped", "stopped", "finished")), folder / "run")
    (run / "notes.tex").write_text("all my work")
    for _ in range(chance.choice((1, 1, 2))):
        _damage(chance, run)
    more = chance.choice(((), (), (), ("--overwrite",), ("--restart",)))

    def check(code: int) -> str | None:
        if (run / "notes.tex").read_text() != "all my work":
            return "the user's notes were changed"
        weights = "adapter_model.safetensors"
        if code == 0 and (run / weights).read_bytes() != (whole / "finished" / weights).read_bytes():
            return "another adapter than that of a run without a break"
        return None

    return Case((*FINETUNE, "-m", str(bases / "gpt2"), *more), ("run",), ("run", ".run"), check=check)


def _damage(chance: Random, run: Path) -> None:
    files = sorted(p for p in run.rglob("*") if p.is_file() and not p.is_symlink() and p.name != "notes.tex")
    if not files:
        return
    kind = chance.randrange(8)
    path = chance.choice(files)
    if kind < 3:
        records = [p for p in files if p.name in ("state.json", "run.json", "trainer_state.json", "watch.json", "adapter_config.json")]
        if records:
            edit_file(chance, chance.choice(records), keys=_KEYS)
    elif kind == 3:
        path.write_bytes(harmed(chance, path.read_bytes()))
    elif kind == 4:
        path.write_bytes(chance.choice(files).read_bytes())
    elif kind == 5:
        plant(chance, chance.choice(sorted({p.parent for p in files})))
    elif kind == 6:
        replace(chance, path)
    else:
        _other_kind(chance, run)


def _other_kind(chance: Random, run: Path) -> None:
    """A file where a folder of the run goes, or a folder of another's where a checkpoint goes."""
    (run / "checkpoints").mkdir(exist_ok=True)
    path = run / "checkpoints" / chance.choice(_NAMES)
    if path.is_dir() and chance.random() < 0.5:
        shutil.rmtree(path)
    if not path.exists():
        path.write_text("x") if chance.random() < 0.5 else path.mkdir()
    elif path.is_file():
        replace(chance, path)
