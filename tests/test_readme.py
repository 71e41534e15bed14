"""The README's commands are the ones that CI runs, its links render anywhere, and its translation says the same."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
#: Where files of this repository are shown, and where pictures of it are had.
PLACES = ("https://github.com/llmkit/llmkit/blob/main/", "https://raw.githubusercontent.com/llmkit/llmkit/main/")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def readme_command(name: str) -> str:
    return str(script("readme").command(name, ROOT / "README.md"))


def test_ci_runs_the_commands_that_the_readme_shows() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert 'eval "$(python3 scripts/readme.py run)"' in script
    assert 'eval "$(python3 scripts/readme.py test)"' in script


def test_the_first_command_installs_and_writes_a_story_offline() -> None:
    first = readme_command("run")
    assert first.startswith("python3 -m venv .venv && . .venv/bin/activate && python -m pip install")
    assert "llmkit generate --offline" in first
    assert "\n" not in first


def test_the_second_command_installs_and_runs_the_tests() -> None:
    second = readme_command("test")
    assert second.startswith("python3 -m venv .venv && . .venv/bin/activate && python -m pip install")
    assert second.endswith("python -m pytest")
    assert "\n" not in second


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_links_are_absolute_and_lead_to_files_that_are_there(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    anchors = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors
            continue
        assert link.startswith("https://")
        for place in PLACES:
            if link.startswith(place):
                assert (ROOT / link.removeprefix(place).partition("?")[0]).is_file(), link


def test_the_chinese_readme_has_the_same_sections_code_and_tables() -> None:
    english, chinese = (readme.read_text(encoding="utf-8") for readme in READMES)

    def headings(text: str) -> list[str]:
        return re.findall(r"^#+(?= )", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)

    def blocks(text: str) -> list[str]:
        return re.findall(r"```.*?```", text, re.DOTALL)

    def rows(text: str) -> int:
        return len(re.findall(r"^\|", text, re.MULTILINE))

    assert headings(chinese) == headings(english)
    assert blocks(chinese) == blocks(english)
    assert rows(chinese) == rows(english)
    assert all(f"blob/main/{other.name})" in text for other, text in zip(READMES[::-1], (english, chinese), strict=True))


@pytest.mark.skipif(shutil.which("jq") is None, reason="a command of the picture needs jq")
def test_the_picture_shows_what_its_commands_print(forking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", forking)

    def settled(picture: str) -> str:
        """Without times, and with numbers as far as processors agree on them."""
        return re.sub(r"(\d+\.\d{4})\d*", r"\1", re.sub(r"in [\d.]+ s, [\d,]+ tokens/s", "in a moment", picture))

    picture = script("picture")
    assert settled(picture.svg(picture.screen())) == settled(picture.PICTURE.read_text(encoding="utf-8"))
