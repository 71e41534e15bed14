"""How close to the limit: the machine is measured once, remembered safely, and runs tell their share of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import STORIES, Run, read_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.engines.utilization import WorkCounters
from llmkit.models import speed
from llmkit.models.builtin import folder
from llmkit.models.checkpoint import Checkpoint, read_checkpoint
from llmkit.models.speed import Cost, Speed

MACHINE = Speed(bandwidth=20e9, rates={"float32": 100e9})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("LLMKIT_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def stories() -> Checkpoint:
    return read_checkpoint(folder("stories"))


def test_what_was_measured_is_remembered(home: Path) -> None:
    assert speed.remembered() is None
    assert speed.remember({"cpu": MACHINE, "cuda": Speed(3e12, {"bfloat16": 9e14})}) == home / "speed.json"
    assert speed.remembered() == MACHINE
    assert speed.remembered("cuda") == Speed(3e12, {"bfloat16": 9e14})
    assert speed.remembered("mps") is None


def test_a_machine_without_a_measurement_takes_no_other_machines(home: Path) -> None:
    place = speed.remember({"cpu": MACHINE})
    (of_this,) = json.loads(place.read_text())["machines"].values()
    place.write_text(json.dumps({"machines": {"another processor, 64 cores": of_this}}))
    assert speed.remembered() is None


def test_the_file_keeps_the_newest_machines_only(home: Path) -> None:
    place = speed.remember({"cpu": MACHINE})
    (of_this,) = json.loads(place.read_text())["machines"].values()
    place.write_text(json.dumps({"machines": {f"machine {number}": of_this for number in range(100)}}))
    speed.remember({"cpu": MACHINE})
    machines = list(json.loads(place.read_text())["machines"])
    assert len(machines) == speed.MOST_MACHINES
    assert machines[-2] == "machine 99"
    assert speed.remembered() == MACHINE


@pytest.mark.parametrize("bandwidth", ["-1", "0", "NaN", "Infinity", "1e999", '"fast"', "[]", "null"])
def test_a_bandwidth_that_none_has_is_not_believed(home: Path, bandwidth: str) -> None:
    place = speed.remember({"cpu": MACHINE})
    place.write_text(place.read_text().replace("20000000000.0", bandwidth))
    assert speed.remembered() is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"machines": [2]}', b"{" * 5000, b" " * 100_000])
def test_a_damaged_file_is_as_none_and_is_replaced(home: Path, content: bytes) -> None:
    place = speed.remember({"cpu": MACHINE})
    place.write_bytes(content)
    assert speed.remembered() is None
    speed.remember({"cpu": MACHINE})
    assert speed.remembered() == MACHINE


def test_weights_that_each_token_meets_are_counted_once(stories: Checkpoint) -> None:
    found = speed.cost(stories, dtype="float32")
    assert found is not None
    tables = [t.parameters for name, t in stories.tensors.items() if "embed" in name or "lm_head" in name]
    met = stories.parameters - sum(tables) + max(tables)
    assert (found.step, found.position, found.source) == (4 * met, 2 * met, 0)


def test_an_encoder_is_not_read_again_at_each_step() -> None:
    translator = read_checkpoint(folder("en-fr"))
    found = speed.cost(translator, dtype="float32")
    assert found is not None
    layers = sum(t.parameters for name, t in translator.tensors.items() if ".encoder.layers." in name)
    assert found.source >= 2 * layers > 0
    assert found.position + found.source <= 2 * translator.parameters


def test_weights_in_8_bits_are_read_four_times_as_fast(stories: Checkpoint) -> None:
    whole, small = speed.cost(stories, dtype="float32"), speed.cost(stories, dtype="float32", quantize="int8", everything=True)
    assert whole is not None
    assert small is not None
    assert whole.step == 4 * small.step
    assert small.dtype is None


@given(steps=st.integers(0, 10**6), positions=st.integers(0, 10**9), faster=st.floats(1, 100))
def test_a_limit_is_the_slower_of_memory_and_arithmetic(steps: int, positions: int, faster: float) -> None:
    cost = Cost(step=4e8, position=2e8, source=0, dtype="float32")
    found = speed.limit(cost, MACHINE, steps=steps, positions=positions)
    assert found.seconds == max(steps * 4e8 / 20e9, positions * 2e8 / 100e9)
    twice = Speed(MACHINE.bandwidth * faster, {"float32": 100e9 * faster})
    assert speed.limit(cost, twice, steps=steps, positions=positions).seconds <= found.seconds


def test_a_token_looks_at_itself_and_all_before_it(stories: Checkpoint) -> None:
    found, config = speed.cost(stories, dtype="float32", attends=True), stories.config
    assert found is not None
    # the scores and the sum of the values: a product and a sum each for every number of a query
    assert found.pair == 4 * config["num_hidden_layers"] * config["hidden_size"]
    least = speed.limit(found, MACHINE, steps=0, positions=10, pairs=55)
    assert least.seconds == pytest.approx((10 * found.position + 55 * found.pair) / MACHINE.rates["float32"])


def test_attention_of_unknown_reach_is_not_counted(stories: Checkpoint) -> None:
    found, translator = speed.cost(stories, dtype="float32"), speed.cost(read_checkpoint(folder("en-fr")), dtype="float32", attends=True)
    assert found is not None
    assert translator is not None
    assert found.pair == translator.pair == 0


@given(prompts=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4), beams=st.integers(1, 3))
def test_each_token_that_is_read_is_paired_with_those_it_looks_at(prompts: list[tuple[int, int]], beams: int) -> None:
    counters = WorkCounters()
    counters.answered([[0] * size for size, _ in prompts], [[0] * length for _, length in prompts], reads=False, beams=beams)
    read = [(place, 1) for size, _ in prompts for place in range(1, size + 1)]
    read += [(place, beams) for size, length in prompts for place in range(size + 1, size + length)]
    assert counters.pairs == sum(place * times for place, times in read)


def test_a_beginning_that_is_read_once_is_counted_once() -> None:
    counters = WorkCounters()
    counters.scored([[0] * 9, [0] * 7, [0] * 5], None, [4, 4])
    # the last token of each is scored and not read
    assert counters.pairs == sum(range(1, 9)) + 5 + 6
    assert counters.positions == 9 + 3 + 1


def test_full_training_takes_six_operations_a_weight_and_a_frozen_weight_four() -> None:
    assert speed.training_operations(1000, 1000, 7) == 6 * 1000 * 7
    assert speed.training_operations(1000, 0, 7) == 4 * 1000 * 7
    assert speed.training_operations(1000, 10, 7) == (4 * 990 + 6 * 10) * 7


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_a_run_record_tells_the_share_of_the_limit(run: Run, home: Path, tmp_path: Path, engine: str, stories: Checkpoint) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("Once upon a time\nThe king\n")
    speed.remember({"cpu": MACHINE})
    ran = run("generate", "-i", prompts, "-o", out, "--max-new-tokens", 5, "--engine", engine, "-v", "-m", STORIES)
    assert ran.code == 0
    limit = json.loads(Path(f"{out}.run.json").read_text())["result"]["limit"]
    cost = speed.cost(stories, dtype="float32")
    assert cost is not None
    longest = max(json.loads(line)["completion_tokens"] for line in out.read_text().splitlines())
    least = speed.limit(cost, MACHINE, steps=longest, positions=0).seconds
    assert limit["by"] == "memory"
    assert limit["share"] == pytest.approx(least / limit["model_seconds"], abs=0.01, rel=0.1)
    assert "of this machine's limit (memory bandwidth)" in ran.err


def test_without_a_measurement_nothing_is_said(run: Run, home: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("Once upon a time\n")
    ran = run("generate", "-i", prompts, "-o", out, "--max-new-tokens", 3, "-v")
    assert "limit" not in json.loads(Path(f"{out}.run.json").read_text())["result"]
    assert "of this machine's limit" not in ran.err


def test_verbose_tells_the_tokens_per_second_of_one_prompt(run: Run, home: Path) -> None:
    speed.remember({"cpu": MACHINE})
    ran = run("generate", "Once upon a time", "--max-new-tokens", 4, "-v")
    assert "4 tokens in " in ran.err
    assert "tokens/s" in ran.err
    assert "of this machine's limit (memory bandwidth)" in ran.err


def test_scores_are_held_against_the_rate_of_matrix_products(run: Run, home: Path, tmp_path: Path, stories: Checkpoint) -> None:
    texts, out = tmp_path / "t.txt", tmp_path / "o.jsonl"
    texts.write_text("The king lived by the sea.\n")
    speed.remember({"cpu": MACHINE})
    assert run("evaluate", "perplexity", "-i", texts, "-o", out).code == 0
    limit = json.loads(Path(f"{out}.run.json").read_text())["result"]["limit"]
    assert limit["by"] == "arithmetic"
    cost, tokens = speed.cost(stories, dtype="float32", attends=True), read_rows(out)[0]["tokens"]
    assert cost is not None
    # the beginning of the text, which is not scored, is read; the end token may be scored, and is not
    most = (cost.position * (tokens + 1) + cost.pair * (tokens + 1) * tokens / 2) / MACHINE.rates["float32"]
    assert 0.9 * most < limit["share"] * limit["model_seconds"] <= 1.1 * most


def test_training_is_held_against_the_rate_of_matrix_products(run: Run, home: Path, tmp_path: Path) -> None:
    texts = tmp_path / "t.txt"
    texts.write_text("The king lived by the sea.\n" * 4)
    speed.remember({"cpu": MACHINE})
    assert run("finetune", texts, "-o", tmp_path / "a", "--max-steps", 1).code == 0
    limit = json.loads((tmp_path / "a" / "run.json").read_text())["result"]["limit"]
    assert limit["by"] == "arithmetic"
    assert limit["share"] > 0


def test_doctor_measures_this_machine_and_remembers_it(run: Run, home: Path) -> None:
    ran = run("doctor", "--speed", "--json")
    assert ran.code == 0
    found = {f["name"]: f["value"] for f in json.loads(ran.out)["findings"]}
    assert "GFLOP/s" in found["speed of cpu"]
    assert "ctranslate2 in float32 is fastest" in found["answers on cpu"]
    assert found["scores on cpu"].startswith("torch in ")
    assert "the first conversion of a model measures" in found["--quantize int8"]
    known = speed.remembered()
    assert known is not None
    assert 1e8 < known.bandwidth < 1e13
    again = {f["name"]: f["value"] for f in json.loads(run("doctor", "--quick", "--json").out)["findings"]}
    assert again["speed of cpu"] == found["speed of cpu"]


def test_doctor_says_what_cannot_be_remembered(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMKIT_HOME", str(tmp_path / "file"))
    ran = run("doctor", "--speed")
    assert ran.code == 5
    assert "LLMKIT_HOME" in ran.out


def test_the_folder_of_what_is_kept_is_no_option_of_a_command(run: Run, home: Path, tmp_path: Path) -> None:
    speed.remember({"cpu": MACHINE})
    texts, out = tmp_path / "t.txt", tmp_path / "o.jsonl"
    texts.write_text("The king lived by the sea.\n")
    ran = run("evaluate", "perplexity", "-i", texts, "-o", out)
    assert ran.code == 0
    assert "cache" not in ran.err
    assert [path.name for path in home.iterdir() if not path.name.startswith(".")] == ["speed.json"]


def test_quick_and_speed_exclude_each_other(run: Run) -> None:
    assert run("doctor", "--quick", "--speed").code == 2
