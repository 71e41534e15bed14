"""Steps, epochs and rates mean what they say, every figure is of what was trained, and the watch does not cry wolf."""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, read_rows, seeded, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import TrainingError, UsageError
from llmkit.training.examples import Example
from llmkit.training.settings import LoraSettings, Optimization
from llmkit.training.watch import Watch


def example(length: int) -> Example:
    return Example(array("i", range(length)), bytes([0] + [1] * (length - 1)), None, length, 1)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_every_epoch_sees_every_row_once(examples: int, size: int, parts: int, grouped: bool) -> None:
    from llmkit.training.batches import Stream

    optimization = Optimization(epochs=3, batch_size=size, grad_accum=parts)
    steps = optimization.steps(examples)
    stream = Stream([example(3 + i % 7) for i in range(examples)], size=size, parts=parts, steps=steps, seed=1, grouped=grouped)
    each = steps // 3
    for epoch in range(3):
        seen = [i for step in range(epoch * each, (epoch + 1) * each) for i in stream.step(step)]
        assert sorted(seen) == list(range(examples))
        assert stream.rows_before(epoch * each) == epoch * examples
    items = [len(stream[i]) for i in range(len(stream))]
    assert (sum(items), max(items)) == (3 * examples, min(size, max(items)))
    again = Stream(stream.examples, size=size, parts=parts, steps=steps, seed=1, grouped=grouped)
    assert again.step(steps - 1) == stream.step(steps - 1)  # a function of the step alone


def test_an_item_without_rows_is_a_batch_without_a_trained_token() -> None:
    from llmkit.training.batches import IGNORED, Collator

    for encoder_decoder in (False, True):
        batch = Collator(0, False, encoder_decoder)([])
        assert bool((batch["labels"] == IGNORED).all())
        assert ("decoder_input_ids" in batch) == encoder_decoder


@pytest.mark.parametrize(("epochs", "rows", "steps"), [(1, 9, 2), (3, 9, 6), (0.5, 9, 1), (1.5, 16, 3), (2, 8, 2), (0.1, 100, 2)])
def test_the_steps_of_epochs(epochs: float, rows: int, steps: int) -> None:
    assert Optimization(epochs=epochs, batch_size=8).steps(rows) == steps


def test_a_run_of_one_step_trains_at_the_full_rate(run: Run, tmp_path: Path, gpt2: Path) -> None:
    from safetensors.torch import load_file

    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}, {"text": "a queen"}])
    done = run("finetune", rows, "-m", gpt2, "-o", tmp_path / "ad", "--epochs", "1")
    assert done.code == 0, done.err
    (line,) = [row for row in read_rows(tmp_path / "ad" / "metrics.jsonl") if "loss" in row]
    assert line["learning_rate"] == 2e-4
    weights = load_file(tmp_path / "ad" / "adapter_model.safetensors")
    assert any(float(t.abs().max()) > 0 for name, t in weights.items() if "lora_B" in name)


