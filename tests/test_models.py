"""Models that are damaged, unsafe, do not fit together or do not fit the machine."""

from __future__ import annotations

import json
import os
import pickle
import platform
import struct
from pathlib import Path
from typing import Protocol

import pytest
from conftest import PATIENCE, Copy, Process, Run

SHORT = ["--max-new-tokens", "4", "--chat-template", "none"]


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


@pytest.fixture
def model(copy_of: Copy, llama: Path) -> Path:
    return copy_of(llama)


class Refused(Protocol):
    def __call__(self, reference: object, code: int, *said: str) -> None: ...


@pytest.fixture
def refused(run: Run) -> Refused:
    """Asserts that a model is refused with a code and a short message."""

    def check(reference: object, code: int, *said: str) -> None:
        for arguments in (["generate", "-m", reference, "a", *SHORT], ["models", "show", reference]):
            ran = run(*arguments)
            assert ran.code == code, ran
            assert all(text in ran.err for text in said), ran.err
            assert len(ran.err.splitlines()) <= 4
            assert ran.out == ""

    return check


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(refused: Refused, model: Path, name: str) -> None:
    (model / name).unlink()
    refused(model, 5, name)


def test_a_missing_tokenizer_is_named(refused: Refused, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    refused(model, 5, "no tokenizer")


def test_a_folder_that_is_not_there_is_named(refused: Refused) -> None:
    refused("./no-such-folder", 5, "no model folder './no-such-folder'")


def test_an_unknown_built_in_model_suggests_the_right_one(refused: Refused) -> None:
    refused("builtin:storys", 2, "did you mean 'stories'?")


def test_an_unknown_architecture_names_the_installed_transformers(run: Run, model: Path) -> None:
    import transformers

    edit(model / "config.json", model_type="llama-of-the-future")
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert transformers.__version__ in ran.err
    assert "llama-of-the-future" in ran.err


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def test_truncated_weights_are_refused_before_they_are_read(refused: Refused, model: Path) -> None:
    data = weights(model).read_bytes()
    weights(model).write_bytes(data[:-1000])
    refused(model, 5, "truncated")
    weights(model).write_bytes(data[:5])
    refused(model, 5, "truncated")


def test_an_absurd_header_length_takes_no_memory(refused: Refused, model: Path) -> None:
    data = weights(model).read_bytes()
    weights(model).write_bytes(struct.pack("<Q", 2**60) + data[8:])
    refused(model, 5, "its header claims 1,152,921,504,606,846,976 bytes")


def test_a_header_that_is_not_json_is_refused(refused: Refused, model: Path) -> None:
    data = weights(model).read_bytes()
    weights(model).write_bytes(data[:8] + b"x" + data[9:])
    refused(model, 5, "not safetensors")


@pytest.mark.parametrize("shift", [4, -4])
def test_overlapping_tensors_and_gaps_are_refused(refused: Refused, model: Path, shift: int) -> None:
    data = weights(model).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = sorted(n for n in header if n != "__metadata__")[1]
    header[name]["data_offsets"] = [x + shift for x in header[name]["data_offsets"]]
    raw = json.dumps(header).encode()
    weights(model).write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])
    refused(model, 5, "wrong offsets")


def test_a_missing_shard_is_named(refused: Refused, model: Path) -> None:
    weights(model).rename(model / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    refused(model, 5, "shard model-00002-of-00002.safetensors is missing")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    refused(model, 5, "not a plain file name")


def test_a_flipped_bit_in_a_built_in_model_is_found(tmp_path: Path) -> None:
    import shutil
    import subprocess
    import sys

    import llmkit

    package = Path(shutil.copytree(Path(llmkit.__file__).parent, tmp_path / "llmkit"))
    path = package / "models" / "builtin" / "stories" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "llmkit", "generate", "a", "--engine", "torch"], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=PATIENCE, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 5
    assert "SHA-256" in done.stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_found_at_load(run: Run, model: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights(model))
    name = sorted(tensors)[3]
    tensors[name].view(-1)[0] = value
    save_file(tensors, weights(model), metadata={"format": "pt"})
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert "NaN or infinite" in ran.err


