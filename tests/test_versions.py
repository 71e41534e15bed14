"""The lowest versions of libraries that an installation may have: none with a hole that llmkit's promises need closed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
#: Library → the last release with the hole.
HOLES = [
    ("torch", "2.9.1", "CVE-2026-24747: weights_only loading runs code"),
    ("transformers", "5.2.0", "CVE-2026-4372: _attn_implementation_internal loads code"),
    ("transformers", "5.4.0", "CVE-2026-5241"),
    ("peft", "0.19.1", "huggingface/peft 3085: megatron_core imports any module"),
    ("filelock", "3.20.0", "CVE-2025-68146"),
    ("filelock", "3.20.2", "CVE-2026-22701"),
    ("jinja2", "3.1.5", "CVE-2025-27516: a template leaves the sandbox"),
]


def requirements() -> dict[str, Requirement]:
    listed = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    return {r.name: r for r in map(Requirement, listed)}


@pytest.mark.parametrize(("library", "release", "hole"), HOLES)
def test_a_release_with_a_known_hole_is_not_accepted(library: str, release: str, hole: str) -> None:
    assert not requirements()[library].specifier.contains(Version(release)), hole


@pytest.mark.parametrize("library", sorted({name for name, _, _ in HOLES}))
def test_the_pinned_version_is_accepted(library: str) -> None:
    pinned = dict(line.split("==") for line in (PROJECT.parent / "constraints.txt").read_text().splitlines() if "==" in line)
    version = {name.lower(): value for name, value in pinned.items()}[library].split("+")[0].split()[0]
    assert requirements()[library].specifier.contains(Version(version))
