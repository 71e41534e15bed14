"""`llmkit rerun`: repeat a recorded run and compare the results.

llmkit rerun answers.jsonl.run.json
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from llmkit import files
from llmkit.cli import options as opt
from llmkit.cli.command import add
from llmkit.cli.config import no_argument, record_options
from llmkit.cli.help import Page
from llmkit.cli.servers import ApiBase
from llmkit.errors import GateError, InputError, OutputError, counted, one_line

#: Commands whose records say how to make their output again.
_RECORDED = ("generate", "translate", "evaluate perplexity", "evaluate score", "evaluate choice", "finetune")

_HINT = "name the .run.json beside an output"
#: What a record must hold for its run to be repeated and compared.
_KEYS: dict[str, type | tuple[type, ...]] = {
    "options": dict,
    "identity": dict,
    "versions": dict,
    "result": dict,
    "result.output": str,
    "result.output_sha256": str,
    "result.rows": int,
}

app = typer.Typer(add_completion=False)


@add(
    app,
    "rerun",
    help="Repeat a recorded run and compare the results.",
    page=Page(("llmkit rerun answers.jsonl.run.json", "llmkit rerun adapters/mine/run.json"), guide="generate"),
)
def rerun(
    *,
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The .run.json beside an output, or run.json in an adapter's folder.")],
    output: opt.Output = None,
    trust: opt.Trust,
    api_base: ApiBase = None,
    display: opt.Quiet,
) -> int:
    """Runs the recorded command in a scratch folder and compares the results."""
    out = display.console
    content = _read(Path(record))
    consented = ("trust_remote_code",) if trust.trust_remote_code else ()
    options = record_options(content, record, consented) | dict.fromkeys(consented, True)
    if api_base:
        options["api_base"] = api_base
    result = content["result"]
    recorded = Path(result["output"])
    if output and Path(output).exists():
        raise OutputError(f"{output} exists", hint="name a file that is not there for the new result")
    with tempfile.TemporaryDirectory(prefix="llmkit-rerun-") as scratch:
        target = Path(output).absolute() if output else Path(scratch) / recorded.name
        with contextlib.chdir(_folder(Path(record), recorded, options)):
            code = _run(content["command"], options, target, quiet=display.quiet)
        if code not in (0, 3):
            return code
        beside = target / "run.json" if target.is_dir() else files.companion(target, "run.json")
        if not beside.exists():
            raise InputError("options: they ask for no result that can be compared", path=record, hint=_HINT)
        again = json.loads(beside.read_text(encoding="utf-8"))
    changed = _changes(content, again)
    for line in changed:
        out.warn(line)
    if again["result"]["output_sha256"] == result["output_sha256"]:
        out.notice(f"same result: {counted(again['result']['rows'], 'row')}, SHA-256 {result['output_sha256'][:16]}")
        return code
    raise GateError(
        f"different result: SHA-256 {again['result']['output_sha256'][:16]}, recorded {result['output_sha256'][:16]}",
        hint="the lines above say what has changed"
        if changed
        else "other library builds or processors round differently; --output keeps the new result",
    )


def _read(path: Path) -> dict[str, Any]:
    """The record. Raises InputError naming the key that is missing or damaged, before anything runs."""
    try:
        content = json.loads(files.read_at_most(path).decode("utf-8-sig"))  # some editors write a mark first
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path, hint=_HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not a run record: {type(exc).__name__}: {one_line(exc)}", path=path, hint=_HINT) from exc
    if not isinstance(content, dict) or content.get("command") not in _RECORDED:
        raise InputError("is not a run record of a command that can be run again", path=path, hint=_HINT)
    for keys, kind in _KEYS.items():
        value: Any = content
        for key in keys.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{keys}: missing or damaged", path=path, hint=_HINT)
    if not _is_name(content["result"]["output"]):
        raise InputError(f"result.output: '{one_line(content['result']['output'], 60)}' is not the name of a file", path=path)
    for name, value in content["options"].items():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, (str, int, float)) or no_argument(item):
                raise InputError(f"options.{name}: neither text nor a number", path=path)
    return content


def _is_name(output: str) -> bool:
    """Whether a path ends in a name that a file can have: it becomes that of the new result, in a folder of llmkit's own."""
    name = Path(output).name
    return name.strip() not in ("", ".", "..") and no_argument(output) is None and len(os.fsencode(name)) <= files.MAX_NAME


def _folder(record: Path, output: Path, options: dict[str, Any]) -> Path:
    """The folder that the recorded run was started in, as far as it shows: its names begin there.

    The record lies beside the output, or in it where that is a folder. When what the run read is not there, it is this folder.
    """
    place = record.resolve().parent
    parts = output.parts if record.name == "run.json" else output.parent.parts
    above = place
    for part in reversed(parts):
        if output.is_absolute() or part == ".." or above.name != part:
            return Path.cwd()
        above = above.parent
    read = [options[name] for name in ("input", "train", "predictions") if isinstance(options.get(name), str)]
    return above if any((above / name).exists() for name in read) else Path.cwd()


def _run(command: str, options: dict[str, Any], target: Path, *, quiet: bool) -> int:
    from llmkit.cli.app import run

    arguments = command.split()
    for name, value in {**options, "output": str(target), "quiet": quiet}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value is not False:
            arguments += [f"{flag}={item}" for item in (value if isinstance(value, list) else [value])]
    return run(arguments)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    from llmkit.records import differences

    out = differences(before["identity"], now["identity"]) + differences(before["versions"], now["versions"])
    if before["result"].get("input_sha256") != now["result"].get("input_sha256"):
        out.append(f"the input {now['result']['input']} has changed")
    return out
