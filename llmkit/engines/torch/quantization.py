"""Weights in 8 or 4 bits, by bitsandbytes: LLM.int8() (Dettmers et al. 2022) and NF4 (QLoRA, Dettmers et al. 2023).

Knows what the library can do where; it imports nothing heavy before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from typing import Any

from llmkit.engines.torch.devices import torch_dtype
from llmkit.errors import ModelError, UnavailableError
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.devices import Device, check_quantize

_KINDS = ("cuda", "xpu", "cpu")


def check(quantize: str, device: Device, checkpoint: Checkpoint) -> None:
    """Raises UsageError for an unknown name, UnavailableError without support for it, ModelError for a model that is already quantized."""
    check_quantize(quantize)
    if "quantization_config" in checkpoint.config:
        raise ModelError(f"{checkpoint.folder}: the weights are already quantized", hint="run without `quantize`")
    if device.kind not in _KINDS:
        raise UnavailableError(f"`quantize` {quantize}: there is no kernel for {device.kind}", hint=f"`device` one of {', '.join(_KINDS)}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UnavailableError(f"`quantize` {quantize} needs bitsandbytes", hint="pip install 'llmkit[quantize]'")


def arguments(quantize: str, device: Device) -> dict[str, Any]:
    """The quantization argument of `from_pretrained`."""
    if quantize == "none":
        return {}
    from transformers import BitsAndBytesConfig

    if quantize == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype(device),
        )
    return {"quantization_config": config, "device_map": {"": device.name}}


def import_library() -> None:
    """Imports bitsandbytes where it is installed, as peft does with any model, without torch's compiler: a second less for each run.

    One function is compiled at import, of those for devices that have no kernel of their own; `check` allows none of them.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    name = "TORCHDYNAMO_DISABLE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        importlib.import_module("bitsandbytes")
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
