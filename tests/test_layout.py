"""The rooms of the house: imports point downwards, heavy libraries stay inside functions, modules stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llmkit

PACKAGE = Path(llmkit.__file__).parent
#: From the ground up; a room may import those before it, and itself.
FLOORS = [
    {"errors"},
    {"records", "files"},
    {"rows", "models"},
    {"engines", "metrics"},
    {"jobs", "translation"},
    {"tasks", "training", "reports"},
    {"cli", "__main__"},
]
HEAVY = {"torch", "transformers", "datasets", "peft", "evaluate", "numpy", "pyarrow", "sacrebleu", "huggingface_hub"}
#: Modules that nothing imports before a model is loaded or a number computed.
MAY_IMPORT_HEAVY = {
    *(f"engines/torch/{name}.py" for name in ("engine", "onednn", "scoring", "sampling", "constraints")),
    *(f"training/{name}.py" for name in ("batches", "loss", "trainer")),
    *(f"metrics/{name}.py" for name in ("intervals", "overlap", "perplexity", "significance", "statistics", "words")),
    "reports/page.py",
}
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", [m for m in MODULES if m.name != "__init__.py" or len(m.parts) > 1], ids=str)
def test_imports_point_downwards(path: Path) -> None:
    tree = ast.parse((PACKAGE / path).read_text())
    for node in ast.walk(tree):
        for name in imports(node):
            parts = name.split(".")
            if parts[0] == "llmkit" and len(parts) > 1 and (PACKAGE / parts[1]).with_suffix(".py").exists() | (PACKAGE / parts[1]).is_dir():
                assert floor(parts[1]) <= floor(room(path)), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_heavy_libraries_are_imported_inside_functions(path: Path) -> None:
    if str(path) in MAY_IMPORT_HEAVY:
        return
    tree = ast.parse((PACKAGE / path).read_text())
    for node in tree.body:
        for name in imports(node):
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name} at its top"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_stay_under_400_lines(path: Path) -> None:
    assert len((PACKAGE / path).read_text().splitlines()) <= 400
