"""What torch can use here: the device and the precision that it does well, its free memory, and its way of running out of it.

Only its functions import torch.
"""

from __future__ import annotations

import functools
import math
import re
import time
from typing import TYPE_CHECKING

from llmkit.errors import UnavailableError
from llmkit.models import memory
from llmkit.models.devices import KINDS, Device, check_device, check_dtype

if TYPE_CHECKING:
    import torch

#: A precision that takes this many times as long as float32 is one that the processor has no instructions for.
_EMULATED = 4.0
#: Seconds: a clock at least this fine can time one small matrix product.
_FINE_CLOCK = 1e-6
#: How memory that has run out is told, in small letters. oneDNN says at its descriptor whether it has a kernel; when making that kernel
#: then fails, it got no memory for it.
_NO_MEMORY = re.compile(r"allocate memory|out of memory|alloc_failed|could not create a primitive(?! descriptor)")


def select(device: str = "auto", dtype: str = "auto") -> Device:
    """The device for 'auto', 'cpu', 'cuda[:N]', 'mps' or 'xpu', and the precision it does well.

    auto precision: bfloat16 on CUDA devices of compute capability 8.0 and above, ROCm and XPU; float16 on older CUDA
    devices; float32 on MPS and CPU. Raises UsageError for an unknown name, UnavailableError for what is not here.
    """
    import torch

    kind, _, index = check_device(device).partition(":")
    dtype = check_dtype(dtype)
    if kind == "auto":
        kind = next((k for k in ("cuda", "xpu", "mps") if _count(k)), "cpu")
    if not _count(kind):
        raise UnavailableError(
            f"`device` {device}: this machine has no {kind} device that torch {torch.__version__} can use", hint=f"available: {_there()}"
        )
    if int(index or 0) >= _count(kind):
        raise UnavailableError(
            f"`device` {device}: there are {_count(kind)} {kind} devices, numbered from 0", hint=f"available: {_there()}"
        )
    name = f"{kind}:{index or 0}" if kind in ("cuda", "xpu") else kind
    chosen, reason = _auto_dtype(name) if dtype == "auto" else (dtype, "as asked")
    if kind == "cuda" and chosen == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UnavailableError(f"{name} has no bfloat16", hint="`dtype` float16 or float32")
    return Device(name, chosen, reason)


@functools.cache
def cpu_slowdown(dtype: str) -> float:
    """How many times as long a matrix product takes on this CPU in `dtype` as in float32: measured, in milliseconds.

    Measured rather than looked up: what counts is what torch and oneDNN do on this processor, emulators and limits included.
    """
    import torch

    # the time of this thread alone, so that other processes on the same cores do not count
    fine = time.get_clock_info("thread_time").resolution < _FINE_CLOCK
    clock = time.thread_time if fine else time.perf_counter
    matrices = [torch.ones(128, 128, dtype=kind) for kind in (torch.float32, getattr(torch, dtype))]
    best = [math.inf, math.inf]
    for _ in range(6):  # the first one chooses a kernel
        for i, matrix in enumerate(matrices):
            start = clock()
            matrix @ matrix
            best[i] = min(best[i], clock() - start)
    return best[1] / max(best[0], _FINE_CLOCK)


def training_dtype(device: str) -> torch.dtype:
    """The precision for mixed-precision training on `device`: bfloat16 where it is no slower than float32, else float32."""
    import torch

    return torch.float32 if device == "cpu" and cpu_slowdown("bfloat16") >= _EMULATED else torch.bfloat16


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
    return ", ".join(f"{kind} ({_count(kind)})" if kind in ("cuda", "xpu") else kind for kind in KINDS if _count(kind))


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


def torch_dtype(device: Device) -> torch.dtype:
    """The precision of `device` as torch's."""
    import torch

    dtype: torch.dtype = getattr(torch, device.dtype)
    return dtype


def slow_precision(device: Device) -> str | None:
    """What to say before work starts in a precision that this processor only emulates; None for one it has."""
    if device.kind != "cpu" or device.dtype == "float32" or (times := cpu_slowdown(device.dtype)) < _EMULATED:
        return None
    return f"this processor has no {device.dtype} instructions: matrix products take {times:.0f} times as long as in float32"


def free_bytes(device: str) -> int:
    """Memory that a new run on `device` may take: an accelerator's own, or the machine's."""
    if device.startswith(("cuda", "xpu")):
        import torch

        return int((torch.cuda if device.startswith("cuda") else torch.xpu).mem_get_info(device)[0])
    return memory.free_bytes()


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an exception says that memory has run out: torch has several ways, by device and allocator."""
    if isinstance(exc, MemoryError):
        return True
    import torch

    text = str(exc).lower()
    return isinstance(exc, torch.OutOfMemoryError) or (isinstance(exc, RuntimeError) and _NO_MEMORY.search(text) is not None)
