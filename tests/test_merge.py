"""`llmkit merge`: adapter and base as one model that answers alike."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy, Run, finish, write_rows
from forking import Forked


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, llama: Path, words: list[str]) -> Path:
    """An adapter on the small Llama."""
    from llmkit.cli.app import run

    folder = tmp_path_factory.mktemp("trained")
    rows = write_rows(folder / "rows.jsonl", [{"text": " ".join(words[i % 15 :])} for i in range(30)])
    arguments = ["finetune", rows, "-m", llama, "-o", folder / "adapter", "--learning-rate", "5e-3", "--epochs", "6", "-q"]
    assert run([str(a) for a in arguments]) == 0
    return folder / "adapter"


def test_the_merged_model_answers_as_base_and_adapter_do(run: Run, tmp_path: Path, trained: Path, llama: Path) -> None:
    merged_folder = tmp_path / "models" / "merged"  # in a folder that is not there yet, as `finetune` makes it
    done = run("merge", trained, "-o", merged_folder)
    assert done.code == 0, done.err
    assert done.out == ""
    assert f"base: {llama}, named by the adapter" in done.err
    assert done.err.count("same greedy text") == 4
    options = ["--max-new-tokens", "20", "--chat-template", "none"]
    merged = run("generate", "the king", "-m", merged_folder, *options).out
    assert merged == run("generate", "the king", "-m", llama, "--adapter", trained, *options).out
    assert merged != run("generate", "the king", "-m", llama, *options).out


def test_differences_are_told_as_an_object(run: Run, tmp_path: Path, trained: Path) -> None:
    done = run("merge", trained, "-o", tmp_path / "merged", "--dtype", "bfloat16", "--prompt", "the king", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["dtype"] == "bfloat16"
    assert found["largest_difference"] > 0
    assert [c["prompt"] for c in found["comparisons"]] == ["the king"]
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_encoder_decoders_adapter_is_merged(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"source": "Hello.", "target": "OUI."}] * 8)
    arguments = ["-m", "builtin:en-fr", "-o", tmp_path / "adapter", "--learning-rate", "5e-3", "--epochs", "10"]
    assert run("finetune", rows, *arguments).code == 0
    assert run("merge", tmp_path / "adapter", "-o", tmp_path / "merged").code == 0
    one = run("translate", "Hello.", "-m", tmp_path / "merged", "--to", "fr").out
    assert one == run("translate", "Hello.", "--adapter", tmp_path / "adapter", "--to", "fr").out == "OUI.\n"
    (command,) = re.findall(r"^llmkit (.*)$", (tmp_path / "merged" / "README.md").read_text(), re.MULTILINE)
    assert run(*shlex.split(command)[:-1], "Hello.").out == one


def test_an_adapter_of_another_base_is_refused_by_shape_and_by_hash(
    run: Run, tmp_path: Path, trained: Path, gpt2: Path, copy_of: Copy, llama: Path
) -> None:
    shapes = run("merge", trained, "-m", gpt2, "-o", tmp_path / "merged")
    assert shapes.code == 5
    assert "made for another base" in shapes.err
    other = copy_of(llama)
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-2] ^= 1
    (other / "model.safetensors").write_bytes(content)
    for command in (["merge", trained, "-o", tmp_path / "merged"], ["generate", "a", "--adapter", trained]):
        hashes = run(*command, "-m", other)
        assert hashes.code == 5
        assert "SHA-256" in hashes.err
    assert not (tmp_path / "merged").exists()


def test_a_quantized_base_is_refused(run: Run, tmp_path: Path, trained: Path, copy_of: Copy, llama: Path) -> None:
    model = copy_of(llama)
    config: dict[str, Any] = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (model / "config.json").write_text(json.dumps(config))
    done = run("merge", trained, "-m", model, "-o", tmp_path / "merged")
    assert done.code == 5
    assert "quantized" in done.err


def test_damaged_adapters_and_occupied_places_are_refused(run: Run, tmp_path: Path, trained: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(trained, tmp_path / "broken", ignore=shutil.ignore_patterns("checkpoints")))
    tensors = load_file(broken / "adapter_model.safetensors")
    save_file({n: t * torch.nan for n, t in tensors.items()}, broken / "adapter_model.safetensors")
    assert run("merge", broken, "-o", tmp_path / "merged").code == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    for more in ([], ["--overwrite"]):
        assert run("merge", trained, "-o", tmp_path / "mine", *more).code == 2
    assert run("merge", trained).code == 2
    assert run("merge", trained, "-o", tmp_path / "merged", "--dtype", "int4").code == 2
    assert run("merge", tmp_path / "mine", "-o", tmp_path / "merged").code == 5
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["broken", "mine"]
    assert run("merge", trained, "-o", tmp_path / "merged").code == 0
    assert run("merge", trained, "-o", tmp_path / "merged").code == 2
    assert run("merge", trained, "-o", tmp_path / "merged", "--overwrite").code == 0


def test_the_cards_of_adapter_and_model_ask_in_the_layout_of_the_training(run: Run, tmp_path: Path, llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"topic": "bees", "instruction": "Say it.", "output": "Bees hum."}] * 3)
    common = ["finetune", rows, "-m", llama, "--max-steps", "1", "--chat-template", "none"]
    assert run(*common, "-o", tmp_path / "alpaca").code == 0
    row, command = asked_row(tmp_path / "alpaca")
    assert (row, command[0]) == ('{"instruction": "..."}', "generate")
    preferred = write_rows(tmp_path / "preferred.jsonl", [{"instruction": "Say it.", "chosen": "Bees hum.", "rejected": "No."}])
    assert run("finetune", preferred, *common[2:], "-o", tmp_path / "preferred").code == 0
    assert asked_row(tmp_path / "preferred")[0] == row
    assert run(*common, "-o", tmp_path / "template", "--template", "About {topic}:\n").code == 0
    assert run("merge", tmp_path / "template", "-o", tmp_path / "merged", "--prompt", "a").code == 0
    assert asked_row(tmp_path / "template")[1][-4:] == asked_row(tmp_path / "merged")[1][-4:]
    row, command = asked_row(tmp_path / "merged")
    done = finish(Forked(*command, "--max-new-tokens", "2", stdin=row.encode()))
    assert done.code == 0, done.err
    assert json.loads(done.out)["prompt_tokens"] == len("<About ...:\n")  # <s> is one token


def asked_row(folder: Path) -> tuple[str, list[str]]:
    """The row that a card's command echoes, and the command that reads it, without `llmkit`."""
    (block,) = re.findall(r"```sh\necho (.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)
    row, bar, name, *command = shlex.split(block)
    assert (bar, name) == ("|", "llmkit")
    return row, command
