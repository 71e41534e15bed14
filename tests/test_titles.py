"""Titles and cells, which end no sentence: no model's full stop is behind their translations."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run

from llmkit.translation.pieces import without_stop


@pytest.mark.parametrize(
    ("text", "translation", "expected"),
    [
        ("My house", "Ma maison.", "Ma maison"),
        ("My house (red)", "我的房子。", "我的房子"),
        ("My house.", "Ma maison.", "Ma maison."),
        ('"My house."', "« Ma maison ».", "« Ma maison »."),
        ("Where is it?", "Dites où.", "Dites où."),
        ("Cats, dogs and so on", "Chats, chiens, etc.", "Chats, chiens, etc."),
        ("In the US", "Aux U.S.A.", "Aux U.S.A."),
        ("Wait", "Attends...", "Attends..."),
        ("Name:", "Nom.", "Nom."),
    ],
)
def test_a_title_gets_no_full_stop(text: str, translation: str, expected: str) -> None:
    assert without_stop(text, translation) == expected


def test_headings_and_cells_of_a_document_get_no_full_stop(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "a.md"
    source.write_text("# I am tired\n\nI am tired.\n\n| I am tired |\n|---|\n| I am tired |\n", encoding="utf-8")
    assert run("translate", "-i", source, "-o", tmp_path / "b.md", "--to", "fr").code == 0
    made = (tmp_path / "b.md").read_text(encoding="utf-8")
    assert made == "# Je suis fatigué\n\nJe suis fatigué.\n\n| Je suis fatigué |\n|---|\n| Je suis fatigué |\n"