def test_a_warm_up_begins_at_its_first_part_and_ends_at_the_peak(run: Run, tmp_path: Path, gpt2: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king {i}"} for i in range(9)])
    arguments = ["--epochs", "4", "--warmup-ratio", "0.5", "--learning-rate", "1e-3", "--lr-scheduler", "constant-with-warmup"]
    assert run("finetune", rows, "-m", gpt2, "-o", tmp_path / "ad", *arguments).code == 0
    lines = [row for row in read_rows(tmp_path / "ad" / "metrics.jsonl") if "loss" in row]
    assert [row["learning_rate"] for row in lines] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    assert [row["epoch"] for row in lines] == pytest.approx([8 / 9, 1, 17 / 9, 2, 26 / 9, 3, 35 / 9, 4], abs=1e-4)


def test_after_early_stopping_every_figure_is_of_what_was_trained(
    run: Run, tmp_path: Path, texts: Path, gpt2: Path, words: list[str]
) -> None:
    others = write_rows(tmp_path / "others.jsonl", [{"text": w[::-1] * 3} for w in words])
    out = tmp_path / "ad"
    arguments = ["--learning-rate", "5e-2", "--max-steps", "60", "--batch-size", "4", "--early-stopping", "2"]
    done = run("finetune", texts, "-m", gpt2, "-o", out, "--valid", others, *arguments, "--save-steps", "2", "--eval-steps", "1")
    assert done.code == 0, done.err
    lines = read_rows(out / "metrics.jsonl")
    losses: dict[Any, Any] = {row["step"]: row["loss"] for row in lines if "loss" in row}
    validated: dict[Any, Any] = {row["step"]: row["eval_loss"] for row in lines if "eval_loss" in row}
    best = min(validated, key=lambda step: validated[step])
    result = json.loads((out / "run.json").read_text())["result"]
    assert result["steps"] == max(losses) < result["planned_steps"] == 60
    assert (result["kept_step"], result["loss"]) == (best, losses[best])
    assert result["trained_tokens"] < 60 * 4 * 12
    assert f"{result['steps']} steps, {result['trained_tokens']:,} trained tokens" in (out / "README.md").read_text()


def test_a_spike_is_a_warning_and_the_run_goes_on() -> None:
    warnings: list[str] = []
    watch = Watch(warnings.append)
    for step in range(1, 20):
        watch.gradient(1.0 + step % 3, step)
    watch.gradient(500.0, 20)
    assert warnings == ["step 20: the gradient norm is 500, the median of the last 19 steps 2"]


def test_the_watch_stops_at_nothing_to_train_nan_zeros_and_divergence() -> None:
    watch = Watch()
    with pytest.raises(TrainingError, match="no token of the batch is trained"):
        watch.tokens(0, 1)
    for value, message in ((math.nan, "NaN"), (math.inf, "infinite")):
        with pytest.raises(TrainingError, match=f"step 5: the loss is {message}"):
            watch.loss(value, 5)
    with pytest.raises(TrainingError, match="not finite"):
        watch.gradient(math.nan, 1)
    for step in range(1, 5):
        watch.loss(0.0, step)
    with pytest.raises(TrainingError, match="exactly 0 for 5 steps"):
        watch.loss(0.0, 5)
    watch = Watch()
    for step in range(1, 60):
        watch.loss(2.0 if step <= 10 else 9.0, step)
    with pytest.raises(TrainingError, match="diverged"):
        watch.loss(9.0, 60)


def test_the_watch_stops_when_no_gradient_is_left() -> None:
    watch = Watch()
    for step in range(1, 40):
        watch.gradient(float(step % 10 == 0), step)  # nine zeros in a row
    with pytest.raises(TrainingError, match="step 40: the gradients have been exactly 0 for 10 steps"):
        watch.gradient(0.0, 40)


def test_a_watch_that_is_off_stops_only_at_what_is_no_number() -> None:
    watch = Watch(on=False)
    for step in range(1, 100):
        watch.loss(0.0 if step < 20 else 99.0, step)
        watch.gradient(0.0, step)
    with pytest.raises(TrainingError, match="NaN"):
        watch.loss(math.nan, 100)


def test_a_resumed_watch_gives_the_verdicts_of_an_uninterrupted_one() -> None:
    told: list[list[str]] = [[], []]
    whole, resumed = Watch(told[0].append), Watch(told[1].append)
    for step in range(1, 12):
        whole.gradient(1.0, step)
        whole.loss(0.5, step)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for watch in (whole, resumed):
        watch.gradient(500.0, 12)
    assert told[0] == told[1] != []
    assert whole.state() == resumed.state()


def test_an_adapter_leaves_out_what_peft_refuses_and_what_is_narrower_than_its_rank(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    from llmkit.engines.torch.loading import load
    from llmkit.models.settings import ModelSettings
    from llmkit.training.targets import linear_modules, targets

    tokenizer: Any = byte_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(tmp_path)
    seeded(lambda: MambaForCausalLM(MambaConfig(vocab_size=258, hidden_size=64, num_hidden_layers=2, state_size=16)), tmp_path)
    loaded = load(ModelSettings(str(tmp_path)))
    widths = {name.rpartition(".")[2]: min(shape) for name, shape in linear_modules(loaded.model).items()}
    assert widths == {"in_proj": 64, "x_proj": 36, "dt_proj": 4, "out_proj": 64}
    for name in ("out_proj", "dt_proj"):  # read by a kernel, and past the layer
        with pytest.raises(UsageError, match=rf"{name}: an adapter on it has no effect"):
            targets(loaded, LoraSettings(targets=(name,)))
    with pytest.raises(UsageError, match=r"above the width of .*x_proj") as caught:
        targets(loaded, LoraSettings(r=40, targets=("x_proj", "in_proj")))
    assert "`target_modules` without 'x_proj'" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no such linear layer") as caught:
        targets(loaded, LoraSettings(targets=("conv1d",)))
    assert caught.value.hint == "there are in_proj, x_proj"
    assert targets(loaded, LoraSettings()).modules == ("in_proj", "x_proj")
    chosen = targets(loaded, LoraSettings(r=40))
    assert (chosen.modules, chosen.narrow) == (("in_proj",), ("x_proj",))
