"""Faults that the fuzz found (tests/fuzz), each as the smallest input that shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Process, Run, write_rows

from llmkit.errors import InputError, ModelError
from llmkit.models.checkpoint import read_checkpoint
from llmkit.translation.documents import markdown
from llmkit.translation.documents.formats import open_document

PROMPT = ("the king", "--max-new-tokens", "2", "--chat-template", "none", "-q")


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "model"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# models that load and can't be used


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"num_hidden_layers": -2}, 5),
        ({"num_attention_heads": -1}, 5),
        ({"architectures": {"a": "b"}}, 0),
        ({"architectures": 5}, 0),
        ({"architectures": []}, 0),
        ({"model_type": "a" * 5000}, 5),
    ],
)
def test_a_configuration_that_can_not_be_meant_ends_in_a_line(run: Run, model: Path, values: dict[str, object], code: int) -> None:
    change(model / "config.json", **values)
    for command in (["models", "show", model], ["generate", *PROMPT, "-m", model]):
        ran = run(*command)
        assert ran.code == code
        assert len(ran.err) < 1000
        assert ran.code == 0 or f"error: {model}" in ran.err


def test_a_model_that_loads_and_can_not_run_is_an_error_that_names_it(run: Run, model: Path) -> None:
    change(model / "config.json", layer_types=["x", "y"])
    ran = run("generate", *PROMPT, "-m", model)
    assert ran.code == 5
    assert f"error: {model}" in ran.err


def test_a_tokenizers_longest_text_that_is_no_number_is_passed_over(run: Run, llama: Path, model: Path) -> None:
    change(model / "tokenizer_config.json", model_max_length=[1])
    assert run("generate", *PROMPT, "-m", model).out == run("generate", *PROMPT, "-m", llama).out


def test_many_layers_are_refused_also_when_one_tensor_has_a_high_number(model: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.layers.999999.x"] = weights[next(iter(weights))]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    change(model / "config.json", num_hidden_layers=1_000_000)
    with pytest.raises(ModelError, match="1,000,000 layers"):
        read_checkpoint(model)


def test_a_tokenizer_of_gigabytes_is_not_read(run: Run, model: Path) -> None:
    with (model / "tokenizer.json").open("wb") as file:
        file.truncate(1 << 40)
    ran = run("generate", *PROMPT, "-m", model)
    assert ran.code == 5
    assert "tokenizer.json: has" in ran.err


@pytest.mark.parametrize("template", ["{{ x", "{% for %}", "{% endif %}"])
def test_a_template_that_is_none_is_the_models_fault_and_names_it(run: Run, model: Path, template: str) -> None:
    (model / "chat_template.jinja").write_text(template)
    ran = run("generate", "the king", "-m", model)
    assert ran.code == 5
    assert f"error: {model}: the chat template can't be used: line 1" in ran.err


def test_a_template_in_a_table_of_another_type_is_none(run: Run, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    change(model / "tokenizer_config.json", chat_template={"default": 5})
    assert run("generate", "the king", "-m", model, "--max-new-tokens", "1").code == 0


# adapters


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Path:
    from llmkit.cli import app

    folder = tmp_path_factory.mktemp("trained")
    rows = write_rows(folder / "rows.jsonl", [{"text": "the king"}] * 4)
    assert app.run(["finetune", str(rows), "-m", str(llama), "--max-steps", "1", "-o", str(folder / "adapter"), "-q"]) == 0
    return folder / "adapter"


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "adapter"))


def test_an_adapter_without_one_of_its_matrices_is_not_used(run: Run, llama: Path, adapter: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    del weights[next(name for name in weights if "down_proj.lora_A" in name)]
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    ran = run("generate", *PROMPT, "-m", llama, "--adapter", adapter)
    assert ran.code == 5
    assert f"the adapter {adapter} is incomplete" in ran.err


def test_a_pattern_for_no_module_changes_and_says_nothing(run: Run, llama: Path, trained: Path, adapter: Path) -> None:
    change(adapter / "adapter_config.json", alpha_pattern={"nowhere": 3})
    ran, plain = (run("generate", *PROMPT, "-m", llama, "--adapter", a) for a in (adapter, trained))
    assert (ran.code, ran.out, ran.err) == (0, plain.out, "")


# options and records


BOMB = "k0: &k0 [x]\n" + "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.yaml", BOMB + "stop: *k9\n", "aliases stand for more than"),
        ("c.yaml", BOMB + "seed: *k9\n", "aliases stand for more than"),
        ("c.yaml", "seed: &a [*a]\n", "aliases stand for more than"),
        ("c.yaml", "a: &a {x: 1}\n" + "b: &b {<<: [" + "*a, " * 9999 + "*a]}\n", "aliases stand for more than"),
        ("c.yaml", "seed: 0x" + "f" * 5000, "seed: a number of more than"),
        ("c.toml", "seed = 0x" + "f" * 5000, "seed: a number of more than"),
        ("c.toml", "quiet = 0x" + "f" * 5000, "quiet: a long number is neither"),
        ("c.yaml", "? 0x" + "f" * 5000 + "\n: 1", "a long number is not the name"),
        ("c.toml", "temperature = '" + "a" * 5000 + "'", "is not a number"),
    ],
)
def test_options_stand_for_no_more_than_a_person_writes(run: Run, tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    ran = run("generate", "x", "--config", tmp_path / name)
    assert ran.code == 2
    assert str(tmp_path / name) in ran.err
    assert said in ran.err
    assert len(ran.err) < 1500


def test_an_alias_that_a_person_writes_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("stop: &s [there]\nevaluate: {}\ngenerate:\n  stop: *s\n  max_new_tokens: 2\n")
    assert run("generate", "Once", "--config", tmp_path / "c.yaml").code == 0


@pytest.mark.parametrize("arguments", [("generate", "x", "--config"), ("rerun",), ("generate", "x", "--chat-template")])
def test_a_device_without_end_is_not_read_to_it(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments, "/dev/zero")
    assert ran.code == 2
    assert "/dev/zero" in ran.err


def test_a_rerun_works_from_any_folder_and_is_quiet_when_asked(
    run: Run, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "work/results", "elsewhere"):
        (tmp_path / name).mkdir()
    write_rows(tmp_path / "work/in.jsonl", [{"prompt": "the king"}])
    monkeypatch.chdir(tmp_path / "work")
    made = ("generate", "-i", "in.jsonl", "-m", llama, "-o", "results/out.jsonl", "--max-new-tokens", "2", "--chat-template", "none", "-q")
    assert run(*made).code == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    ran = run("rerun", "../work/results/out.jsonl.run.json", "-o", "again.jsonl", "-q")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "elsewhere/again.jsonl").read_bytes() == (tmp_path / "work/results/out.jsonl").read_bytes()


# rows, documents, memory


def test_names_with_line_ends_stand_on_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('"a\nb","c\rd"\n1,2\n')
    ran = run("evaluate", "score", "-i", tmp_path / "rows.csv", "--metrics", "exact_match")
    assert ran.code == 2
    assert "a\\nb, c\\rd" in ran.err
    assert len(ran.err.splitlines()) == 2


def test_rows_without_a_token_name_their_file(run: Run, llama: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": ""}])
    ran = run("evaluate", "perplexity", "-i", rows, "-m", llama, "-q")
    assert ran.code == 2
    assert f"error: {rows}: there is no token to score" in ran.err


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("punycode", b"a-\xff"), ("idna", b"xn--a"), ("base64", b"x"), ("unicode_escape", b"\\ud800"), ("utf-16", b"a\0"), ("x", b"x")],
)
def test_a_document_in_no_text_encoding_is_refused(tmp_path: Path, encoding: str, data: bytes) -> None:
    (tmp_path / "a.md").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.md"):
        open_document(str(tmp_path / "a.md"), encoding=encoding)


def test_a_paragraph_of_many_marks_is_checked_in_linear_time() -> None:
    document: Any = markdown.parse(("The `x` house " * 4000).encode(), "a.md")
    (segment,) = document.segments
    assert document.keep.problem(segment.text, segment.text.replace("house", "maison")) is None


def test_a_message_of_more_codes_than_there_are_signs_for_them_is_read(tmp_path: Path) -> None:
    path = tmp_path / "many.xlf"
    source = '<x id="1"/>' * 7000 + "{n, plural, other {cats}}"
    unit = f'<trans-unit id="1"><source>{source}</source></trans-unit>'
    path.write_text(f'<xliff version="1.2"><file source-language="en" target-language="fr"><body>{unit}</body></file></xliff>')
    document, _ = open_document(str(path), "fr")
    (segment,) = document.segments
    assert "cats" in segment.text


def test_a_full_memory_is_no_bug(process: Process, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    rows = write_rows(tmp_path / "rows.jsonl", [{"prediction": "a" * 50_000_000, "reference": "a"}])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))

    ran = process("evaluate", "score", "-i", rows, "--metrics", "exact_match", env={"OMP_NUM_THREADS": "1"}, preexec_fn=limit)
    assert ran.code == 5
    assert ran.err.splitlines()[0] == "error: the memory is full"
