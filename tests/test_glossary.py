"""Terms that are asked for, and more than one translation of a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

from llmkit.errors import InputError, UsageError
from llmkit.translation.glossary import Glossary, Terms
from llmkit.translation.glossary_files import read_glossary
from llmkit.translation.languages import language


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


@pytest.mark.parametrize(
    ("translation", "term", "target", "alone", "expected"),
    [
        ("L'homme est ici.", "man", "gars", "L'homme.", "Le gars est ici."),
        ("J'aime la maison.", "house", "école", "La maison.", "J'aime l'école."),
        ("Il parle de la maison.", "house", "demeure", "maison", "Il parle de la demeure."),
        ("L'eau de l'ami.", "water", "jus", "L'eau de l'eau.", "Le jus de l'ami."),
        ("C'est bon.", "AI", "IA", "C'est ça !", "C'est bon."),
    ],
)
def test_a_term_that_is_put_in_breaks_no_word(translation: str, term: str, target: str, alone: str, expected: str) -> None:
    glossary = Glossary(((term, target),)).between("en", "fr")
    assert glossary.placed(f"The {term}.", translation, lambda _: [alone]) == expected


def test_violations_of_a_glossary_are_counted(tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("cat\tchat\nCat food\tcroquettes\n")
    glossary = read_glossary(str(tmp_path / "terms.tsv")).between("en", "fr")
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


WORDS = Glossary(
    (
        ("house", "maison"), ("cat", "chat"), ("kitten", "chat"), ("black cat", "chat noir"), ("IT", "informatique"), ("C++", "C++"),
        ("U.S.", "États-Unis"), ("city", "ville"), ("walk", "marche"), ("universe", "univers"), ("Apple", "Apple"), ("apple", "pomme"),
    )
).between("en", "fr")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The houses are red.", ["house"]), ("House, HOUSE and house's", ["house", "house", "house"]), ("I like it.", []),
        ("I like IT.", ["IT"]), ("Black cats and cats", ["black cat", "cat"]), ("two cities", ["city"]),
        ("he walked, she walks", ["walk", "walk"]),
        ("the university", []), ("the universes", ["universe"]), ("C++ in the U.S.", ["C++", "U.S."]), ("a concatenation, a household", []),
        ("an apple of Apple", ["apple", "Apple"]), ("my_house", []),
    ],
)  # fmt: skip
def test_terms_are_found_as_whole_words_in_any_form(text: str, terms: list[str]) -> None:
    assert [found.term for found in WORDS.find(text)] == terms


def test_irregular_plurals_are_found_and_are_plurals_in_the_translation() -> None:
    found = Terms(("man", "woman", "leaf", "mouse"), "en").find("The Men and women, a leaf of leaves and three mice; a menu.")
    assert [each.term for each in found] == ["man", "woman", "leaf", "leaf", "mouse"]
    glossary = Glossary((("woman", "dame"),), "en", "fr")
    assert glossary.placed("The women are here.", "Les femmes sont ici.", lambda _: ["Les femmes."]) == "Les dames sont ici."


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("The houses.", "Les maisons.", 0), ("The cat.", "Le chaton.", 1), ("The cat and the kitten.", "Le chat.", 1),
        ("The black cat and the cat", "Le chat noir et le chat", 0), ("The black cat and the cat", "Le chat noir", 1),
        ("I walk", "La MARCHE", 0),
    ],
)  # fmt: skip
def test_each_term_counts_and_a_translation_may_be_inflected(source: str, translation: str, lost: int) -> None:
    assert len(WORDS.violations(source, translation)) == lost


def test_terms_of_scripts_without_spaces_are_found_inside() -> None:
    japanese = Glossary((("猫", "cat"), ("東京", "Tokyo"))).between("ja", "en")
    assert [found.term for found in japanese.find("東京の猫です")] == ["東京", "猫"]
    assert japanese.violations("東京の猫です", "A cat in Tokyo") == []


@pytest.mark.parametrize(
    ("source", "translation", "alone", "expected"),
    [
        ("I like the house.", "J'aime le bâtiment.", ["Le bâtiment."], "J'aime le maison."),
        ("The houses are red.", "Les bâtiments sont rouges.", ["bâtiment"], "Les maisons sont rouges."),
        ("House", "Bâtiment", ["le bâtiment"], "Maison"),
        ("The house and the house", "Le bâtiment et la maison", ["bâtiment"], "Le maison et la maison"),
        ("I like the house.", "J'aime bien.", ["Le bâtiment."], "J'aime bien."),
    ],
)
def test_a_term_stands_where_the_model_wrote_another_word_for_it(source: str, translation: str, alone: list[str], expected: str) -> None:
    assert WORDS.placed(source, translation, lambda _: alone) == expected


def test_a_forced_term_leaves_the_sentence_whole_and_the_answers_distinct(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("house,demeure\n")
    options = ("--to", "fr", "--glossary", tmp_path / "g.csv", "--num-beams", "2", "--n-best", "2", "--json", "-q")
    done = run("translate", "I like the house.", *options)
    found = json.loads(done.out)
    assert done.code == 0, done.err
    assert len(set(found["translations"])) == 2
    for text in found["translations"]:
        assert "demeure" in text
        assert text.count(".") == 1


def test_a_term_that_has_no_place_is_an_error_and_the_sentence_stays_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("the,zzz\n")
    done = run("translate", "I like the house.", "--to", "fr", "--glossary", tmp_path / "g.csv", "--num-beams", "1")
    assert done.code == 3
    assert "glossary: 'the' is not 'zzz'" in done.err
    assert done.out.count(".") == 1


def test_the_pronoun_is_no_acronym(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("IT,informatique\n")
    with_terms = run("translate", "I like it.", "--to", "fr", "--glossary", tmp_path / "g.csv", "--num-beams", "1", "-q")
    assert with_terms.out == run("translate", "I like it.", "--to", "fr", "--num-beams", "1", "-q").out


MARTIF = """<?xml version="1.0"?>
<martif type="TBX" xml:lang="en"><text><body>
<termEntry><langSet xml:lang="en"><tig><term>house</term></tig><tig><term>home</term></tig></langSet>
<langSet xml:lang="fr"><tig><term>maison</term></tig></langSet><langSet xml:lang="de"><tig><term>Haus</term></tig></langSet></termEntry>
<termEntry><langSet xml:lang="en-US"><ntig><termGrp><term>cat</term></termGrp></ntig></langSet></termEntry>
</body></text></martif>
"""
TBX_3 = """<tbx type="TBX-Basic" style="dca" xml:lang="en" xmlns="urn:iso:std:iso:30042:ed-2"><text><body>
<conceptEntry id="1"><langSec xml:lang="en"><termSec><term>house</term></termSec></langSec>
<langSec xml:lang="fr"><termSec><term>maison</term></termSec></langSec></conceptEntry></body></text></tbx>
"""


def test_a_tbx_file_is_a_glossary_of_its_languages(tmp_path: Path) -> None:
    path = tmp_path / "a.tbx"
    path.write_text(MARTIF)
    assert read_glossary(str(path), language("en"), language("fr")).terms == (("house", "maison"), ("home", "maison"))
    assert read_glossary(str(path), language("en"), language("de")).terms == (("house", "Haus"), ("home", "Haus"))
    with pytest.raises(UsageError, match=r"several languages \(de, en, en-US, fr\)"):
        read_glossary(str(path), None, language("fr"))
    path.write_text(TBX_3)
    assert read_glossary(str(path), None, language("fr")).terms == (("house", "maison"),)
    assert read_glossary(str(path), None, language("English")).terms == (("maison", "house"),)
    path.write_text("<tbx><unclosed>")
    with pytest.raises(InputError, match="is not XML"):
        read_glossary(str(path), language("en"), language("fr"))


@pytest.mark.parametrize(
    "table",
    ["house;maison\nbig, red;grand\n", "source;target\nhouse;maison\n'x';y\n", "Term,Translation,note\nhouse,maison,n\na,b,n\n",
     "en,fr\nhouse,maison\na,b\n", "en-US\tFrench\nhouse\tmaison\na\tb\n"],
)  # fmt: skip
def test_a_table_may_be_separated_by_semicolons_and_name_its_columns(tmp_path: Path, table: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table)
    terms = read_glossary(str(path), language("en"), language("fr")).terms
    assert len(terms) == 2
    assert terms[0] == ("house", "maison")


def test_terms_that_are_codes_of_other_languages_are_terms(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("no,si\nit,le\n")
    assert len(read_glossary(str(path), language("en"), language("fr")).terms) == 2


def test_a_glossarys_entity_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.tbx").write_text(f'<!DOCTYPE tbx [<!ENTITY e SYSTEM "{tmp_path}/secret">]>' + TBX_3.replace("maison", "&e;maison"))
    assert "secret" not in str(read_glossary(str(tmp_path / "a.tbx"), None, language("fr")).terms)


@pytest.mark.parametrize(
    ("term", "wanted", "source", "answer", "alone", "placed"),
    [
        ("US", "États-Unis", "It is in the US.", "C'est dans les USA.", "USA et les États.", "C'est dans les États-Unis."),
        (
            "garden",
            "potager",
            "The gardens are big.",
            "Les gardiens sont grands.",
            "Les gardiens sont des gardes.",
            "Les potagers sont grands.",
        ),
        ("cloud", "nuage", "The cloud is here.", "Le cloud est ici.", "Le cloute", "Le nuage est ici."),
    ],
)
def test_a_term_takes_the_place_of_its_word_and_not_of_an_article_or_a_verb(
    term: str, wanted: str, source: str, answer: str, alone: str, placed: str
) -> None:
    glossary = Glossary(((term, wanted),)).between("en", "fr")
    assert glossary.placed(source, answer, lambda _: [alone]) == placed
    assert glossary.violations(source, placed) == []
