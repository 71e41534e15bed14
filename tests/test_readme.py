"""The README's commands are the ones that CI runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def readme_command(name: str) -> str:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.command(name, ROOT / "README.md"))


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
