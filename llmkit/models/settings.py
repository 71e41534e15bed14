"""Which model a command runs, where and how exactly: checked where it is built, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from llmkit.models.devices import check_device, check_dtype, check_quantize


@dataclass(frozen=True)
class ModelSettings:
    """A model by its reference, with the adapter on it. dtype: kept by its full name ('bf16' becomes 'bfloat16').

    Raises UsageError for a device, precision or quantization that is unknown.
    """

    reference: str
    adapter: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    trust_remote_code: bool = False
    quantize: str = "none"

    def __post_init__(self) -> None:
        check_device(self.device)
        check_quantize(self.quantize)
        object.__setattr__(self, "dtype", check_dtype(self.dtype))
