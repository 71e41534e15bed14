"""`llmkit merge`: an adapter and its base as one model folder, shown to answer alike.

llmkit merge adapters/mine -o models/mine
llmkit merge adapters/mine -m models/base -o models/mine --dtype bfloat16
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import LoadedModel
    from llmkit.training.merge import Comparison

app = typer.Typer(add_completion=False)


@app.command("merge", help="An adapter and its base as one model folder. Both are asked the same, and what differs is said.")
def merge(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter: a folder or a hub id.")],
    output: opt.AdapterFolder = None,
    model: Annotated[
        str | None, opt.option("--model", "-m", help="Its base. [default: the one it names]", panel=opt.MODEL, metavar="REF")
    ] = None,
    device: opt.Device = "cpu",
    dtype: Annotated[
        str, opt.option("--dtype", help="Of the result: float32, bfloat16 or float16. The sum is made in float32.", panel=opt.MODEL)
    ] = "float32",
    prompt: Annotated[
        list[str] | None, opt.option("--prompt", help="Compare the two on this text (repeatable).", panel=opt.RUN, metavar="TEXT")
    ] = None,
    offline: opt.Offline = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    overwrite: opt.Overwrite = False,
    json_output: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    out = console.Console(quiet)
    if output is None:
        raise UsageError("there is no place for the result", hint="name a folder with --output DIR")
    from llmkit.models.devices import DTYPES, check_dtype
    from llmkit.training.merge import PROMPTS, Target
    from llmkit.training.merge import merge as merged_of

    dtype = check_dtype(dtype)
    if dtype == "auto":
        raise UsageError(f"unknown dtype '{dtype}'", hint=", ".join(DTYPES))
    target = Target(output, overwrite=overwrite)
    try:
        loaded = _load(adapter, model, device, offline, trust_remote_code, out)
        merged, found = merged_of(loaded, dtype, tuple(prompt or PROMPTS))
        merged.save_pretrained(target.part)
        loaded.tokenizer.save_pretrained(target.part)
        record = _record(loaded, dtype, found)
        (target.part / "merge.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        target.commit()
    finally:
        target.release()
    _tell(found, record, as_json=json_output, out=out)
    out.notice(f"{output}: {record['base']} with {adapter}, {dtype}")
    return 0


def _load(adapter: str, base: str | None, device: str, offline: bool, trusted: bool, out: console.Console) -> LoadedModel:
    """Base and adapter in float32. Raises ModelError for a base that is quantised."""
    from llmkit.engines.torch.loading import load
    from llmkit.models.adapters import read_adapter_config
    from llmkit.models.reference import resolve
    from llmkit.models.settings import ModelSettings

    if base is None:
        named = read_adapter_config(adapter, offline=offline).get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise ModelError(f"{adapter}: names no base", hint="name it with --model REF")
        base = named
        out.notice(f"base: {base}, named by the adapter")
    _, checkpoint = resolve(base, offline=offline, trust_remote_code=trusted)
    if "quantization_config" in checkpoint.config:
        raise ModelError(
            f"{base} is quantised, and an adapter merged into rounded weights is not the adapter that was trained",
            hint="name the unquantised base with --model REF",
        )
    return load(ModelSettings(base, adapter, device, "float32", offline, trusted), out.detail)


def _record(loaded: LoadedModel, dtype: str, found: list[Comparison]) -> dict[str, Any]:
    from llmkit.records import versions

    return {
        "base": loaded.location.reference,
        "base_sha256": loaded.checkpoint.sha256,
        "adapter": loaded.adapter.reference if loaded.adapter else None,
        "adapter_sha256": loaded.adapter.sha256 if loaded.adapter else None,
        "dtype": dtype,
        "versions": versions(),
        "largest_difference": max(c.difference for c in found),
        "same_text": sum(c.same_text for c in found),
        "prompts": len(found),
        "comparisons": [
            {"prompt": c.prompt, "difference": c.difference, "adapter": c.before, "merged": c.after, "same_text": c.same_text}
            for c in found
        ],
    }


def _tell(found: list[Comparison], record: dict[str, Any], *, as_json: bool, out: console.Console) -> None:
    if as_json:
        console.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    for comparison in found:
        same = "same greedy text" if comparison.same_text else f"greedy text differs: '{comparison.before}' became '{comparison.after}'"
        out.notice(f"'{comparison.prompt[:40]}': scores differ by at most {comparison.difference:.2g}, {same}")