def test_a_weight_missing_from_the_file_is_found_at_load(run: Run, model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights(model))
    del tensors["model.norm.weight"]
    save_file(tensors, weights(model), metadata={"format": "pt"})
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert "model.norm.weight" in ran.err


class Trap:
    """What a hostile pickle does when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("open('sprung', 'w').close()",))


def test_a_pickle_checkpoint_is_never_opened(refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    weights(model).unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(model, 5, "pytorch_model.bin", "convert")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_and_its_files_named(
    refused: Refused, model: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    edit(model / name, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tok", None]})
    (model / "evil.py").write_text("open('sprung', 'w').close()")
    refused(model, 2, "evil.py", "--trust-remote-code")
    assert not (tmp_path / "sprung").exists()


def test_a_tokenizer_of_another_model_is_refused(run: Run, model: Path, t5: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 5000, "content": "<extra>"})
    content["model"]["vocab"]["<extra>"] = 5000
    (model / "tokenizer.json").write_text(json.dumps(content))
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert "5000" in ran.err


def test_a_damaged_tokenizer_is_one_line(run: Run, model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert "tokenizer" in ran.err
    assert len(ran.err.splitlines()) <= 3


def adapter(folder: Path, base: Path, *, width: int = 32, module: str = "model.layers.0.self_attn.q_proj", **config: object) -> Path:
    """A LoRA adapter for q_proj of one layer."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    name = f"base_model.model.{module}.lora_"
    save_file({name + "A.weight": torch.randn(4, width), name + "B.weight": torch.randn(width, 4)}, folder / "adapter_model.safetensors")
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 64,
        "target_modules": [module],
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(content | config))
    return folder


def test_an_adapter_changes_the_answer(run: Run, llama: Path, tmp_path: Path) -> None:
    plain = run("generate", "-m", llama, "the king", *SHORT, "-q")
    ran = run("generate", "-m", llama, "--adapter", adapter(tmp_path / "a", llama), "the king", *SHORT, "-q")
    assert ran.code == 0
    assert ran.out != plain.out


def test_an_adapter_for_another_base_is_refused_and_says_which(run: Run, llama: Path, tmp_path: Path) -> None:
    for folder in (
        adapter(tmp_path / "a", Path("org/other"), width=48),
        adapter(tmp_path / "b", Path("org/other"), module="model.layers.9.x"),
    ):
        ran = run("generate", "-m", llama, "--adapter", folder, "a", *SHORT)
        assert ran.code == 5
        assert "another base" in ran.err
        assert "org/other" in ran.err


def test_an_adapter_cannot_point_to_another_base_or_bring_code(run: Run, llama: Path, tmp_path: Path) -> None:
    pointing = adapter(tmp_path / "a", Path("attacker/model"))
    ran = run("generate", "-m", llama, "--adapter", pointing, "the king", *SHORT, "--json", "-q")
    assert ran.code == 0  # the base is the one that was named, and nothing was fetched
    coded = adapter(tmp_path / "b", llama, auto_mapping={"base_model_class": "X", "parent_library": "evil"})
    assert run("generate", "-m", llama, "--adapter", coded, "a", *SHORT).code == 2


