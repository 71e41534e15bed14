"""The notebook runs from top to bottom, in a kernel, without a network."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "llmkit_colab.ipynb"


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_valid_and_holds_no_results() -> None:
    book = notebook()
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    for cell in cells:
        assert cell.outputs == []
        ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith("!")))


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_with_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parent.parent), os.environ.get("PYTHONPATH", "")]))
    book = notebook()
    kernels = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(ensure_native_kernel=True))
    kernels.kernel_spec.argv[0] = sys.executable
    NotebookClient(book, km=kernels, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Bonjour." in said
    assert "I am the" in said.split("after")[1]
    assert "bleu < 10 -> exit code 0\nbleu < 100 -> exit code 4" in said
