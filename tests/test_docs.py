"""The documentation is true: its sessions are run, its reference is what the code declares, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.md"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page in PAGES if "```console" in page.read_text()], ids=lambda page: page.stem)
def test_a_session_gives_what_its_page_shows(page: Path, forking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", forking)
    _, changed = script("sessions").differences(page)
    assert changed == [], "python scripts/sessions.py docs/*.md writes what the sessions give now"


@pytest.mark.parametrize(("file", "made"), [("reference.md", "markdown"), ("llmkit.1", "man_page")])
def test_the_reference_is_what_the_commands_declare(file: str, made: str) -> None:
    assert (ROOT / "docs" / file).read_text() == getattr(script("reference"), made)(), "python scripts/reference.py writes it anew"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as renderers of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").rglob("*.md"))], ids=lambda page: page.stem
)
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_is_in_the_index(page: Path) -> None:
    assert page.stem == "README" or f"({page.name})" in (ROOT / "docs" / "README.md").read_text()


def test_an_option_that_a_page_names_is_one_of_ours() -> None:
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", (ROOT / "docs" / "reference.md").read_text()))
    torchrun = {"--nproc-per-node", "--nnodes", "--node-rank", "--rdzv-backend", "--rdzv-endpoint", "--shutdown-timeout"}
    accelerate = {"--multi_gpu", "--num_processes", "--num_machines", "--machine_rank", "--main_process_ip", "--main_process_port"}
    accelerate |= {"--cpu", "--mpirun_hostfile", "--use_fsdp"}
    pip = {"--constraint", "--constraints", "--editable", "--index-url", "--no-index", "--find-links", "--wheel-dir", "--no-cache-dir"}
    pip |= {"--break-system-packages", "--pip-args"}
    slurm = {"--array", "--job-name", "--gres", "--cpus-per-task", "--time", "--signal", "--requeue"}
    vllm = {"--enable-lora", "--max-lora-rank", "--lora-modules"}
    # of `python -m bench`, uv, hf, docker and mkdocs
    others = {"--help", "--only", "--texts", "--double", "--torch-backend", "--local-dir", "--rm", "--gpus", "--strict"}
    others |= {"--shorter", "--steps", "--processor-time", "--pairs", "--rows"}
    for page in (*PAGES, ROOT / "README.md", ROOT / "README.zh-CN.md", *EXAMPLES):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", page.read_text()))
        assert named - known - others - torchrun - accelerate - pip - slurm - vllm == set(), page.name


def test_every_picture_is_made_by_a_script_and_shown() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("scripts/*.py"), ROOT / "CONTRIBUTING.md"])
    pages = "".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    pictures = [path.name for path in (ROOT / "docs" / "img").iterdir()]
    assert [name for name in pictures if name not in scripts or f"img/{name}" not in pages] == []


def test_the_site_has_every_page() -> None:
    import yaml

    def pages(entries: list[object]) -> list[str]:
        inner = [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in entries]
        return [name for entry in inner for name in (pages(entry) if isinstance(entry, list) else [str(entry)])]

    assert sorted(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == [page.name for page in PAGES]


def test_the_installation_page_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"test"}
    table = (ROOT / "docs/install.md").read_text().partition("| extra | for |")[2].partition("```")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras
