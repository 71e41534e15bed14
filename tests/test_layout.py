"""The rooms of the house: imports point downwards, heavy libraries stay inside functions, modules stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmkit

PACKAGE = Path(llmkit.__file__).parent
TESTS = Path(__file__).parent
#: From the ground up; a room may import those before it, and itself.
FLOORS = [
    {"errors", "version"},
    {"records", "files", "private_parts"},
    {"rows", "models"},
    {"engines", "metrics"},
    {"jobs", "translation"},
    {"tasks", "training", "reports"},
    {"api"},
    {"cli", "__main__"},
]
HEAVY = {
    "torch",
    "ctranslate2",
    "openai",
    "transformers",
    "datasets",
    "peft",
    "evaluate",
    "numpy",
    "pyarrow",
    "sacrebleu",
    "huggingface_hub",
    "ray",
}
#: Modules that nothing imports before a model is loaded or a number computed.
MAY_IMPORT_HEAVY = {
    *(f"engines/torch/{name}.py" for name in ("engine", "batch", "divergence", "onednn", "rounds", "scoring", "sampling", "constraints")),
    *(f"training/{name}.py" for name in ("arguments", "batches", "footprint", "loss", "preference", "trainer")),
    *(
        f"metrics/{name}.py"
        for name in ("divergence", "intervals", "macro", "overlap", "perplexity", "significance", "statistics", "words")
    ),
    "reports/histogram.py",
    "reports/page.py",
}
#: Options that a command declares again because they mean another thing there, each with what differs.
MEANS_ANOTHER_THING = {
    "--batch-size": "rows per micro-batch of training: always a number",
    "--device": "where the sum of a merge is made: the CPU by default",
    "--dtype": "the precision of the merged weights: never 'auto'",
    "--from": "the languages of training rows: not detected",
    "--max-length": "of training examples, not of prompt and answer",
    "--model": "a base that an adapter names itself; what is scored instead of saved outputs",
    "--seed": "of row order and initial weights",
    "--to": "the languages of training rows",
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


def module(name: str) -> Path | None:
    """The file of the module of ours that `name` (a module, or something in one) stands in."""
    parts = name.split(".")[1:]
    for end in range(len(parts), -1, -1):
        for path in (Path(*parts[:end], "__init__.py"), Path(*parts[:end]).with_suffix(".py") if end else Path("__init__.py")):
            if (PACKAGE / path).exists():
                return path
    return None


def edges(path: Path, *, typing: bool) -> set[Path]:
    """The modules of ours that a module imports at its top; with `typing` also those imported for the type checker alone."""
    out: set[Path] = set()
    pending: list[ast.AST] = [*ast.parse((PACKAGE / path).read_text()).body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing:
            pending.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))
            out |= {found for name in imports(node) if name.startswith("llmkit") and (found := module(name))}
    return out - {path}


def circles(*, typing: bool) -> list[list[str]]:
    """Groups of modules that reach each other by imports."""
    graph = {path: edges(path, typing=typing) for path in MODULES}
    reach: dict[Path, set[Path]] = {}
    for start in graph:
        seen: set[Path] = set()
        pending = [*graph[start]]
        while pending:
            if (path := pending.pop()) not in seen:
                seen.add(path)
                pending.extend(graph[path])
        reach[start] = seen
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}
    return sorted(sorted(map(str, group)) for group in groups)


@pytest.mark.parametrize("typing", [False, True], ids=["at run time", "with imports for types"])
def test_no_imports_go_in_a_circle(typing: bool) -> None:
    assert circles(typing=typing) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_heavy_libraries_are_imported_inside_functions(path: Path) -> None:
    if str(path) in MAY_IMPORT_HEAVY:
        return
    tree = ast.parse((PACKAGE / path).read_text())
    for node in tree.body:
        for name in imports(node):
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name} at its top"


@pytest.mark.parametrize("path", [*(PACKAGE / path for path in MODULES), *sorted(TESTS.rglob("*.py"))], ids=lambda path: path.name)
def test_modules_stay_under_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_functions_stay_under_50_lines(path: Path) -> None:
    """Of the body: a command's parameters and a docstring do not count."""
    tree = ast.parse((PACKAGE / path).read_text())
    lengths: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            lengths.append((node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1))
    assert [(name, lines) for name, lines in lengths if lines > 50] == []


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods without an underscore; what can be called like one, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__call__"):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_docstring_says_the_shapes_of_tensors_and_arrays(path: Path) -> None:
    """As [rows, columns], or that it is a scalar or of any shape."""
    silent = []
    for function in public_functions(ast.parse((PACKAGE / path).read_text())):
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        kinds = [ast.unparse(kind) for kind in (*(argument.annotation for argument in given), function.returns) if kind is not None]
        says = re.search(r"\[[\w .,*+]+\]|scalar|any shape", ast.get_docstring(function) or "")
        if any(re.search(r"torch\.Tensor|\bNumbers\b|np\.ndarray", kind) for kind in kinds) and not says:
            silent.append(function.name)
    assert silent == []


@pytest.mark.parametrize("path", [m for m in MODULES if room(m) not in {"cli", "__main__"}], ids=str)
def test_messages_of_the_library_name_settings_and_no_options(path: Path) -> None:
    """A program that calls the library has no command line: a setting stands in backticks, and the command line writes its option."""
    if str(path) in {"reports/page.py", "training/asking.py", "training/card.py"}:  # CSS variables; commands that a reader copies
        return
    tree = ast.parse((PACKAGE / path).read_text())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds)}
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value not in docstrings]
    assert [text for text in texts if re.search(r"(?<![\w-])--[a-z]", text)] == []


def declared_options(path: Path) -> set[str]:
    """Long names of the options that a module of the command line declares."""
    calls = [
        n for n in ast.walk(ast.parse((PACKAGE / path).read_text())) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("option")
    ]
    words = [a.value for call in calls for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return {word for word in words if word.startswith("--")}


def test_an_option_is_declared_in_one_place() -> None:
    where: dict[str, list[str]] = {}
    for path in (path for path in MODULES if room(path) == "cli"):
        for name in declared_options(path):
            where.setdefault(name, []).append(str(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1 and name not in MEANS_ANOTHER_THING} == {}
