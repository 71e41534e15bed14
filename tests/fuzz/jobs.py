"""Journals, outputs and records of a job: the output is the one that an undisturbed run gives, or the run is refused."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from random import Random

from fuzz.bases import GENERATE
from fuzz.case import Case, same
from fuzz.damage import edit_file, edited, harmed, replace

_KEYS = (
    "llmkit",
    "command",
    "options",
    "identity",
    "versions",
    "result",
    "output",
    "output_sha256",
    "rows",
    "failed_rows",
    "failed",
    "input",
    "seconds",
)
#: Options of a record that would run code, or write elsewhere.
_OPTIONS = (
    "trust_remote_code",
    "run_code",
    "metrics",
    "output",
    "report",
    "plot",
    "overwrite",
    "model",
    "adapter",
    "config",
    "stop",
    "seed",
    "limit",
    "input",
)
_LINES = ("window", "rows", "seconds", "journal", "identity")


def case(chance: Random, folder: Path, bases: Path) -> Case:
    whole = bases / "job"
    shutil.copy(whole / "in.jsonl", folder)
    rechained = False
    command: tuple[str, ...]
    may: tuple[str, ...] = ("out.jsonl", ".out.jsonl", "again.jsonl", ".again.jsonl")
    names: tuple[str, ...]
    model = ("-m", str(bases / "llama"))
    names = ("out.jsonl", "in.jsonl", "--", "the chat template")
    if chance.random() < 0.5:
        shutil.copy(whole / "stopped.journal", folder / "out.jsonl.journal")
        rechained = _damage_journal(chance, folder / "out.jsonl.journal")
        command = chance.choice(((*GENERATE, *model), (*GENERATE, *model), (*GENERATE, *model, "--restart")))
    else:
        for name in ("out.jsonl", "out.jsonl.run.json"):
            shutil.copy(whole / name, folder)
        path = folder / chance.choice(("out.jsonl", "out.jsonl.run.json", "out.jsonl.run.json", "out.jsonl.run.json"))
        _damage_finished(chance, path)
        command = chance.choice(
            (
                (*GENERATE, *model),
                (*GENERATE, *model, "--retry-failed"),
                (*GENERATE, *model, "--overwrite"),
                ("rerun", "out.jsonl.run.json", "-q"),
                ("generate", *model, "--config", "out.jsonl.run.json", "-o", "again.jsonl", "-q"),
            )
        )

    def check(code: int) -> str | None:
        if code not in (0, 3) or command[0] != "generate" or "again.jsonl" in command or rechained:
            return None
        return None if same(folder / "out.jsonl", whole / "out.jsonl") else "another output than that of a run without a break"

    if command[0] == "rerun":
        may, names = (), (*names, "error")  # also what the run inside says
    codes = frozenset((0, 2, 3, 4, 5))
    return Case(command, names, (*may, "nowhere", ".nowhere"), codes=codes, check=check)  # where a link in the place of the output leads


def _damage_finished(chance: Random, path: Path) -> None:
    if path.suffix == ".json" and chance.random() < 0.8:
        content = json.loads(path.read_text())
        if chance.random() < 0.5:
            content["options"] = edited(chance, content["options"], keys=_OPTIONS)
        path.write_text(json.dumps(content))
        edit_file(chance, path, keys=_KEYS)
    elif chance.random() < 0.7:
        path.write_bytes(harmed(chance, path.read_bytes()))
    else:
        replace(chance, path)


def _damage_journal(chance: Random, path: Path) -> bool:
    """Damages a journal; whether its checksums were made anew, so that nothing can tell it from one that llmkit wrote."""
    lines = path.read_bytes().splitlines(keepends=True)
    kind = chance.randrange(6)
    if kind < 2:
        path.write_bytes(harmed(chance, path.read_bytes()))
    elif kind == 2:
        replace(chance, path)
    elif kind == 3:
        chance.shuffle(lines)
        path.write_bytes(b"".join(lines))
    else:
        entries = [json.loads(line[9:]) for line in lines]
        number = chance.randrange(len(entries))
        entries[number] = edited(chance, entries[number], keys=_LINES)
        path.write_bytes(_chained(entries))
        return True
    return False


def _chained(entries: list[object]) -> bytes:
    out, crc = [], 0
    for entry in entries:
        content = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        crc = zlib.crc32(content, crc)
        out.append(b"%08x %s\n" % (crc, content))
    return b"".join(out)
