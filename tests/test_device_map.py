"""--device-map: a model larger than one device is spread over devices, main memory and disk, and answers as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

STORIES = ("-m", "builtin:stories", "--max-new-tokens", "12", "-q")


@pytest.fixture
def half_on_disk(tmp_path: Path) -> Path:
    """A map that leaves the later layers of builtin:stories on disk."""
    rest = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    layers = {f"model.layers.{i}": "disk" if i > 2 else "cpu" for i in range(7)}
    path = tmp_path / "map.json"
    path.write_text(json.dumps({**dict.fromkeys(rest, "cpu"), **layers}))
    return path


def test_a_spread_model_gives_the_same_answers(run: Run, tmp_path: Path, half_on_disk: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Once upon a time"}\n{"prompt": "The old king and the"}\n')
    plain = run("generate", "-i", prompts, *STORIES, "--engine", "torch").out
    assert run("generate", "-i", prompts, *STORIES, "--device-map", half_on_disk).out == plain
    assert run("generate", "-i", prompts, *STORIES, "--device-map", "auto").out == plain


def test_a_spread_model_scores_alike(run: Run, tmp_path: Path, half_on_disk: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little boy, and he lived by the sea.\n")
    plain, spread = (
        json.loads(run("evaluate", "perplexity", "-m", "builtin:stories", "-i", text, "--json", *more).out)["scores"]
        for more in ((), ("--device-map", half_on_disk))
    )
    assert spread["bits_per_byte"] == pytest.approx(plain["bits_per_byte"], rel=1e-6)


def test_the_record_names_the_devices(run: Run, tmp_path: Path, half_on_disk: Path) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "Once"}\n')
    assert run("generate", "-i", prompts, "-o", output, *STORIES, "--device-map", half_on_disk).code == 0
    assert json.loads(Path(f"{output}.run.json").read_text())["identity"]["model.device"] == "cpu+disk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device-map", "auto", "--device", "cpu"), "--device-map cannot be combined with --device"),
        (("--device-map", "auto", "--quantize", "int8"), "--device-map cannot be combined with --quantize"),
        (("--device-map", "automatic"), "unknown device map 'automatic'"),
        (("--device-map", "none.json"), "No such file"),
        (("--device-map", "auto", "--engine", "ctranslate2"), "it spreads no model over devices"),
    ],
)
def test_what_a_map_excludes_is_a_usage_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ran = run("generate", "Once", *STORIES, *arguments)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("content", ["[]", "{}", '{"model": null}', "{", '{"model": true}'])
def test_a_file_that_is_no_map_is_named(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    ran = run("generate", "Once", *STORIES, "--device-map", path)
    assert ran.code == 2
    assert "map.json: is not" in ran.err
