"""Terms that are asked for, and more than one translation of a text."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Run


def test_a_glossary_is_kept_or_its_violation_told(run: Run, tmp_path: Path) -> None:
    terms = tmp_path / "terms.csv"
    terms.write_text("source,target\nhouse,demeure\nstation,gare\n")
    done = run("translate", "I like the house.", "--to", "fr", "--glossary", terms, "-q")
    assert done.code == 0
    assert "demeure" in done.out
    assert "gare" in run("translate", "Where is the station?", "--to", "fr", "--glossary", terms, "-q").out
    terms.write_text("house\n")
    broken = run("translate", "Hi.", "--to", "fr", "--glossary", terms)
    assert broken.code == 2
    assert "line 1" in broken.err
    assert run("translate", "Hi.", "--to", "fr", "--glossary", tmp_path / "none.csv").code == 2


def test_violations_of_a_glossary_are_counted(tmp_path: Path) -> None:
    from llmkit.translation.glossary import read_glossary

    (tmp_path / "terms.tsv").write_text("cat\tchat\nCat food\tcroquettes\n")
    glossary = read_glossary(str(tmp_path / "terms.tsv"))
    assert glossary.violations("The cat and the cat.", "Le chat et le chat.") == []
    assert glossary.violations("The cat and the cat.", "Le chat.") == ["glossary: 'cat' is not 'chat'"]
    assert glossary.violations("Cat food", "croquettes") == []
    assert glossary.violations("Concatenate", "Concaténer") == []


def test_several_translations_and_their_scores(run: Run, tmp_path: Path) -> None:
    done = run("translate", "I like the house.", "--to", "fr", "--n-best", "3", "--scores", "--json", "-q")
    found = json.loads(done.out)
    assert len(set(found["translations"])) == 3
    assert found["translations"][0] == found["translation"]
    assert -5 < found["score"] < 0
    lines = run("translate", "I like the house.", "--to", "fr", "--n-best", "3", "-q").out.splitlines()
    assert lines == found["translations"]
    assert run("translate", "Hi.", "--to", "fr", "--n-best", "5", "--num-beams", "2").code == 2
    assert run("translate", "Hi.", "--to", "fr", "--n-best", "0").code == 2
