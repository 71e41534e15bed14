"""Which device and precision to run on, and with how many threads.

Knows hardware; not models. Only `select` imports torch.
"""

from __future__ import annotations

import functools
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
_KINDS = ("cpu", "cuda", "mps", "xpu")
#: A precision that takes this many times as long as float32 is one that the processor has no instructions for.
_EMULATED = 4.0


@dataclass(frozen=True)
class Device:
    """Where a model runs. `name` is torch's ('cuda:0'); `reason` says how dtype and device were chosen."""

    name: str
    dtype: str
    reason: str

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def torch_dtype(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def warning(self) -> str | None:
        """What to say before work starts in a precision that this processor only emulates; None for one it has."""
        if self.kind != "cpu" or self.dtype == "float32" or (times := cpu_slowdown(self.dtype)) < _EMULATED:
            return None
        return f"this processor has no {self.dtype} instructions: matrix products take {times:.0f} times as long as in float32"


def select(device: str = "auto", dtype: str = "auto") -> Device:
    """The device for 'auto', 'cpu', 'cuda[:N]', 'mps' or 'xpu', and the precision it does well.

    auto precision: bfloat16 on CUDA devices of compute capability 8.0 and above, ROCm and XPU; float16 on older CUDA
    devices; float32 on MPS and CPU. Raises UsageError for an unknown name, UnavailableError for what is not here.
    """
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("auto", *_KINDS) or (index and (kind not in ("cuda", "xpu") or not index.isdigit())):
        raise UsageError(f"unknown device '{device}'", hint="auto, cpu, cuda, cuda:N, mps or xpu")
    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"unknown dtype '{dtype}'", hint=f"auto, {', '.join(DTYPES)}")
    if kind == "auto":
        kind = next((k for k in ("cuda", "xpu", "mps") if _count(k)), "cpu")
    if not _count(kind):
        raise UnavailableError(
            f"--device {device}: this machine has no {kind} device that torch {torch.__version__} can use", hint=f"there is: {_there()}"
        )
    if int(index or 0) >= _count(kind):
        raise UnavailableError(f"--device {device}: there are {_count(kind)} {kind} devices, counted from 0", hint=f"there is: {_there()}")
    name = f"{kind}:{index or 0}" if kind in ("cuda", "xpu") else kind
    chosen, reason = _auto_dtype(name) if dtype == "auto" else (dtype, "as asked")
    if kind == "cuda" and chosen == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UnavailableError(f"{name} has no bfloat16", hint="--dtype float16 or float32")
    return Device(name, chosen, reason)


@functools.cache
def cpu_slowdown(dtype: str) -> float:
    """How many times as long a matrix product takes on this CPU in `dtype` as in float32: measured, in milliseconds.

    Measured rather than looked up: what counts is what torch and oneDNN do on this processor, emulators and limits included.
    """
    import torch

    def seconds(kind: torch.dtype) -> float:
        matrix = torch.ones(128, 128, dtype=kind)
        times = []
        for _ in range(4):  # the first one chooses a kernel
            start = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(getattr(torch, dtype)) / seconds(torch.float32)


def training_dtype(device: str) -> torch.dtype:
    """The precision for mixed-precision training on `device`: bfloat16 where it is no slower than float32, else float32."""
    import torch

    return torch.float32 if device == "cpu" and cpu_slowdown("bfloat16") >= _EMULATED else torch.bfloat16


def available_cores() -> int:
    """Cores this process may really use: its affinity mask and its cgroup's CPU quota, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs' worth of time a period, from cgroup v2 (cpu.max) or v1 (cpu.cfs_*_us)."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _count(kind: str) -> int:
    import torch

    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if hasattr(torch, "xpu") and torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def _there() -> str:
    return ", ".join(f"{kind} ({_count(kind)})" if kind in ("cuda", "xpu") else kind for kind in _KINDS if _count(kind))


def _auto_dtype(name: str) -> tuple[str, str]:
    import torch

    if name.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(name)
        if torch.version.hip or major >= 8:
            return "bfloat16", f"auto: {'ROCm' if torch.version.hip else f'compute capability {major}.{minor}'} has bfloat16"
        return "float16", f"auto: compute capability {major}.{minor} has no bfloat16"
    if name.startswith("xpu"):
        return "bfloat16", "auto: XPU has bfloat16"
    return "float32", "auto: exact, and fast enough for small models"
