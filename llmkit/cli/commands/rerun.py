"""`llmkit rerun`: a recorded run again, and whether the result is the same.

llmkit rerun answers.jsonl.run.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.errors import GateError, InputError

#: Commands whose records say how to make their output again.
_RECORDED = ("generate", "translate", "evaluate perplexity", "evaluate score", "evaluate choice", "finetune")

app = typer.Typer(add_completion=False)


@app.command("rerun", help="Run a recorded run again and say whether the result is the same.")
def rerun(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The .run.json beside an output, or run.json in an adapter's folder.")],
    output: Annotated[
        str | None, opt.option("--output", "-o", help="Keep the new result under this name.", panel=opt.INPUT, metavar="FILE")
    ] = None,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    out = console.Console(quiet)
    content = _read(Path(record))
    result = content["result"]
    recorded = Path(result["output"])
    with tempfile.TemporaryDirectory(prefix="llmkit-rerun-") as scratch:
        target = Path(output) if output else Path(scratch) / recorded.name
        code = _run(content, target)
        if code not in (0, 3):
            return code
        beside = target / "run.json" if target.is_dir() else Path(f"{target}.run.json")
        again = json.loads(beside.read_text(encoding="utf-8"))
    changed = _changes(content, again)
    for line in changed:
        out.warn(line)
    if again["result"]["output_sha256"] == result["output_sha256"]:
        out.notice(f"same result: {result['rows']:,} rows, SHA-256 {result['output_sha256'][:16]}")
        return code
    raise GateError(
        f"another result: SHA-256 {again['result']['output_sha256'][:16]}, recorded {result['output_sha256'][:16]}",
        hint="the lines above say what has changed"
        if changed
        else "other library builds or processors round differently; --output keeps the new result",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["command"] in _RECORDED and "output_sha256" in content["result"] and isinstance(content["options"], dict):
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(
            f"is not a run record: {type(exc).__name__}: {exc}", path=path, hint="name the .run.json beside an output"
        ) from exc
    raise InputError("is not a run record of a command that can be run again", path=path, hint="name the .run.json beside an output")


def _run(content: dict[str, Any], target: Path) -> int:
    from llmkit.cli.app import run

    arguments = content["command"].split()
    for name, value in {**content["options"], "output": str(target), "overwrite": True}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        else:
            arguments += [f"{flag}={item}" for item in (value if isinstance(value, list) else [value])]
    return run(arguments)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    from llmkit.records import differences

    out = differences(before["identity"], now["identity"]) + differences(before["versions"], now["versions"])
    if before["result"]["input_sha256"] != now["result"]["input_sha256"]:
        out.append(f"the input {now['result']['input']} has changed")
    return out
