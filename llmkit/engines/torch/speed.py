"""How fast a device reads memory and multiplies matrices: measured in about half a second for each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmkit.engines.torch.devices import free_bytes, is_out_of_memory, slow_precision
from llmkit.errors import OutOfMemoryError
from llmkit.models.devices import DTYPES, Device
from llmkit.models.speed import Speed

if TYPE_CHECKING:
    import torch

#: Bytes that are read: many times what a processor's caches hold.
_READ = 1 << 28
#: Rows of the matrices that are multiplied; the smaller ones are for a precision that is emulated.
_SIZE, _SMALL_SIZE = 1024, 128
_BIG_SIZE = 8192
#: Seconds for one measurement, and the least that one timing of it takes.
_SECONDS, _FINE = 0.4, 0.005


def measure(device: str) -> Speed:
    """The best of several timings, so that other work on the machine counts little. Raises OutOfMemoryError."""
    import torch

    if free_bytes(device) < 4 * _READ:
        raise OutOfMemoryError(f"measuring the speed of {device} takes {4 * _READ >> 20} MiB of memory", hint="close other programs first")
    try:
        with torch.inference_mode():
            bandwidth = _bandwidth(device)
            rates = {dtype: rate for dtype in DTYPES if (rate := _rate(device, dtype)) is not None}
    except (RuntimeError, MemoryError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemoryError(f"{device} ran out of memory while its speed was measured", hint="close other programs first") from exc
        raise
    return Speed(bandwidth, rates)


def _bandwidth(device: str) -> float:
    """Bytes read per second: by a matrix times a vector, as decoding reads weights, or by a sum, where that is faster."""
    import torch

    side = math.isqrt(_READ // 4)
    matrix, vector = torch.ones(side, side, device=device), torch.ones(side, device=device)
    return 4 * side * side / min(_seconds(lambda: torch.mv(matrix, vector)), _seconds(matrix.sum))


def _rate(device: str, dtype: str) -> float | None:
    """Floating-point operations per second of matrix products; None for a precision that the device does not have."""
    import torch

    from llmkit.engines.torch import products

    slow = slow_precision(Device(device, dtype, "")) is not None
    size = _SMALL_SIZE if slow else _SIZE if device == "cpu" else _BIG_SIZE
    try:
        a = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
        seconds = _seconds(lambda: torch.mm(a, a))
        if device == "cpu" and dtype == "float32" and products.is_available():
            # the engine multiplies so where it computes many tokens, which on some processors is twice as fast
            laid_out = products.laid_out(a)
            seconds = min(seconds, _seconds(lambda: products.product(a, laid_out)))
        return 2 * size**3 / seconds
    except (RuntimeError, TypeError) as exc:
        if is_out_of_memory(exc):
            raise
        return None


def _seconds(work: Callable[[], torch.Tensor]) -> float:
    """The best time of one call. A result is looked at, which waits for a device that works on its own."""

    def timed(times: int) -> float:
        begun = time.perf_counter()
        for _ in range(times):
            result = work()
        result.flatten()[0].item()
        return (time.perf_counter() - begun) / times

    end = time.perf_counter() + _SECONDS
    once = timed(1)  # the first call chooses a kernel
    best, times = timed(1), max(1, math.ceil(_FINE / max(once, 1e-9)))
    while time.perf_counter() < end:
        best = min(best, timed(times))
    return best
