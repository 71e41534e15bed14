"""The time that a run is said to take has all of its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run, write_rows

from llmkit.jobs.reporter import Silent
from llmkit.models.settings import ModelSettings
from llmkit.training.data import read_data
from llmkit.training.distributed import Processes
from llmkit.training.finetune import make_plan
from llmkit.training.settings import CheckpointSettings, DataSettings, FinetuneSettings, Optimization
from llmkit.training.timing import Timing


@pytest.mark.parametrize(
    ("validates", "evaluate", "seconds"),
    [
        # 20 steps; 10 evaluations and those before and after; 10 answers and those at the start; references; as many checkpoints
        (True, 2, 20 * 1 + 12 * 10 + 11 * 100 + 1000 + 10 * 10_000),
        # no validation rows: a checkpoint at steps 10 and 20
        (False, 10, 20 * 1 + 4 * 10 + 3 * 100 + 1000 + 2 * 10_000),
    ],
)
def test_a_run_takes_its_steps_evaluations_answers_and_checkpoints(
    tmp_path: Path, gpt2: Path, validates: bool, evaluate: int, seconds: int
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"the king and the queen {i}"} for i in range(20)])
    settings = FinetuneSettings(
        data=DataSettings(str(rows), valid_share=0.5 if validates else 0.0), model=ModelSettings(str(gpt2)),
        optimization=Optimization(max_steps=20), checkpoints=CheckpointSettings(steps=10, evaluate_steps=evaluate),
    )  # fmt: skip
    plan = make_plan(settings, read_data(settings.data), Processes(), Silent())
    assert Timing(1, 10, answers=100, references=1000, checkpoint=10_000).of_run(plan) == seconds


def test_a_dry_run_times_prompts_and_preferences(run: Run, tmp_path: Path, gpt2: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"prompt": f"{i}?", "chosen": "the king", "rejected": "a sea"} for i in range(8)])
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": "the"}])
    before = sorted(tmp_path.rglob("*"))
    done = run("finetune", pairs, "-m", gpt2, "--valid-split", "40%", "--eval-prompts", asked, "--dry-run", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["seconds"] > report["steps"] * report["seconds_a_step"] + 3 * report["seconds_an_evaluation"]
    assert sorted(tmp_path.rglob("*")) == before