def test_an_adapter_that_is_a_pickle_is_not_opened(run: Run, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = adapter(tmp_path / "a", llama)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    ran = run("generate", "-m", llama, "--adapter", folder, "a", *SHORT)
    assert ran.code == 5
    assert "adapter_model.bin" in ran.err
    assert not (tmp_path / "sprung").exists()


def test_a_model_too_large_for_the_machine_is_refused_with_the_arithmetic(run: Run, model: Path) -> None:
    """A sparse file of 4 TB: nothing of it is read."""
    rows = 10**9
    header = {"model.embed_tokens.weight": {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, rows * 4096]}}
    raw = json.dumps(header).encode()
    with weights(model).open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + rows * 4096)
    ran = run("generate", "-m", model, "a", *SHORT)
    assert ran.code == 5
    assert "does not fit: needs 381" in ran.err
    assert "GiB free" in ran.err
    shown = json.loads(run("models", "show", model, "--json").out)
    assert shown["fits"] is False


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu"])
def test_a_device_that_is_not_there_says_what_is(run: Run, device: str) -> None:
    import torch

    present = {"cuda": torch.cuda.is_available(), "cuda:7": torch.cuda.device_count() > 7, "xpu": torch.xpu.is_available()}
    if present.get(device, torch.backends.mps.is_available()):
        pytest.skip(f"this machine has {device}")
    ran = run("generate", "a", "--device", device)
    assert ran.code == 5
    assert "available: cpu" in ran.err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_summary_names_engine_device_and_dtype(run: Run, prompts: Path, dtype: str) -> None:
    ran = run("generate", "-i", prompts, "--limit", "3", *SHORT, "--dtype", dtype)
    assert ran.code == 0
    assert f"builtin:stories on {'ctranslate2' if dtype == 'float32' else 'torch'}, cpu, {dtype}" in ran.err


def test_models_lists_the_built_in_ones(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("LLMKIT_HOME", str(tmp_path))  # other tests convert models
    found = json.loads(run("models", "--json").out)
    assert "builtin:stories" in [row["model"] for row in found]
    assert all(row["bytes"] <= 16_000_000 for row in found if row["model"].startswith("builtin:"))
    assert "builtin:stories" in run("models").out


def test_show_tells_size_architecture_and_fit_from_headers_alone(run: Run) -> None:
    about = json.loads(run("models", "show", "builtin:stories", "--json").out)
    assert about["architecture"] == "LlamaForCausalLM"
    assert about["kind"] == "causal"
    assert about["context"] == 512
    assert about["parameters"] > 5_000_000
    assert about["fits"] is True


def test_an_unset_home_and_a_cache_that_cannot_be_written_do_no_harm(process: Process) -> None:
    ran = process("generate", "Once", *SHORT, env={"HOME": "/nonexistent", "HF_HOME": "/proc/no", "XDG_CACHE_HOME": "/proc/no"})
    assert ran.code == 0


def test_threads_follow_the_cores_this_process_may_use(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which would decide
    core = sorted(os.sched_getaffinity(0))[0]
    ran = process("generate", "Once", *SHORT, "-v", preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert "1 thread\n" in ran.err


@pytest.mark.parametrize(("said", "threads"), [("1", 1), ("1,4", 1), ("2", 2), ("many", 3), ("0", 3), ("", 3), ("64", 3)])
def test_threads_follow_omp_num_threads_up_to_the_cores(monkeypatch: pytest.MonkeyPatch, said: str, threads: int) -> None:
    from llmkit.models import cores

    monkeypatch.setattr(cores, "available_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores.default_threads() == threads


@pytest.mark.parametrize(
    ("theirs", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["by default", "as the user says", "by the user's policy"],
)
def test_threads_that_wait_give_their_core_to_other_programs(
    monkeypatch: pytest.MonkeyPatch, theirs: dict[str, str], spins: str | None
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    from llmkit.cli import app

    assert app.run(["--version"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_a_quota_of_the_cgroup_limits_threads_and_memory(tmp_path: Path) -> None:
    from llmkit.models.cores import _cgroup_quota
    from llmkit.models.memory import _cgroup_free

    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert _cgroup_quota(tmp_path) == 1.5
    assert _cgroup_free(tmp_path) == 600
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert _cgroup_quota(tmp_path) is None
    assert _cgroup_free(tmp_path) is None


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the limit is set in the names of x86 instruction sets")
def test_a_precision_that_the_processor_only_emulates_is_named_before_work_starts(process: Process) -> None:
    limited = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = process("generate", "Once", "--dtype", "bfloat16", "--max-new-tokens", "1", env=limited)
    assert done.code == 0
    assert "warning: --dtype bfloat16: this processor has no bfloat16 instructions" in done.err
    assert "warning" not in process("generate", "Once", "--max-new-tokens", "1", env=limited).err
