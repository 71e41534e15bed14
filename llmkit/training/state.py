"""What is known of a run on disk: its state while it trains, its record afterwards. Read with every type checked.

Knows JSON files; not folders or models.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import OutputError, one_line

FORMAT = 2
#: What to do about a file that is not ours.
ELSEWHERE = "move it away, or name another folder"
#: Bytes of a file of the run: a history grows with its steps.
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Entry:
    """A complete checkpoint. run: `RunState.digest` of the run that wrote it; files: name → SHA-256; sizes: name → bytes."""

    step: int
    run: str
    files: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunState:
    """What is known of the run in a folder.

    files: names in OUT that this run wrote or is about to; replaces: names of the result that it will take the place of.
    pending: a checkpoint that may or may not have its name yet; stale: files below checkpoints/ that are to be removed.
    seconds: trained so far; before: the validation rows' figures before the first step.
    """

    identity: dict[str, Any]
    checkpoints: dict[str, Entry] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    pending: dict[str, Entry] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    seconds: float = 0.0
    before: list[list[float]] | None = None

    @property
    def earlier(self) -> bool:
        """Whether an earlier version of llmkit began the run. Only its files are known then, to be removed."""
        return not self.identity

    @property
    def digest(self) -> str:
        """A short name of the run: of all that must be the same for it to go on."""
        content = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:32]

    def write(self, path: Path) -> None:
        """Raises OSError."""
        files.write_whole(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def paths(checkpoints: dict[str, Entry]) -> list[str]:
    """The files of checkpoints, relative to the folder that holds them."""
    return [f"{name}/{file}" for name, entry in checkpoints.items() for file in entry.files]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of ours. Raises FileNotFoundError for nothing, OutputError for anything else."""
    files.check_own(path, "a file of the run")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise OutputError(f"{path}: too large to be a file of a run", hint=ELSEWHERE)
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise FileNotFoundError(path) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise OutputError(f"{path}: cannot be read: {one_line(exc, 100)}", hint=ELSEWHERE) from exc
    if not isinstance(content, dict):
        raise OutputError(f"{path}: not a JSON object", hint=ELSEWHERE)
    return content


def read_state(path: Path) -> RunState | None:
    """The state of the run in a folder, None when none began there. Raises OutputError for a damaged one."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    if (version := content.pop("format", None)) == 1:
        return _earlier(path, content)
    if version != FORMAT:
        raise OutputError(f"{path}: written by another version of llmkit", hint=ELSEWHERE)
    try:
        for name in ("checkpoints", "pending"):
            content[name] = {str(n): _entry(e) for n, e in content[name].items()}
        for name in ("files", "replaces", "stale"):
            content[name] = tuple(_text(n) for n in _list(content[name]))
        state = RunState(**content)
        before = state.before is None or all(isinstance(v, (int, float)) for row in _list(state.before) for v in _list(row))
        if not isinstance(state.identity, dict) or not isinstance(state.seconds, (int, float)) or not before:
            raise TypeError("a value of the wrong type")
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise OutputError(f"{path}: damaged: {one_line(exc, 100)}", hint=ELSEWHERE) from exc
    return state


def _earlier(path: Path, content: dict[str, Any]) -> RunState:
    """The state of a run in format 1: its manifest alone. Raises OutputError for a damaged one."""
    try:
        known = {_text(n): Entry(0, "", {_text(f): _text(h) for f, h in files.items()}) for n, files in content["checkpoints"].items()}
    except (TypeError, KeyError, AttributeError) as exc:
        raise OutputError(f"{path}: damaged: {one_line(exc, 100)}", hint=ELSEWHERE) from exc
    return RunState({}, known, files=("metrics.jsonl",))


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished run; None when there is none, or when it is not that of `llmkit finetune`.

    Its ["identity"] and ["result"]["files"] (name → SHA-256) are objects.
    """
    try:
        content = read_json(path)
    except (FileNotFoundError, OutputError):
        return None
    result = content.get("result")
    if content.get("command") != "finetune" or not isinstance(content.get("identity"), dict) or not isinstance(result, dict):
        return None
    written = result.get("files")
    if not isinstance(written, dict) or not all(isinstance(v, str) for v in written.values()):
        return None
    return content


def read_history(path: Path, step: int) -> list[dict[str, Any]]:
    """What was logged up to a checkpoint's step. Raises OutputError for the state of another step."""
    content = read_json(path / "trainer_state.json")
    history = content.get("log_history")
    if content.get("global_step") != step or not isinstance(history, list) or not all(isinstance(e, dict) for e in history):
        raise OutputError("trainer_state.json is not of its step")
    return history


def _entry(content: Any) -> Entry:
    step, run, names, sizes = content["step"], content["run"], content["files"], content.get("sizes", {})
    if not isinstance(step, int) or not isinstance(run, str) or not isinstance(names, dict) or not isinstance(sizes, dict):
        raise TypeError("a checkpoint's entry is incomplete")
    return Entry(step, run, {_text(name): _text(sha256) for name, sha256 in names.items()}, sizes)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list expected")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text expected")
    return value
