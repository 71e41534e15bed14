"""What a run was: its identity, which decides whether two runs may share an output, and its record, enough to run it again.

Knows names and values; not rows, models or options' meanings.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmkit.files import file_sha256, read_at_most
from llmkit.version import __version__

_LIBRARIES = ("torch", "ctranslate2", "transformers", "tokenizers", "peft", "safetensors", "numpy")

#: Bytes in which a record says that it is llmkit's.
_BEGIN = 100

#: Options that can't change an answer, each with the reason. Every other option is part of a run's identity.
CANNOT_CHANGE_AN_ANSWER: dict[str, str] = {
    "output": "where the answers go; their format follows from the name, and the name is the run's own",
    "input": "the hash of the rows says what was read",
    "model": "the hashes of weights and tokenizer say which",
    "adapter": "the hash of its weights says which",
    "draft_model": "its name and hash are part of the model's identity",
    "engine": "the engine that was chosen is part of the model's identity",
    "device": "the device that was chosen is part of the model's identity",
    "device_map": "the devices that hold the model are part of its identity",
    "dtype": "the precision that was chosen is part of the model's identity",
    "quantize": "what was chosen is part of the model's identity",
    "chat_template": "the hash of the template, or the endpoint of a server, is part of the model's identity",
    "offline": "where files come from, not what they are",
    "trust_remote_code": "whether a model loads, not what it answers",
    "api_base": "where the model runs; its name is part of the model's identity",
    "concurrency": "how many requests are in flight",
    "request_timeout": "how long an answer is waited for",
    "max_retries": "how often it is asked for again",
    "workers": "how many processes answer",
    "ray": "where they are",
    "cpus_per_worker": "what each of them has; the threads that are asked for count",
    "gpus_per_worker": "what each of them has; the device that was chosen is part of the model's identity",
    "max_tokens_total": "when a run pauses",
    "overwrite": "what happens to an earlier output",
    "restart": "what happens to an earlier journal",
    "retry_failed": "which rows run again",
    "max_errors": "when a run gives up",
    "max_time": "when a run pauses",
    "verify_batching": "answers again, and writes nothing of it",
    "config": "where options come from; the options themselves count",
    "json": "how the result is printed",
    "quiet": "what is printed",
    "verbose": "what is printed",
    "debug": "what is printed",
    "report": "what is made of the result",
    "fail_if": "what is made of the result",
    "baseline": "what is made of the result",
    "max_regression": "what is made of the result",
    "test": "what is made of the result",
    "languages": "lists, and answers nothing",
    "data.train": "the hash of the rows says what was read",
    "data.valid": "the hash of the rows says what was read",
    "data.max_errors": "when a run gives up",
    "data.chat_template": "the hash of the template is part of the model's identity",
    "checkpoint.keep": "how many of the newest checkpoints stay",
    "echo": "what is printed",
    "cache": "where answers are kept; the key of each holds all that could change it",
}


def identity(
    command: str, options: Mapping[str, Any], *, files: Collection[str] = (), model: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """What makes a run this run: every option but those on the list above, the model, and llmkit's version.

    It fails closed: an option is part of it unless someone takes it out. options: all of the command's, by their names with
    underscores, defaults included. files: names of options whose value is a file; its content counts, too. more: facts that
    only the command knows. Values that are unset (None, False, empty) are left out, so a new option with its default changes nothing.
    Raises OSError for such a file that can't be read.
    """
    out: dict[str, Any] = {"llmkit": __version__, "command": command}
    for name, value in options.items():
        if name in CANNOT_CHANGE_AN_ANSWER or _unset(value):
            continue
        out[name] = list(value) if isinstance(value, (list, tuple)) else value
        if name in files:
            digests = [file_sha256(Path(v)) for v in (value if isinstance(value, (list, tuple)) else [value]) if Path(str(v)).is_file()]
            out |= {f"{name}_sha256": digests[0] if len(digests) == 1 else digests} if digests else {}
    out |= {f"model.{name}": value for name, value in (model or {}).items() if not _unset(value)}
    return out | {name: value for name, value in more.items() if not _unset(value)}


def _unset(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (list, tuple, str, dict)) and not value)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two identities, a phrase a name: 'text_field was a, is b'."""
    out = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            out.append(f"{name} was {_short(old)}, is {_short(new)}")
    return out


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide an answer."""
    out = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def run_record(command: str, options: Mapping[str, Any], identity: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it is written.

    options: those that were given; identity: what a resume compares; result: counts and measurements.
    """
    return {
        "llmkit": __version__,
        "command": command,
        "options": dict(options),
        "identity": dict(identity),
        "versions": versions(),
        "platform": platform.platform(),
        "result": dict(result),
    }


def read_record(path: Path) -> dict[str, Any] | None:
    """The record at `path`: an object whose `identity`, `options` and `result` are objects; None when there is none that reads so."""
    try:
        content = json.loads(read_at_most(path)) if path.is_file() else None  # a pipe has no end
    except (OSError, ValueError, RecursionError):
        return None
    parts = ("identity", "options", "result")
    return content if isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in parts) else None


def is_record(path: Path) -> bool:
    """Whether what lies at `path` may be replaced by a record: one of llmkit, also a damaged one, or nothing."""
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not begin.strip() or b'"llmkit"' in begin
