"""What llmkit uses of the inside of libraries is there, and its loss is not silent."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from llmkit import private_parts
from llmkit.errors import UnavailableError
from llmkit.private_parts import PARTS, PrivatePart, available, require

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.part)
def test_a_private_part_is_as_it_was_seen(part: PrivatePart) -> None:
    assert part.problem() is None


@pytest.mark.parametrize("library", sorted({part.library for part in PARTS}))
def test_a_library_with_private_parts_has_an_upper_bound(library: str) -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    (bounds,) = [required.specifier for line in lines if (required := Requirement(line)).name == library]
    assert any(bound.operator == "<" for bound in bounds)


def test_training_does_not_start_when_a_part_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.delattr(transformers.Trainer, "_get_grad_norm")
    with pytest.raises(UnavailableError, match=r"has no transformers:Trainer\._get_grad_norm.*nothing would watch the gradients"):
        require("training")


def test_a_part_with_other_parameters_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers.Trainer, "_save_checkpoint", lambda self, folder: None)
    with pytest.raises(UnavailableError, match=r"_save_checkpoint of transformers \S+ takes \(folder\)"):
        require("training")


def test_onednn_without_one_of_its_operations_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = PrivatePart("torch", "onednn", "torch:ops.mkldnn._no_such_operation", "2.13", "slower")
    monkeypatch.setattr(private_parts, "PARTS", (*PARTS, gone))
    assert not available("onednn")


def test_no_module_reads_a_private_attribute_of_sacrebleu_but_the_listed_ones() -> None:
    text = "".join(path.read_text() for path in (Path(private_parts.__file__).parent / "metrics").glob("*.py"))
    assert "._mean" not in text
    assert "._ci" not in text


def test_no_module_reads_a_private_attribute_of_a_library_but_the_listed_ones() -> None:
    """What no class or module of ours defines, and begins with an underscore, is a library's."""
    trees = [ast.parse(path.read_text()) for path in sorted(Path(private_parts.__file__).parent.rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    ours |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    ours |= {
        node.attr for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in ("self", "cls")
    }  # fmt: skip
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-z]\w*", node.attr)} - ours
    asked = {
        node.args[1].value for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr") and isinstance(node.args[1], ast.Constant)
    }  # fmt: skip
    read |= {name for name in asked if isinstance(name, str) and re.fullmatch(r"_[a-z]\w*", name)}
    documented = {"_exit", "_replace"}  # of os, and of named tuples
    assert read - documented - {part.part.rpartition(".")[2] for part in PARTS} == set()


def test_listing_the_parts_imports_no_library() -> None:
    import subprocess

    code = "import sys, llmkit.private_parts; print([m for m in ('torch', 'transformers', 'sacrebleu', 'docx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
