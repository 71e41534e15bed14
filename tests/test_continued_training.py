"""Going on: with an adapter on new rows, and with a finished run for more epochs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows
from test_training_rows import card_command

SMALL = ["--batch-size", "4", "--lora-r", "4", "--learning-rate", "1e-2"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [{"prompt": f"Say {i}: ", "completion": "the king and the queen"} for i in range(8)])


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_rows(folder / "metrics.jsonl") if "loss" in entry]


def test_training_goes_on_where_an_adapter_is(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    constant = ["--lr-scheduler", "constant", "--max-steps", "6"]
    assert run("finetune", rows, "-m", gpt2, "-o", tmp_path / "one", *SMALL, *constant).code == 0
    second = ["finetune", rows, "-m", gpt2, "--adapter", tmp_path / "one", "--batch-size", "4", "--learning-rate", "1e-2", *constant]
    done = run(*second, "-o", tmp_path / "two")
    assert done.code == 0, done.err
    assert losses(tmp_path / "two")[0] < losses(tmp_path / "one")[0]
    one, two = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("one", "two"))
    assert {name: one[name] for name in ("r", "lora_alpha", "base_model_name_or_path")} == {
        name: two[name] for name in ("r", "lora_alpha", "base_model_name_or_path")
    }
    assert sorted(one["target_modules"]) == sorted(two["target_modules"])
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["identity"]["lora.r"] == 4
    assert "continued from the adapter" in (tmp_path / "two" / "README.md").read_text()
    assert weights(tmp_path / "one") != weights(tmp_path / "two")
    stopped = run(*second, "-o", tmp_path / "again", "--max-time", "0.001s")
    assert stopped.code == 124
    assert run(*second, "-o", tmp_path / "again").code == 0
    assert weights(tmp_path / "again") == weights(tmp_path / "two")
    assert run("generate", "the", "-m", gpt2, "--adapter", tmp_path / "two", "--max-new-tokens", "2").code == 0
    other = run(*second, "-o", tmp_path / "two", "--adapter", tmp_path / "again")
    assert other.code == 2 if weights(tmp_path / "again") != weights(tmp_path / "one") else 0
    assert "model.adapter_sha256 was" in other.err


def test_a_chat_template_and_what_it_is_shown_go_with_the_adapter(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    """Training that goes on with rows that have no use for it keeps it, too."""
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{{ mood }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    done = run(
        "finetune", rows, "-m", gpt2, "-o", tmp_path / "one", "--max-steps", "1", "--chat-template", template,
        "--chat-template-kwargs", '{"mood": "calm"}',
    )  # fmt: skip
    assert done.code == 0, done.err
    asked = run(*card_command(tmp_path / "one"), "--max-new-tokens", "2", "--json")
    assert asked.code == 0, asked.err
    assert json.loads(asked.out)["prompt_tokens"] == len("calm[user]...[assistant]")
    text = write_rows(tmp_path / "text.jsonl", [{"text": "the king"}])
    done = run("finetune", text, "-m", gpt2, "--adapter", tmp_path / "one", "-o", tmp_path / "two", "--max-steps", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "two" / "chat_template.jinja").read_text() == template.read_text()
    assert run(*card_command(tmp_path / "two"), "--max-new-tokens", "2").code == 0


def test_an_adapter_goes_on_on_a_quantized_base(run: Run, tmp_path: Path, rows: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 'quantize' is not for this system")
    common = ["finetune", rows, "--quantize", "int4", "--batch-size", "4", "--learning-rate", "2e-3", "--lr-scheduler", "constant"]
    assert run(*common, "-o", tmp_path / "one", "--max-steps", "6").code == 0
    done = run(*common, "-o", tmp_path / "two", "--max-steps", "2", "--adapter", tmp_path / "one")
    assert done.code == 0, done.err
    assert losses(tmp_path / "two")[0] < losses(tmp_path / "one")[0]
    assert weights(tmp_path / "one") != weights(tmp_path / "two")


def test_an_adapter_with_added_tokens_keeps_them(run: Run, tmp_path: Path, gpt2: Path, rows: Path) -> None:
    import peft
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(gpt2)
    tokenizer.add_tokens(["<new>"])
    model: Any = AutoModelForCausalLM.from_pretrained(gpt2)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    adapted.save_pretrained(tmp_path / "one", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "one")
    done = run("finetune", rows, "-m", gpt2, "--adapter", tmp_path / "one", "-o", tmp_path / "two", "--max-steps", "2")
    assert done.code == 0, done.err
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert before.keys() == after.keys()
    (embeddings,) = [name for name in before if name.endswith("wte.weight")]
    assert bool((before[embeddings] == after[embeddings]).all())
    assert len(AutoTokenizer.from_pretrained(tmp_path / "two")) == len(tokenizer)
    assert run("generate", "<new>", "-m", gpt2, "--adapter", tmp_path / "two", "--max-new-tokens", "2").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora-r", "8"], "cannot be combined with --adapter"),
        (["--full"], "--full and --adapter cannot be combined"),
    ],
)
def test_an_adapter_brings_its_own_settings(run: Run, tmp_path: Path, rows: Path, gpt2: Path, options: list[str], message: str) -> None:
    done = run("finetune", rows, "-m", gpt2, "--adapter", tmp_path / "one", "--dry-run", *options)
    assert done.code == 2, done.err
    assert message in done.err


def test_a_finished_run_is_extended_to_the_run_that_was_longer_from_the_start(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    training = ["finetune", rows, "-m", gpt2, *SMALL, "--lora-dropout", "0.2", "--lr-scheduler", "constant", "--save-steps", "1"]
    assert run(*training, "-o", tmp_path / "long", "--epochs", "3").code == 0
    assert run(*training, "-o", tmp_path / "ad", "--epochs", "1").code == 0
    short = weights(tmp_path / "ad")
    plain = run(*training, "-o", tmp_path / "ad", "--epochs", "3")
    assert plain.code == 2
    assert "optimization.epochs was 1.0, is 3.0" in plain.err
    assert run(*training, "-o", tmp_path / "ad", "--epochs", "3", "--extend", "--max-time", "0.001s").code == 124
    assert weights(tmp_path / "ad") == short  # until the longer run is complete
    done = run(*training, "-o", tmp_path / "ad", "--epochs", "3", "--extend")
    assert done.code == 0, done.err
    assert weights(tmp_path / "ad") == weights(tmp_path / "long")
    assert losses(tmp_path / "ad") == losses(tmp_path / "long")
    record = json.loads((tmp_path / "ad" / "run.json").read_text())
    assert record["identity"]["extended"] == [2]
    assert record["result"]["steps"] == 6
    for more in ([], ["--extend"]):
        same = run(*training, "-o", tmp_path / "ad", "--epochs", "3", *more)
        assert same.code == 0
        assert "already trained" in same.err


def test_what_can_not_be_extended_is_refused_and_stays(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    training = ["finetune", rows, "-m", gpt2, *SMALL, "-o", tmp_path / "ad"]
    nothing = run(*training, "--epochs", "2", "--extend")
    assert nothing.code == 2
    assert "no finished run to extend" in nothing.err
    assert run(*training, "--epochs", "2").code == 0
    before = weights(tmp_path / "ad")
    for more, message in (
        (["--epochs", "1"], "has been trained for 4 steps, and this run has 2"),
        (["--max-steps", "3"], "more --epochs or --max-steps"),
        (["--epochs", "4", "--seed", "3"], "optimization.seed was 0, is 3"),
        (["--epochs", "4", "--overwrite"], "--extend and --overwrite cannot be combined"),
    ):
        done = run(*training, "--extend", *more)
        assert done.code == 2, done.err
        assert message in done.err
    shutil.rmtree(tmp_path / "ad" / "checkpoints")
    gone = run(*training, "--epochs", "4", "--extend")
    assert gone.code == 2
    assert weights(tmp_path / "ad") == before
