"""A model folder from a stranger: what was checked is what is loaded, and damage is one line that names the file."""

from __future__ import annotations

import json
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from llmkit.errors import ModelError, UsageError
from llmkit.models.card import read_card
from llmkit.models.checkpoint import read_checkpoint, read_header
from llmkit.models.view import model_view

PROMPT = ("the king", "--max-new-tokens", "8", "--chat-template", "none", "-q")


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "model"))


@pytest.fixture
def plain(run: Run, llama: Path) -> str:
    """The answer of the model as it was saved."""
    return str(run("generate", "-m", llama, *PROMPT).out)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(model: Path, name: str) -> None:
    """Other weights, as a pickle."""
    import torch
    from safetensors.torch import load_file

    torch.save({k: v.flip(0).contiguous() for k, v in load_file(model / "model.safetensors").items()}, model / name)


# what was checked is what is loaded


@pytest.mark.parametrize("named", ["adapter_model.bin", "other.safetensors", "pytorch_model.bin.index.json", 5, ["x"]])
def test_a_configuration_that_names_other_weights_is_refused(run: Run, model: Path, named: object) -> None:
    pickled(model, "adapter_model.bin")
    change(model / "config.json", transformers_weights=named)
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert "config.json: 'transformers_weights' names other weights" in ran.err


REDIRECTS: dict[str, dict[str, object]] = {
    "another configuration": {"configuration_files": ["config.0.0.1.json"]},
    "an implementation of attention": {"_attn_implementation_internal": "nowhere"},
    "a pipeline of its own": {"custom_pipelines": {"x": {"impl": "evil.X", "pt": ["AutoModel"]}}},
    "another name": {"_name_or_path": "org/other", "name_or_path": "org/other", "_commit_hash": "0" * 40},
}


@pytest.mark.parametrize("values", REDIRECTS.values(), ids=REDIRECTS)
def test_names_that_redirect_loading_change_nothing(run: Run, model: Path, plain: str, values: dict[str, object]) -> None:
    (model / "config.0.0.1.json").write_text("{}")
    change(model / "config.json", **values)
    ran = run("generate", "-m", model, *PROMPT)
    assert (ran.code, ran.out) == (0, plain)


def test_a_tokenizer_is_read_from_the_files_that_were_checked_only(run: Run, model: Path, plain: str) -> None:
    (model / "other.json").write_text("{}")
    change(
        model / "tokenizer_config.json",
        tokenizer_file=str(model / "other.json"),
        vocab_file="/etc/passwd",
        fast_tokenizer_files=["other.json"],
    )
    ran = run("generate", "-m", model, *PROMPT)
    assert (ran.code, ran.out) == (0, plain)


def test_a_view_holds_the_checked_files_and_nothing_else(model: Path) -> None:
    pickled(model, "pytorch_model.bin")
    for name in ("evil.py", "adapter_config.json", "preprocessor_config.json", "notes.txt"):
        (model / name).write_text("{}")
    (model / "custom_generate").mkdir()
    view = model_view(read_checkpoint(model))
    shown = {p.name for p in view.folder.iterdir()}
    assert shown <= {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("chat_template.jinja", "special_tokens_map.json"),
    }
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= shown
    folder = view.folder
    del view
    assert not folder.exists()


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_code_of_the_model_is_refused_also_inside_a_part_of_a_configuration(model: Path, place: str) -> None:
    change(model / place, text_config={"auto_map": {"AutoConfig": "evil.C"}})
    with pytest.raises(UsageError, match=r"evil\.py"):
        read_checkpoint(model)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_a_kernel_from_a_hub_is_code_and_is_refused(model: Path, name: str) -> None:
    change(model / "config.json", **{name: "org/kernel"})
    with pytest.raises(UsageError, match="kernel"):
        read_checkpoint(model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantized with gptq"),
        ({"quant_method": "awq", "bits": 4}, "quantized with awq"),
        ({"quant_method": "x"}, "does not load"),
        ({}, "does not load"),
        ("gptq", "does not load"),
    ],
)
def test_weights_that_need_another_loader_are_refused_with_what_to_install(run: Run, model: Path, settings: object, said: str) -> None:
    change(model / "config.json", quantization_config=settings)
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert said in ran.err
    assert "hint:" in ran.err


