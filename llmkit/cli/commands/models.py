"""`llmkit models`: list models, and show what one needs, from config and headers alone.

llmkit models
llmkit models show builtin:stories
llmkit models show gpt2 --json
llmkit models show tiny.Q4_K_M.gguf
llmkit models clear
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import Group, add
from llmkit.cli.help import Page, shows
from llmkit.engines.ctranslate2 import cache
from llmkit.errors import UsageError, counted
from llmkit.models import builtin
from llmkit.models.gguf.folder import SHELF
from llmkit.models.shelf import CacheEntry, remove

if TYPE_CHECKING:
    from llmkit.models.checkpoint import Checkpoint
    from llmkit.models.reference import GgufFile

app = typer.Typer(
    cls=Group, add_completion=False, help="List built-in and cached models, and show what a model needs.", invoke_without_command=True
)
#: Shelves of converted models, and how they are told from others.
_CONVERTED = {SHELF: "converted from GGUF", cache.SHELF: "converted for CTranslate2"}
_PAGE = Page(("llmkit models", "llmkit models show gpt2"), guide="models")
_CLEAR = Page(("llmkit models clear", "llmkit models clear models/mine"), guide="models")
_SHOW = Page(("llmkit models show builtin:stories", "llmkit models show gpt2 --json"), guide="models")


@app.callback()
@shows(_PAGE)
def models(ctx: typer.Context, json_output: opt.JsonFlag = False, debug: opt.DebugFlag = False) -> None:
    """Lists built-in and cached models when no subcommand is given."""
    if ctx.invoked_subcommand is None:
        _list(json_output)


@add(app, "list", help="List built-in and cached models, as 'llmkit models' does.", page=_PAGE)
def list_models(*, display: opt.JsonDebug) -> None:
    """Lists built-in and cached models."""
    _list(display.json_output)


def _list(json_output: bool) -> None:
    from llmkit.models.reference import cached_models

    rows = [(f"builtin:{name}", "", _folder_bytes(f"builtin:{name}")) for name in builtin.names()]
    rows += cached_models()
    made = [(_name(entry), entry.bytes, kind) for kind in _CONVERTED for entry in kind.listed() if entry.refused is None]
    if json_output:
        listed: list[dict[str, Any]] = [{"model": name, "revision": revision or None, "bytes": size} for name, revision, size in rows]
        listed += [{"model": name, "revision": None, "bytes": size, "converted": kind.kind} for name, size, kind in made]
        console.write(json.dumps(listed, ensure_ascii=False) + "\n")
        return
    lines = [(name, revision[:12], _size(size)) for name, revision, size in rows]
    lines += [(f"{name} ({_CONVERTED[kind]})", "", _size(size)) for name, size, kind in made]
    console.table(("model", "revision", "size"), lines, right=("size",))


@add(
    app, "clear", help="Remove the models that were converted, for CTranslate2 or from GGUF; they are made again when needed.", page=_CLEAR
)
def clear(
    *,
    reference: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="Remove only the forms of this model.", show_default=False)
    ] = None,
    display: opt.JsonQuiet,
) -> None:
    """Removes converted models, and nothing else that lies in their folders."""
    listed = [entry for kind in _CONVERTED for entry in kind.listed()]
    entries = [entry for entry in listed if reference is None or entry.manifest.get("reference") == reference]
    if reference is not None and not entries:
        raise UsageError(f"no model is converted under the name '{reference}'", hint="'llmkit models' lists those that are")
    models = sum(entry.refused is None for entry in entries)
    freed = sum(remove(entry) for entry in entries)
    if reference is None:
        freed += sum(kind.clear_unfinished() for kind in _CONVERTED)
    if display.json_output:
        console.write(json.dumps({"removed": models, "bytes": freed}) + "\n")
    else:
        display.console.notice(f"{counted(models, 'converted model')} removed, {_size(freed)} freed")


@add(app, "show", help="Show size, architecture, license, and whether it fits this machine. Loads no weights.", page=_SHOW)
def show(
    *,
    reference: Annotated[str, typer.Argument(metavar="REF", help="builtin:NAME, a folder or .gguf file, or org/name[@revision].")],
    dtype: opt.Dtype = "auto",
    access: opt.Access,
    display: opt.JsonDebug,
) -> None:
    """Prints what a reference is and needs, from headers and configuration alone."""
    about = _describe(reference, dtype, access.offline, access.trust_remote_code)
    if display.json_output:
        console.write(json.dumps(about, ensure_ascii=False) + "\n")
        return
    for name, value in about.items():
        if value is not None and name != "card":
            shown = _size(value) if name == "bytes" else format(value, ",") if type(value) is int else value
            console.write(f"{name.replace('_', ' ') + ':':<20}{shown}\n")
    if about["card"]:
        console.write_prose("\n" + about["card"] + "\n")


def _describe(reference: str, dtype: str, offline: bool, trusted: bool) -> dict[str, Any]:
    from llmkit.models import memory
    from llmkit.models.card import read_card
    from llmkit.models.reference import gguf_file, resolve

    if (file := gguf_file(reference, offline=offline)) is not None:
        return _describe_file(reference, file, dtype)
    location, checkpoint = resolve(reference, offline=offline, trust_remote_code=trusted)
    chosen = "float32" if dtype == "auto" else dtype
    plan = memory.estimate(checkpoint, dtype=chosen, tokens=2048, free=memory.free_bytes())
    config = checkpoint.config.get("text_config", checkpoint.config)
    front, core = read_card(location.folder)
    return {
        "model": reference,
        "folder": str(location.folder),
        "revision": location.revision,
        "architecture": _architecture(checkpoint),
        "kind": "sequence-to-sequence" if checkpoint.is_encoder_decoder else "causal",
        "license": front.get("license"),
        "parameters": checkpoint.parameters,
        "bytes": checkpoint.bytes,
        "weights_dtype": ", ".join(sorted({t.dtype for t in checkpoint.tensors.values()})),
        "vocabulary": config.get("vocab_size"),
        "context": config.get("max_position_embeddings") or config.get("n_positions"),
        "memory": f"on the CPU in {chosen}: {plan}" + ("" if plan.fits else "; does not fit"),
        "fits": plan.fits,
        "card": core,
    }


def _describe_file(reference: str, file: GgufFile, dtype: str) -> dict[str, Any]:
    """As `_describe`, of a GGUF file, which is not converted for it."""
    from llmkit.models import memory
    from llmkit.models.checkpoint import Checkpoint, Tensor
    from llmkit.models.gguf.header import read_header

    header = read_header(file.path)
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    sizes = {
        "hidden_size": header.own("embedding_length"),
        "num_hidden_layers": header.own("block_count"),
        "num_attention_heads": header.own("attention.head_count"),
        "num_key_value_heads": header.own("attention.head_count_kv"),
        "intermediate_size": header.own("feed_forward_length"),
        "vocab_size": len(tokens) if isinstance(tokens, list) else None,
    }
    dense = Checkpoint(file.path, sizes, {name: Tensor("F32", tensor.shape) for name, tensor in header.tensors.items()}, (file.path,))
    chosen = "float32" if dtype == "auto" else dtype
    plan = memory.estimate(dense, dtype=chosen, tokens=2048, free=memory.free_bytes())
    return {
        "model": reference,
        "folder": str(file.path),
        "revision": file.revision,
        "architecture": header.architecture,
        "kind": "sequence-to-sequence" if header.is_encoder_decoder else "causal",
        "license": header.text("general.license"),
        "parameters": header.parameters,
        "bytes": header.bytes,
        "weights_dtype": ", ".join(header.kinds),
        "vocabulary": sizes["vocab_size"],
        "context": header.own("context_length"),
        "memory": f"on the CPU in {chosen}: {plan}" + ("" if plan.fits else "; does not fit"),
        "fits": plan.fits,
        "card": header.text("general.name") or "",
    }


def _name(entry: CacheEntry) -> str:
    adapter = entry.manifest.get("adapter")
    return f"{entry.manifest.get('reference')}" + (f" + {adapter}" if adapter else "")


def _architecture(checkpoint: Checkpoint) -> str:
    named = checkpoint.config.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else checkpoint.model_type


def _folder_bytes(reference: str) -> int:
    folder = builtin.folder(reference.removeprefix("builtin:"))
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}"
