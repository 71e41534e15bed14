"""Thousands of damaged rows, models, adapters, checkpoints, records, configurations and documents, and pieces of each format repeated
and nested: each ends by the contract.

The short form is always run. The long one takes its cases from FUZZ_CASES (how many times the number below) and FUZZ_FIRST (the
first seed); `FUZZ_FIRST=17 FUZZ_CASES=1 python -m pytest -n 0 -m slow tests/fuzz -k rows` runs case 17 of the rows alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.bases import made
from fuzz.campaign import Campaign, Figures

#: Subject → cases of the short form, and of the long one.
SUBJECTS = {
    "rows": (40, 4500),
    "models": (30, 1000),
    "adapters": (15, 1000),
    "training": (3, 1000),
    "jobs": (30, 600),
    "configs": (40, 1000),
    "documents": (60, 3000),
    "patterns": (40, 4000),
}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory, llama: Path, gpt2: Path) -> Iterator[Campaign]:
    running = Campaign(made(tmp_path_factory.mktemp("bases"), llama, gpt2))
    yield running
    running.close()


def judge(subject: str, figures: Figures) -> None:
    print(f"{subject}: {figures}")
    told = "\n\n".join(f"case {seed} of {subject}: {what}" for seed, what in figures.failures[:10])
    assert not figures.failures, f"{len(figures.failures)} of {figures.cases} cases\n\n{told}"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_damage_ends_by_the_contract(campaign: Campaign, subject: str) -> None:
    judge(subject, campaign.run(subject, 0, SUBJECTS[subject][0]))


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_much_damage_ends_by_the_contract(campaign: Campaign, subject: str) -> None:
    cases = int(os.environ.get("FUZZ_CASES", SUBJECTS[subject][1]))
    judge(subject, campaign.run(subject, int(os.environ.get("FUZZ_FIRST", "0")), cases))