# damage is one line


def refused(model: Path, *said: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_checkpoint(model)
    assert all(text in caught.value.message for text in said), caught.value.message


CONFIGURATIONS: dict[str, tuple[dict[str, object], str]] = {
    "a part that is a list": ({"text_config": []}, "text_config"),
    "no vocabulary": ({"vocab_size": 0}, "vocab_size"),
    "a size in words": ({"hidden_size": "32"}, "hidden_size"),
    "a fraction": ({"hidden_size": 32.5}, "hidden_size"),
    "too many layers": ({"num_hidden_layers": 3000}, "3,000 layers"),
    "a truth value": ({"num_hidden_layers": True}, "num_hidden_layers"),
    "a huge size": ({"hidden_size": 10**30}, "hidden_size"),
    "a type that is no text": ({"model_type": ["llama"]}, "model_type"),
}


@pytest.mark.parametrize(("values", "said"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_value_that_can_not_be_meant_is_named(model: Path, values: dict[str, object], said: str) -> None:
    change(model / "config.json", **values)
    refused(model, "config.json", said)


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
@pytest.mark.parametrize("values", [{"hidden_act": None}, {"rms_norm_eps": "x"}, {"tie_word_embeddings": [1]}, {"layer_types": ["x"]}])
def test_a_value_that_the_library_refuses_is_no_fault_of_the_tokenizer(
    run: Run, model: Path, values: dict[str, object], engine: str
) -> None:
    change(model / "config.json", **values)
    ran = run("generate", "-m", model, *PROMPT, "--engine", engine)
    assert ran.code == 5
    assert f"error: {model / 'config.json'}: " in ran.err
    assert next(iter(values)).replace("_", "-") in ran.err.replace("_", "-")


@pytest.mark.parametrize(
    ("values", "code"), [({"sliding_window": "x"}, 5), ({"num_hidden_layers": 0}, 2), ({"max_position_embeddings": 1}, 5)]
)
def test_a_value_of_a_type_that_no_model_has_ends_in_a_line_on_ctranslate2(
    run: Run, model: Path, values: dict[str, object], code: int
) -> None:
    change(model / "config.json", **values)
    ran = run("generate", "-m", model, *PROMPT, "--engine", "ctranslate2")
    assert ran.code == code
    assert ran.err.startswith(f"error: {model}")


def test_labels_of_a_classifier_are_not_made(run: Run, model: Path, plain: str) -> None:
    change(model / "config.json", num_labels=2**40, id2label="x", label2id=[])
    assert run("generate", "-m", model, *PROMPT).out == plain


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[]",
        "",
        "\xff",
        '{"a": 1, "a": 2}',
    ],
)
def test_a_configuration_that_is_no_usable_json_is_named(model: Path, text: str) -> None:
    (model / "config.json").write_text(text, encoding="latin-1")
    refused(model, "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_lies_in_place_of_a_file_is_not_opened(model: Path, name: str, make: Any) -> None:
    (model / name).unlink()
    make(model / name)
    refused(model, name)


def test_a_file_beyond_its_size_is_refused_before_it_is_read(model: Path) -> None:
    with (model / "config.json").open("r+b") as file:
        file.truncate(1 << 40)
    refused(model, "config.json", "bytes")


@pytest.mark.parametrize(
    "weights", [{"a": 5}, ["x"], {}, {"a": ""}, {"a": "model.bin"}, {"a": "..\\x.safetensors"}, {"a": ["m.safetensors"]}, None, 5]
)
def test_a_damaged_index_is_named(model: Path, weights: object) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    refused(model, "model.safetensors.index.json")


def test_an_index_that_puts_a_tensor_into_another_shard_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "a.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"nowhere": "a.safetensors"}}))
    refused(model, "a.safetensors", "nowhere")


def header(path: Path, content: object, data: bytes = b"0000") -> Path:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


ONE = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS: dict[str, object] = {
    "one offset": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
    "three offsets": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}},
    "offsets in words": {"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}},
    "offsets that are truth values": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [False, 4.0]}},
    "a negative shape": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
    "a long shape": {"a": {"dtype": "F32", "shape": [2**63 - 1] * 100_000, "data_offsets": [0, 4]}},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
    "a list": [1],
    "metadata of lists": {"__metadata__": {"format": ["pt"]}},
    "a tensor that is a number": {"a": 5},
    "an unknown type": {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}},
    "a number of 5,000 digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}',
    "nested deep": b'{"a":' * 50_000,
    "a name that occurs twice": b'{"a":' + ONE + b',"a":' + ONE + b"}",
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_damaged_header_is_an_error_that_names_the_file(tmp_path: Path, content: object) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_header(header(tmp_path / "model.safetensors", content))


