"""What is scored at once on a CPU: as much as its caches like, with next to no padding."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.engines.torch.loading import load
from llmkit.engines.torch.scoring import Scorer
from llmkit.models.settings import ModelSettings


@pytest.fixture(scope="module")
def scorer(gpt2: Path) -> Scorer:
    return Scorer(load(ModelSettings(str(gpt2), device="cpu")).model, pad=0, encoder_decoder=False)


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([64] * 40, [16, 16, 8]),  # of one length: as many as may
        ([1500, 1500], [1, 1]),
        ([900, 700, 500, 300, 200], [1, 1, 1, 1, 1]),  # long enough to run alone
        ([200, 199, 198, 197, 100], [4, 1]),
        ([100, 90, 80, 20, 10, 5], [2, 3, 1]),  # short ones run with padding rather than alone
        ([5, 10, 20, 80, 90, 100], [4, 2]),
        ([], []),
    ],
    ids=str,
)
def test_rows_run_together_where_there_is_little_padding(scorer: Scorer, lengths: list[int], rows: list[int]) -> None:
    parts = scorer.parts([[1] * length for length in lengths])
    assert [len(part) for part in parts] == rows
    assert [i for part in parts for i in part] == list(range(len(lengths)))
