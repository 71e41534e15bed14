"""Batches, losses and the watch: what a training step is made of."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.engines.torch.loading import load
from llmkit.models.settings import ModelSettings
from llmkit.training.examples import Example

LENGTHS = [3, 9, 17, 4, 30, 2, 12, 8]


def example(length: int, seed: int = 0, source: int = 0) -> Example:
    tokens = array("i", [(7 * i + 13 * seed + length) % 250 for i in range(length)])
    mask = bytes([0] + [1 if i % 3 else 0 for i in range(1, length - 1)] + [1])
    return Example(tokens, mask, None, length, 1, array("i", [5 + i for i in range(source)] + [256]) if source else None)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_packing_loses_nothing_and_no_row_is_longer_than_the_longest(lengths: list[int]) -> None:
    from llmkit.training.batches import pack

    rows = pack(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) == max(lengths)


def gradients(model: Any, head: Any, batches: list[Any]) -> tuple[float, dict[str, Any]]:
    from llmkit.training.loss import summed_loss

    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = summed_loss(model, head, batch)
        loss.backward()
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_packed_rows_give_the_loss_and_gradients_of_each_example_alone(name: str, request: pytest.FixtureRequest) -> None:
    import torch

    from llmkit.training.batches import Collator, allows_packing

    model = load(ModelSettings(str(request.getfixturevalue(name)))).model
    assert allows_packing(model, 250)
    examples = [example(n, i) for i, n in enumerate(LENGTHS)]
    packed = Collator(0, True)(examples)
    assert packed["input_ids"].shape[0] < len(LENGTHS)
    loss, gradient = gradients(model, None, [packed])
    padded_loss, padded = gradients(model, None, [Collator(0, False)(examples)])
    alone_loss, alone = gradients(model, None, [Collator(0, False)([e]) for e in examples])
    assert loss == pytest.approx(alone_loss, rel=1e-5)
    assert padded_loss == pytest.approx(alone_loss, rel=1e-5)
    for parameter, value in alone.items():
        scale = max(1e-6, float(value.abs().max()))
        torch.testing.assert_close(gradient[parameter] / scale, value / scale, atol=2e-4, rtol=0)
        torch.testing.assert_close(padded[parameter] / scale, value / scale, atol=2e-4, rtol=0)


def test_a_model_that_does_not_begin_positions_anew_is_not_packed(gpt2: Path) -> None:
    from llmkit.training.batches import allows_packing

    model = load(ModelSettings(str(gpt2))).model
    forward = model.forward
    model.forward = lambda input_ids, position_ids=None, **more: forward(input_ids=input_ids, **more)
    assert not allows_packing(model, 250)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_loss_in_pieces_is_the_plain_cross_entropy(
    name: str, frozen: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from llmkit.engines.torch import scoring
    from llmkit.engines.torch.scoring import plain_head
    from llmkit.training.batches import Collator

    monkeypatch.setattr(scoring, "_CPU_PIECE", 2000)  # several pieces even here
    model = load(ModelSettings(str(request.getfixturevalue(name)))).model
    batch = Collator(0, False)([example(n, i, source=4 if name == "t5" else 0) for i, n in enumerate(LENGTHS)])
    with torch.inference_mode():
        head = plain_head(model, {k: v[:1, :3] for k, v in batch.items() if k != "labels"})
    assert head is not None or name == "t5"  # T5 scales its states when its embeddings are tied
    if frozen:
        model.get_output_embeddings().weight.requires_grad_(False)
    found, own = gradients(model, head, [batch])
    labels = batch.pop("labels")
    model.zero_grad()
    plain = torch.nn.functional.cross_entropy(model(**batch).logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    plain.backward()
    assert found == pytest.approx(float(plain.detach()), rel=1e-5)
    for parameter, value in model.named_parameters():
        if value.grad is not None:
            scale = max(1e-6, float(value.grad.abs().max()))
            torch.testing.assert_close(own[parameter] / scale, value.grad / scale, atol=1e-4, rtol=0)