def test_a_file_of_more_tensors_than_any_model_has_is_refused(tmp_path: Path) -> None:
    many = {str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_001)}
    with pytest.raises(ModelError, match=r"model\.safetensors: has 100,001 tensors; at most 100,000"):
        read_header(header(tmp_path / "model.safetensors", many, b""))


def test_a_panic_of_the_tokenizers_library_at_loading_is_an_error(run: Run, model: Path) -> None:
    change(model / "tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": None})
    ran = run("generate", "-m", model, *PROMPT)
    assert ran.code == 5
    assert "error: " + str(model) in ran.err


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_a_panic_of_the_tokenizers_library_at_a_text_is_an_error_of_each_engine(run: Run, model: Path, engine: str) -> None:
    nowhere = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "nope", "type_id": 0}}], "pair": [], "special_tokens": {}}
    change(model / "tokenizer.json", post_processor=nowhere)
    ran = run("generate", "-m", model, *PROMPT, "--engine", engine)
    assert ran.code == 2
    assert "tokenizer can't read" in ran.err


def test_a_panic_of_the_tokenizers_library_at_a_row_fails_that_row(run: Run, model: Path, tmp_path: Path) -> None:
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    change(
        model / "tokenizer.json",
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [pattern, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}],
        },
    )
    rows = tmp_path / "i.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("the king", "a" * 40 + "!", "the queen")))
    ran = run("generate", "-i", rows, "-m", model, "--max-new-tokens", "2", "--chat-template", "none", "-o", tmp_path / "o.jsonl")
    assert ran.code == 3
    written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert ["error" in row for row in written] == [False, True, False]


# cards


def card(folder: Path, front: str) -> dict[str, Any]:
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    about, text = read_card(folder)
    assert text == "# A model"
    return about


def test_a_card_is_read_as_it_is_written(tmp_path: Path) -> None:
    assert card(tmp_path, "license: mit\nlanguage: [en, no]\ndate: 2024-99-99\nversion: 1.0") == {
        "license": "mit",
        "language": ["en", "no"],
        "date": "2024-99-99",
        "version": "1.0",
    }


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [x,x]\nb: &b [*a,*a]\nlicense: *b",
        "\n".join(f"k{i}: &k{i} [{','.join([f'*k{i - 1}'] * 9) if i else 'x'}]" for i in range(12)),
        "license: !!python/object/apply:os.system [x]\n: :",
        "[" * 50_000,
        "{" * 50_000,
        "license: [",
        "? " * 5000,
    ],
)
def test_front_matter_of_any_kind_stops_nothing(tmp_path: Path, front: str) -> None:
    assert set(card(tmp_path, front)) <= {"license"}


def test_a_card_that_is_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    assert read_card(tmp_path) == ({}, "")


def test_every_damage_is_one_of_our_errors(model: Path) -> None:
    """Each file of the folder, cut and with bytes exchanged."""
    import random

    chance = random.Random(0)
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        whole = (model / name).read_bytes()
        head = min(len(whole), 2000)
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(head)] = chance.randrange(256)
            (model / name).write_bytes(bytes(damaged[: chance.randrange(head)] if chance.random() < 0.2 else damaged))
            with suppress(ModelError, UsageError):
                read_checkpoint(model)
        (model / name).write_bytes(whole)
