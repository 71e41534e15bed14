"""Names of devices, precisions and quantizations.

Knows names; not what a library can use here, which the engines know. Imports nothing heavy, so that an option is checked
before anything is loaded.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from llmkit.errors import UsageError

KINDS = ("cpu", "cuda", "mps", "xpu")
DTYPES = ("float32", "bfloat16", "float16")
#: Short names of precisions, as other tools have them.
DTYPE_ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
QUANTIZATIONS = ("none", "int8", "int4")
#: What Linux has for accelerators: of NVIDIA, of Windows, of AMD, and of any graphics, Intel's too.
_GRAPHICS = "/dev/dri"
_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", _GRAPHICS)


@dataclass(frozen=True)
class Device:
    """Where a model runs. `name` is torch's ('cuda:0'); `reason` says how dtype and device were chosen."""

    name: str
    dtype: str
    reason: str

    @property
    def kind(self) -> str:
        """The device's type: cpu, cuda, mps or xpu."""
        return self.name.partition(":")[0]


def check_device(name: str) -> str:
    """The name itself. Raises UsageError for one that is not 'auto', 'cpu', 'cuda[:N]', 'mps' or 'xpu[:N]'."""
    kind, colon, index = name.partition(":")
    numbered = kind in ("cuda", "xpu") and index.isascii() and index.isdigit()
    if kind not in ("auto", *KINDS) or (colon and not numbered):
        raise UsageError(f"unknown device '{name}'", hint="auto, cpu, cuda, cuda:N, mps, xpu or xpu:N")
    return name


def check_dtype(name: str) -> str:
    """The full name of a precision: 'bf16' gives 'bfloat16'. Raises UsageError for one that is unknown."""
    full = DTYPE_ALIASES.get(name, name)
    if full not in ("auto", *DTYPES):
        raise UsageError(f"unknown dtype '{name}'", hint=f"auto, {', '.join(DTYPES)}, or {', '.join(DTYPE_ALIASES)}")
    return full


def check_quantize(name: str) -> str:
    """The name itself. Raises UsageError for a quantization that is unknown."""
    if name not in QUANTIZATIONS:
        raise UsageError(f"unknown quantization '{name}'", hint=", ".join(QUANTIZATIONS))
    return name


def may_have_accelerator() -> bool:
    """Whether torch, which is not asked (its import takes seconds), might find more than a CPU here."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    there = [name for name in _DEVICES if os.path.exists(name)]
    if sys.platform != "win32" and not there:
        return False
    import importlib.metadata  # not at the top: it takes as long as the model's first words

    build = importlib.metadata.version("torch").partition("+")[2]
    if build == "cpu":
        return False
    if sys.platform == "win32":
        return build.startswith(("cu", "xpu"))
    return build.startswith("xpu") or there != [_GRAPHICS]
