"""Which model a command runs, where and how exactly: checked where it is built, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from llmkit.errors import UsageError
from llmkit.models.devices import check_device, check_dtype, check_quantize

MOST_THREADS = 4096


@dataclass(frozen=True)
class ModelSettings:
    """A model by its reference, with the adapter on it. dtype: kept by its full name ('bf16' becomes 'bfloat16').

    threads: to compute with on a CPU, None for all cores that this process may use. Raises UsageError for a device, precision,
    quantization or number of threads that there is not.
    """

    reference: str
    adapter: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    trust_remote_code: bool = False
    quantize: str = "none"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        check_quantize(self.quantize)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(f"`threads` {self.threads}: it must be between 1 and {MOST_THREADS:,}")
        object.__setattr__(self, "dtype", check_dtype(self.dtype))
