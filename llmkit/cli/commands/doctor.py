"""`llmkit doctor`: show what works on this machine, and how to fix what does not.

llmkit doctor
llmkit doctor --speed
llmkit doctor --quick --json
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli import console
from llmkit.cli import options as opt
from llmkit.cli.command import add
from llmkit.cli.doctor_lines import DoctorLine, known_speed, measured_speed
from llmkit.cli.help import Page
from llmkit.cli.parsing import RUN, option
from llmkit.errors import UsageError
from llmkit.models import builtin
from llmkit.models.cores import available_cores
from llmkit.version import __version__

app = typer.Typer(add_completion=False)

_NEEDED = (
    "torch",
    "ctranslate2",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "peft",
    "datasets",
    "evaluate",
    "sacrebleu",
    "langcodes",
    "sentencex",
    "py3langid",
)
#: Optional packages: what they give, and the extra that brings them.
_OPTIONAL = {
    "llguidance": ("--json-schema and --regex", "constrained"),
    "jiwer": ("the metric wer", "metrics"),
    "rouge_score": ("the metric rouge", "metrics"),
    "matplotlib": ("plots", "plot"),
    "bitsandbytes": ("--quantize", "quantize"),
    "ray": ("--workers", "ray"),
    "gguf": ("models in GGUF", "gguf"),
    "babel": ("headers of .po", "documents"),
    "lxml": ("translating .docx", "documents"),
}


_PAGE = Page(("llmkit doctor --speed", "llmkit doctor --quick --json"), guide="models")


@add(app, "doctor", help="Show what works on this machine, and how to fix what does not.", page=_PAGE)
def doctor(
    *,
    quick: Annotated[bool, option("--quick", help="Skip the checks that need torch: devices and precisions.", panel=RUN)] = False,
    speed: Annotated[bool, option("--speed", help="Measure the speed of memory and of matrix products, and save it.", panel=RUN)] = False,
    display: opt.JsonDebug,
) -> int:
    """Prints what works here as a table or JSON; exits with 5 when something needed is missing."""
    if quick and speed:
        raise UsageError("`quick` skips what `speed` measures", hint="use only one of them")
    findings = list(_basics())
    if not quick:
        findings += _devices()
    findings += measured_speed() if speed else known_speed()
    if display.json_output:
        console.write(json.dumps({"ok": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]}) + "\n")
    else:
        for finding in findings:
            console.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name + ':':<24}{finding.value}\n")
            if finding.fix:
                console.write(f"      {'':<24}{finding.fix}\n")
    return 0 if all(f.ok for f in findings) else 5


def _basics() -> Iterator[DoctorLine]:
    yield DoctorLine("llmkit", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _NEEDED:
        try:
            yield DoctorLine(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield DoctorLine(name, False, "not installed", f"pip install {name}")
    for name, (purpose, extra) in _OPTIONAL.items():
        try:
            yield DoctorLine(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield DoctorLine(name, True, f"not installed; needed for {purpose}", f"pip install 'llmkit[{extra}]'")
    for name in builtin.names():
        yield _builtin(name)
    yield _cache()
    yield DoctorLine("cores", True, f"{available_cores()} of {os.cpu_count()} usable by this process")
    from llmkit.models.memory import free_bytes

    yield DoctorLine("memory", True, f"{free_bytes() / 2**30:.1f} GiB free for a new run")


def _builtin(name: str) -> DoctorLine:
    from llmkit.errors import LlmkitError
    from llmkit.models.reference import resolve

    try:
        _, checkpoint = resolve(f"builtin:{name}")
        builtin.converted(name)
    except LlmkitError as exc:
        return DoctorLine(f"builtin:{name}", False, exc.message, exc.hint)
    return DoctorLine(f"builtin:{name}", True, f"{checkpoint.parameters:,} parameters")


def _cache() -> DoctorLine:
    from llmkit.errors import UnavailableError
    from llmkit.models.libraries import check_hub
    from llmkit.models.reference import hub_offline

    try:
        check_hub()
    except UnavailableError as exc:
        return DoctorLine("hub cache", False, exc.message, exc.hint)
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    mode = "offline (HF_HUB_OFFLINE)" if hub_offline() else "online"
    if not os.access(there, os.W_OK):
        return DoctorLine("hub cache", False, f"{folder} is not writable; {mode}", "set HF_HOME to a writable folder")
    return DoctorLine("hub cache", True, f"{folder}; {mode}")


def _devices() -> Iterator[DoctorLine]:
    from llmkit.engines.torch.devices import select, slow_precision
    from llmkit.errors import LlmkitError
    from llmkit.models.devices import DTYPES, Device

    try:
        import torch
    except ImportError as exc:
        yield DoctorLine("devices", False, f"torch can't be imported: {exc}", "install torch again")
        return
    for kind in ("cpu", "cuda", "mps", "xpu"):
        try:
            device = select(kind)
        except LlmkitError as exc:
            yield DoctorLine(kind, True, "none", exc.hint if kind == "cpu" else None)
            continue
        working = [dtype for dtype in DTYPES if _multiplies(device.name, getattr(torch, dtype))]
        precisions = [f"{dtype} (slow)" if slow_precision(Device(device.name, dtype, "")) else dtype for dtype in working]
        yield DoctorLine(kind, bool(working), f"{', '.join(precisions)}; auto uses {device.dtype}")


def _multiplies(device: str, dtype: object) -> bool:
    """Whether a small matrix product in this precision really runs."""
    import torch

    try:
        matrix = torch.ones(8, 8, device=device, dtype=dtype)
        return bool((matrix @ matrix).float().sum() == 512)
    except (RuntimeError, TypeError):
        return False
