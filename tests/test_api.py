"""What a program calls: documented in docs/python.md, typed, and light to import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import STORIES, write_rows

import llmkit

DOCS = Path(__file__).parent.parent / "docs" / "python.md"


def test_the_programs_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "train.jsonl", [{"prompt": f"The king of {i}", "completion": " lived in a house."} for i in range(40)])
    programs = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 2
    exec("\n".join(programs), {})
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_importing_llmkit_and_naming_its_functions_imports_no_torch() -> None:
    code = (
        "import sys, llmkit; [getattr(llmkit, n) for n in llmkit.__all__]; print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_name_is_documented_and_has_types() -> None:
    page = DOCS.read_text(encoding="utf-8")
    for name in set(llmkit.__all__) - {"__version__"}:
        value = getattr(llmkit, name)
        assert value.__doc__
        assert name in page
    assert (Path(llmkit.__file__).parent / "py.typed").exists()


def test_answers_are_those_of_the_command_line_whatever_the_batch(ragged: list[str]) -> None:
    model = llmkit.load(STORIES)
    together = llmkit.generate(model, ragged, max_new_tokens=6)
    alone = llmkit.generate(model, ragged, max_new_tokens=6, batch_size=1)
    assert [a.text for a in together] == [a.text for a in alone]


def test_scores_are_those_of_single_texts(ragged: list[str]) -> None:
    model = llmkit.load(STORIES)
    together = llmkit.score(model, ragged)
    alone = [llmkit.score(model, [text])[0] for text in ragged[:5]]
    assert [x.tokens for x in together[:5]] == [x.tokens for x in alone]
    assert [x.log_likelihood for x in together[:5]] == pytest.approx([x.log_likelihood for x in alone], rel=1e-5)


def test_errors_are_llmkits_own() -> None:
    with pytest.raises(llmkit.LlmkitError, match="no model folder"):
        llmkit.load("./missing/")
    with pytest.raises(llmkit.LlmkitError, match=r"^`source` Frensh: no language"):
        llmkit.translate("builtin:en-fr", ["Good morning."], source="Frensh")
    with pytest.raises(llmkit.LlmkitError, match=r"^`target` Frensh: no language"):
        llmkit.translate("builtin:en-fr", ["Good morning."], target="Frensh")
    with pytest.raises(llmkit.LlmkitError, match=r"2 predictions and 1 reference\b"):
        llmkit.evaluate("bleu", ["a", "b"], ["a"])
    with pytest.raises(llmkit.LlmkitError, match="prediction 2 has no reference"):
        llmkit.evaluate("f1", ["a", "b"], ["a", []])
    with pytest.raises(llmkit.LlmkitError, match="one answer per prompt"):
        llmkit.generate(STORIES, ["a"], num_samples=2, temperature=1.0)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = llmkit.nonsense


@pytest.mark.parametrize(
    ("predictions", "references"), [("king", "king"), (["king"], "king"), ([1], [1]), ([["king"]], ["king"]), (["a"], [None])]
)
def test_what_is_no_list_of_texts_is_not_scored(predictions: Any, references: Any) -> None:
    """A text is a sequence of texts, too: of its characters."""
    with pytest.raises(llmkit.LlmkitError, match=r"are lists|is not text"):
        llmkit.evaluate("exact_match", predictions, references)
