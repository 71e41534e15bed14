"""An activation that transformers writes as eight operations is one here: the same function, but for the rounding of float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings


@pytest.mark.parametrize(("dtype", "left"), [("float32", 0), ("bfloat16", 2)])
def test_gelu_is_fused_in_float32_alone(gpt2: Path, dtype: str, left: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.activations import NewGELUActivation

    ours = load(ModelSettings(str(gpt2), dtype=dtype, device="cpu")).model
    assert sum(type(module) is NewGELUActivation for module in ours.modules()) == left
    theirs = AutoModelForCausalLM.from_pretrained(gpt2, dtype=getattr(torch, dtype)).eval()
    ids = torch.arange(2, 60)[None]
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(ids).logits, theirs(ids).logits, rtol=0, atol=1e-5 if left == 0 else 0)
