"""The short form of scripts/peers.py: our numbers are those of the peers that are installed.

The long form of the harness takes a real model: TEST_MODEL=FOLDER python -m pytest -m slow tests/test_peers.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
#: A folder with a causal model, as of SmolLM2-135M.
MODEL = os.environ.get("TEST_MODEL")


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    import importlib

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("peers")
    sys.modules.pop("peers", None)


def test_scores_of_texts_are_the_peers(peers: ModuleType) -> None:
    found = list(peers.compared(None, short=True))
    assert {a.peer.split()[0] for a in found} >= {"sacrebleu", "jiwer", "rouge-score"}
    assert [line for a in found for line in a.failed] == []
    assert sum(a.cases for a in found) > 200


def test_a_case_that_differs_is_counted_and_named(peers: ModuleType) -> None:
    cases = [peers.Case("equal", 1.0, 1.0), peers.Case("off", 1.0, 1.1), peers.Case("text", "a", "b")]
    found = peers.agreement("sacrebleu", "a score", 0.01, cases)
    assert (found.cases, found.agree) == (3, 1)
    assert found.largest == pytest.approx(0.1)
    assert "off: 1.0 here, 1.1 there" in found.failed[0]


def test_the_table_in_the_docs_is_of_cases_that_all_agree() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "agreement.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 9
    assert all(row[3].strip() == row[4].strip() for row in rows)


@pytest.mark.slow
def test_log_likelihoods_are_those_of_lm_evaluation_harness(peers: ModuleType) -> None:
    pytest.importorskip("lm_eval")
    from llmkit.models.builtin import folder

    found = [peers.agreement("lm_eval", what, 1e-4, cases) for what, cases in peers.harness(str(folder("stories")), 20)]
    assert [line for a in found for line in a.failed] == []
    assert [a.cases for a in found] == [20, 4, 100]


@pytest.mark.slow
@pytest.mark.skipif(MODEL is None, reason="TEST_MODEL names no folder with a model")
def test_two_hundred_questions_to_a_real_model_are_those_of_lm_evaluation_harness(peers: ModuleType) -> None:
    """Each log-likelihood to 1e-4 nats, and each choice."""
    pytest.importorskip("lm_eval")
    found = [peers.agreement("lm_eval", what, 1e-4, cases) for what, cases in peers.harness(str(MODEL), 200)]
    assert [line for a in found for line in a.failed] == []
    assert [a.cases for a in found] == [200, 20, 1000]
