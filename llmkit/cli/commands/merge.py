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
from llmkit.cli.command import add
from llmkit.cli.parsing import MODEL, RUN, choice_option, option
from llmkit.cli.parsing import device as device_name
from llmkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import LoadedModel
    from llmkit.training.merge import Comparison

app = typer.Typer(add_completion=False)


@add(app, "merge", help="An adapter and its base as one model folder. Compares the answers of both and prints the differences.")
def merge(
    *,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter: a folder or a hub id.")],
    output: opt.Output = None,
    overwrite: opt.Overwrite = False,
    model: Annotated[
        str | None, option("--model", "-m", help="Its base. [default: the one it names]", panel=MODEL, metavar="REF")
    ] = None,
    device: Annotated[str, option("--device", help="auto, cpu, cuda[:N], mps or xpu[:N].", panel=MODEL, parser=device_name)] = "cpu",
    dtype: Annotated[
        str,
        choice_option(
            "--dtype", help="Precision of the result; the sum is made in float32.", panel=MODEL, values=opt.DTYPES[1:],
            aliases=opt.DTYPE_ALIASES,
        ),
    ] = "float32",
    prompt: Annotated[
        list[str] | None, option("--prompt", help="Compare the two on this text (repeatable).", panel=RUN, metavar="TEXT")
    ] = None,
    access: opt.Access,
    display: opt.JsonQuiet,
) -> int:  # fmt: skip
    out = display.console
    if output is None:
        raise UsageError("no output folder given", hint="name a folder with --output DIR")
    from llmkit.training.merge import PROMPTS, Target
    from llmkit.training.merge import merge as merged_of

    target = Target(output, overwrite=overwrite)
    try:
        loaded = _load(adapter, model, device, access.offline, access.trust_remote_code, out)
        merged, found = merged_of(loaded, dtype, tuple(prompt or PROMPTS))
        merged.save_pretrained(target.part)
        loaded.tokenizer.save_pretrained(target.part)
        record = _record(loaded, dtype, found)
        (target.part / "merge.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        target.commit()
    finally:
        target.release()
    _tell(found, record, as_json=display.json_output, out=out)
    out.notice(f"{output}: {record['base']} with {adapter}, {dtype}")
    return 0


def _load(adapter: str, base: str | None, device: str, offline: bool, trusted: bool, out: console.Console) -> LoadedModel:
    """Base and adapter in float32. Raises ModelError for a base that is quantized."""
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
            f"{base} is quantized, and an adapter merged into rounded weights is not the adapter that was trained",
            hint="name the unquantized base with --model REF",
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
