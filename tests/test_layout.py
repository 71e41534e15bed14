"""The rooms of the house: imports point downwards, heavy libraries stay inside functions, modules stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmkit
from llmkit import errors

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
    *(
        f"engines/torch/{name}.py"
        for name in (
            "activations",
            "engine",
            "batch",
            "caches",
            "divergence",
            "onednn",
            "rounds",
            "scoring",
            "side_by_side",
            "shared_contexts",
            "sampling",
            "constraints",
            "products",
            "wide_products",
        )
    ),
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
MODULES = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

#: The errors that a run may end with.
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.LlmkitError)}


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


def is_room(name: str) -> bool:
    return (PACKAGE / name).with_suffix(".py").exists() or (PACKAGE / name).is_dir()


def test_imports_point_downwards() -> None:
    upwards = []
    for path, tree in MODULES.items():
        if str(path) == "__init__.py":
            continue
        for name in (name for node in ast.walk(tree) for name in imports(node)):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package == "llmkit" and other and is_room(other) and floor(other) > floor(room(path)):
                upwards.append(f"{path} imports {name}")
    assert upwards == []


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
    pending: list[ast.AST] = [*MODULES[path].body]
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


def test_heavy_libraries_are_imported_inside_functions() -> None:
    tops = {path: [name for node in tree.body for name in imports(node)] for path, tree in MODULES.items()}
    heavy = [f"{path} imports {name}" for path, names in tops.items() for name in names if name.split(".")[0] in HEAVY]
    assert [line for line in heavy if line.split(" ", 1)[0] not in MAY_IMPORT_HEAVY] == []


def test_modules_stay_under_400_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py"))}
    assert {str(path): lines for path, lines in lengths.items() if lines > 400} == {}


def test_functions_stay_under_50_lines() -> None:
    """Of the body: a command's parameters and a docstring do not count."""
    lengths: dict[str, int] = {}
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
                lengths[f"{path}:{node.lineno} {node.name}"] = (body[-1].end_lineno or 0) - body[0].lineno + 1
    assert {function: lines for function, lines in lengths.items() if lines > 50} == {}


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods without an underscore; what can be called like one, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__call__"):
            yield node


PUBLIC = [(path, function) for path, tree in MODULES.items() for function in public_functions(tree)]


def test_a_docstring_says_the_shapes_of_tensors_and_arrays() -> None:
    """As [rows, columns], or that it is a scalar or of any shape."""
    silent = []
    for path, function in PUBLIC:
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        kinds = [ast.unparse(kind) for kind in (*(argument.annotation for argument in given), function.returns) if kind is not None]
        says = re.search(r"\[[\w .,*+]+\]|scalar|any shape", ast.get_docstring(function) or "")
        if any(re.search(r"torch\.Tensor|\bNumbers\b|np\.ndarray", kind) for kind in kinds) and not says:
            silent.append(f"{path}: {function.name}")
    assert silent == []


def raised(function: ast.FunctionDef) -> set[str]:
    """Names of the errors of ours that the function itself raises."""
    calls = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call.func) for call in calls} & ERRORS


def test_a_docstring_says_the_errors_that_are_raised() -> None:
    """By name, by that of the error that it is a kind of, or as those of another function."""
    silent = []
    for path, function in PUBLIC:
        text = ast.get_docstring(function) or ""
        for name in () if room(path) == "cli" else sorted(raised(function)):
            kinds = [kind.__name__ for kind in getattr(errors, name).__mro__]
            if not re.search(rf"Raises (as|what) `|\b({'|'.join(kinds)})\b", text):
                silent.append(f"{path}:{function.lineno} {function.name} raises {name}")
    assert silent == []


def test_messages_of_the_library_name_settings_and_no_options() -> None:
    """A program that calls the library has no command line: a setting stands in backticks, and the command line writes its option."""
    named: list[str] = []
    for path, tree in MODULES.items():
        # a page has CSS variables, a card has commands that a reader copies
        if room(path) in {"cli", "__main__"} or str(path) in {"reports/page.py", "training/asking.py", "training/card.py"}:
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds)}
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value not in docstrings]
        named += [f"{path}: {text}" for text in texts if re.search(r"(?<![\w-])--[a-z]", text)]
    assert named == []


def declared_options(path: Path) -> set[str]:
    """Long names of the options that a module of the command line declares."""
    calls = [n for n in ast.walk(MODULES[path]) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("option")]
    words = [a.value for call in calls for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return {word for word in words if word.startswith("--")}


def test_an_option_is_declared_in_one_place() -> None:
    where: dict[str, list[str]] = {}
    for path in (path for path in MODULES if room(path) == "cli"):
        for name in declared_options(path):
            where.setdefault(name, []).append(str(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1 and name not in MEANS_ANOTHER_THING} == {}
