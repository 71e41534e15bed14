"""Every architecture that peft trains: five steps on a tiny model, the adapter in plain peft, and the table in docs/."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "architectures.py"
#: Always run: kinds that differ in what an adapter can go on. The others are slow only together.
ALWAYS = ("Falcon", "Mamba", "FalconMamba", "Qwen2Moe", "GraniteMoe", "GptOss", "M2M100")


def script() -> Any:
    import sys

    spec = importlib.util.spec_from_file_location("architectures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["architectures"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architectures = script()
NAMES = [*architectures.CAUSAL, *architectures.SEQUENCE_TO_SEQUENCE]


def scores(model: Any, causal: bool) -> Any:
    import torch

    ids = torch.tensor([[10, 20, 30, 40]])
    more = {} if causal else {"decoder_input_ids": ids}
    with torch.no_grad():
        return model.eval()(input_ids=ids, **more).logits


@pytest.mark.parametrize("name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_an_architecture_is_trained_and_its_adapter_is_that_of_plain_peft(name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from llmkit.engines.torch.loading import load
    from llmkit.models.settings import ModelSettings

    causal = name in architectures.CAUSAL
    done = architectures.trained(name, tmp_path)
    assert len(done.losses) == architectures.STEPS
    assert done.losses[-1] < done.losses[0]  # each step sees all rows
    auto: Any = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
    base = auto.from_pretrained(done.model)
    before = scores(base, causal)
    plain: Any = PeftModel.from_pretrained(base, done.adapter)
    assert all(bool(p.any()) for n, p in plain.named_parameters() if ".lora_B." in n and not unused(name, n))
    after = scores(plain, causal)
    assert float((after - before).abs().max()) > 1e-3
    own = load(ModelSettings(str(done.model), adapter=str(done.adapter), device="cpu", dtype="float32")).model
    assert float((scores(own, causal) - after).abs().max()) < 1e-5
    assert done.line in architectures.TABLE.read_text(encoding="utf-8").splitlines()


def unused(name: str, parameter: str) -> bool:
    """Adapters that a training as short may leave at 0: of experts to which no token was sent."""
    return name == "Jamba" and "experts" in parameter


def test_the_table_has_every_architecture() -> None:
    listed = [line.split(" | ")[0].removeprefix("| ") for line in architectures.TABLE.read_text(encoding="utf-8").splitlines()]
    assert [name for name in listed if name in NAMES] == NAMES
    assert len(NAMES) >= 25
