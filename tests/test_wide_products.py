"""Training multiplies through oneDNN where that is faster: the same products and gradients, but for the rounding of float32."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_rows
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmkit.engines.torch.loading import load
from llmkit.engines.torch.products import is_available
from llmkit.engines.torch.wide_products import WideConv1D, WideLinear, pays_off, use_wide_products
from llmkit.jobs.reporter import Silent
from llmkit.models import processor
from llmkit.models.settings import ModelSettings
from llmkit.training.data import read_data
from llmkit.training.distributed import Processes
from llmkit.training.finetune import make_plan
from llmkit.training.run import build
from llmkit.training.settings import DataSettings, FinetuneSettings

pytestmark = pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")
#: The last matrix is as wide as a vocabulary, the first as an adapter's.
SHAPES = [(96, 16), (16, 96), (96, 160), (8, 700)]


def plain(kind: type[nn.Module], columns: int, out: int, *, trained: bool) -> Any:
    torch.manual_seed(0)
    layer: Any = nn.Linear(columns, out) if kind is nn.Linear else Conv1D(out, columns)
    nn.init.normal_(layer.bias)
    return layer.requires_grad_(trained)


def passed(layer: Any, states: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
    """What the layer gives, and the gradients of its input and of its trained weights."""
    states = states.detach().requires_grad_(True)
    product = layer(states)
    wanted = [states, *[p for p in layer.parameters() if p.requires_grad]]
    return [product.detach(), *torch.autograd.grad(product, wanted, gradient)]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("columns", "out"), SHAPES)
@pytest.mark.parametrize(("kind", "wide"), [(nn.Linear, WideLinear), (Conv1D, WideConv1D)])
def test_products_and_gradients_are_those_of_the_plain_layer(
    kind: type[nn.Module], wide: type[nn.Module], columns: int, out: int, trained: bool
) -> None:
    layer = plain(kind, columns, out, trained=trained)
    draw = torch.Generator().manual_seed(1)
    for rows in ((3, 20), (1, 1), (40,), (2, 7)):
        states = torch.randn(*rows, columns, generator=draw)
        gradients = [torch.randn(*rows, out, generator=draw), torch.ones(1).expand(*rows, out)]
        for gradient in gradients:
            for one, other in zip(passed(wide(layer), states, gradient), passed(layer, states, gradient), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_an_input_that_is_no_block_of_memory_is_read_as_it_is() -> None:
    layer = plain(nn.Linear, 96, 160, trained=True)
    turned, gradient = torch.randn(20, 3, 96).transpose(0, 1), torch.randn(160, 20, 3).permute(2, 1, 0)
    for one, other in zip(passed(WideLinear(layer), turned, gradient), passed(layer, turned, gradient), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_of_a_frozen_weight_no_input_is_kept() -> None:
    kept: list[int] = []
    states = torch.randn(40, 96, requires_grad=True)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        WideLinear(plain(nn.Linear, 96, 160, trained=False))(states)
        assert states.data_ptr() not in kept
        WideLinear(plain(nn.Linear, 96, 160, trained=True))(states)
        assert states.data_ptr() in kept


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_a_model_keeps_its_weights_its_names_and_its_gradients(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    ids = torch.arange(60).reshape(3, 20) + 2

    def gradients(model: Any) -> dict[str, torch.Tensor]:
        model.train(mode=False).zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    model = load(ModelSettings(str(folder), device="cpu")).model.requires_grad_(True)
    before, weights = gradients(model), {name: p.data_ptr() for name, p in model.named_parameters()}
    use_wide_products(model)
    assert any(isinstance(module, WideLinear | WideConv1D) for module in model.modules())
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == weights
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight or name == "llama"
    torch.testing.assert_close(gradients(model), before, rtol=1e-3, atol=1e-4)


def test_a_lower_precision_and_tiny_matrices_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(96, 4), nn.Linear(96, 96, dtype=torch.bfloat16))
    use_wide_products(model)
    assert [type(module) for module in model] == [nn.Linear, nn.Linear]


def test_a_run_uses_them_where_they_pay_off(tmp_path: Path, llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king and the queen {i}"} for i in range(20)])
    settings = FinetuneSettings(data=DataSettings(str(rows)), model=ModelSettings(str(llama), device="cpu"))
    model = build(make_plan(settings, read_data(settings.data), Processes(), Silent())).model
    assert any(isinstance(module, WideLinear) for module in model.modules()) == pays_off()


def test_a_processor_of_intel_says_so_in_its_name() -> None:
    assert processor.name()
    if "Intel" in processor.name() or "AMD" in processor.name():
        assert processor.made_by_intel() == ("Intel" in processor.name())


@pytest.mark.skipif(sys.platform != "linux" or "ATEN_CPU_CAPABILITY" in os.environ, reason="the system does not tell, or torch is told")
def test_a_processor_of_wide_vectors_is_known_without_torch() -> None:
    assert processor.has_avx512() == torch.backends.cpu.get_cpu_capability().startswith("AVX512")
