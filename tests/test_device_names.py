"""Unknown devices, precisions and quantizations are refused before torch is imported; short names of precisions are known."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from llmkit.errors import UsageError
from llmkit.models.devices import check_device, check_dtype, check_quantize
from llmkit.models.settings import ModelSettings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "gpu", "'gpu' is not one of auto, cpu"),
        ("--dtype", "float8", "'float8' is not one of auto, float32"),
        ("--quantize", "4bit", "'4bit' is not one of none, int8"),
    ],
)
def test_an_unknown_name_is_a_usage_error_without_torch(option: str, value: str, message: str) -> None:
    code = (
        "import json, sys; from llmkit.cli.app import run; code = run(sys.argv[1:]);"
        "print(json.dumps([code, [m for m in ('torch', 'transformers', 'datasets', 'peft') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "generate", "x", option, value], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [2, []]
    assert message in done.stderr


@pytest.mark.parametrize(("short", "full"), [("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32"), ("auto", "auto")])
def test_a_short_name_of_a_precision_is_its_full_name(short: str, full: str) -> None:
    assert check_dtype(short) == full
    assert ModelSettings("builtin:stories", dtype=short) == ModelSettings("builtin:stories", dtype=full)


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:x", "cpu:0", "mps:1", "gpu", "", "CUDA", "cuda:²"])
def test_a_device_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        check_device(name)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:0"])
def test_a_device_is_known_by_name_whether_or_not_it_is_here(name: str) -> None:
    assert check_device(name) == name


def test_quantizations_are_known_by_name() -> None:
    assert [check_quantize(name) for name in ("none", "int8", "int4")] == ["none", "int8", "int4"]
