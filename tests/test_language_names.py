"""Languages: whatever a model lists is accepted, macrolanguages mean their usual member, Marian's direction is that of its name."""

from __future__ import annotations

import string

import langcodes
import pytest
from conftest import Run
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as FAIRSEQ
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from llmkit.engines.base import ModelFacts
from llmkit.errors import UsageError
from llmkit.translation.checks import problems
from llmkit.translation.families import Family, family
from llmkit.translation.glossary import Glossary
from llmkit.translation.languages import PLAIN, detect, language


def facts(
    model_type: str, *, reference: str = "a", languages: tuple[str, ...] = (), tokens: tuple[str, ...] = (), encoder_decoder: bool = True
) -> ModelFacts:
    """A translation model's facts, empty but for what is given."""
    return ModelFacts(reference, model_type, encoder_decoder, False, languages, (), tokens)


def nllb() -> Family:
    return family(facts("m2m_100", tokens=tuple(NLLB)))


def test_every_name_tag_and_code_of_nllb_is_accepted() -> None:
    model = nllb()
    english = language("eng_Latn")
    for lang, code in model.targets:
        if code != "eng_Latn":
            for text in (lang.name, lang.tag, code):
                assert model.direction(english, language(text)).target_token == code, text


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("ar", "arb_Arab"), ("Arabic", "arb_Arab"), ("no", "nob_Latn"), ("sw", "swh_Latn"), ("ms", "zsm_Latn"), ("lv", "lvs_Latn"),
        ("ne", "npi_Deva"), ("az", "azj_Latn"), ("uz", "uzn_Latn"), ("mn", "khk_Cyrl"), ("ps", "pbt_Arab"), ("yi", "ydd_Hebr"),
        ("om", "gaz_Latn"), ("qu", "quy_Latn"), ("ko", "kor_Hang"), ("tl", "tgl_Latn"), ("zh", "zho_Hans"), ("zh-TW", "zho_Hant"),
        ("fa", "pes_Arab"), ("Simplified Chinese", "zho_Hans"), ("nn", "nno_Latn"),
        ("ff", "fuv_Latn"), ("Dari", "prs_Arab"), ("Fulah", "fuv_Latn"), ("crh", "crh_Latn"),
        ("Crimean Tatar", "crh_Latn"), ("sat", "sat_Beng"),
    ],
)  # fmt: skip
def test_a_macrolanguage_is_its_usual_member(asked: str, code: str) -> None:
    assert nllb().direction(language("en"), language(asked)).target_token == code


@pytest.mark.parametrize(
    ("asked", "code"), [("nb", "__no__"), ("nn", "__no__"), ("Tagalog", "__tl__"), ("fil", "__tl__"), ("tgl_Latn", "__tl__")]
)
def test_members_meet_a_models_macrolanguage(asked: str, code: str) -> None:
    tokens = tuple(f"__{c}__" for c in FAIRSEQ["m2m100"])
    assert family(facts("m2m_100", tokens=tokens)).direction(language("en"), language(asked)).target_token == code


@pytest.mark.parametrize(
    ("name", "card", "source", "target"),
    [("opus-mt-tc-big-hu-en", ("en", "hu"), "hu", "en"), ("opus-mt-en-fr", ("en", "fr"), "en", "fr"), ("folder", ("en", "fr"), "en", "fr")],
)
def test_marians_direction_is_that_of_its_name(name: str, card: tuple[str, ...], source: str, target: str) -> None:
    model = family(facts("marian", reference=f"models/{name}", languages=card))
    direction = model.direction(language(source), None)
    assert (direction.source, direction.target) == (language(source), language(target))


def test_marians_groups_are_no_languages() -> None:
    tokens = (">>bel<<", ">>rus<<", ">>ukr<<")
    out_of = facts("marian", reference="opus-mt-tc-big-de-zle", languages=("be", "de", "ru", "uk", "zle"), tokens=tokens)
    assert family(out_of).direction(language("de"), language("ru")).prefix == ">>rus<< "
    into = family(facts("marian", reference="opus-mt-ROMANCE-en", languages=("fr", "it", "roa", "en")))
    assert [lang.tag for lang, _ in into.sources] == ["fr", "it"]
    assert into.direction(language("it"), None).target == language("en")


@pytest.mark.parametrize(("asked", "prefix"), [("fr", ">>fr<< "), ("pt", ">>pt<< "), ("pt-BR", ">>pt_BR<< "), ("fr-BE", ">>fr_BE<< ")])
def test_a_region_is_taken_where_it_is_asked_for(asked: str, prefix: str) -> None:
    tokens = (">>fr_BE<<", ">>fr<<", ">>pt_PT<<", ">>pt_br<<", ">>pt_BR<<", ">>pt<<")
    model = family(facts("marian", reference="opus-mt-en-roa", languages=("en",), tokens=tokens))
    assert model.direction(None, language(asked)).prefix == prefix


def test_a_language_is_told_among_those_that_the_model_reads() -> None:
    assert detect("Hello", [language("en")]) == language("en")
    assert detect("你好", [language("en"), language("zh"), language("fr")]) == language("zh")
    assert detect("Bonjour mes amis, il fait beau.") == language("fr")
    with pytest.raises(UsageError):
        language("Frensh")


def test_a_glossary_keeps_case_counts_each_term_and_knows_plurals() -> None:
    terms = (("kitten", "chat"), ("house", "maison"), ("cat", "chat"), ("IT", "informatique"))
    names = Glossary(terms).between("en", "fr")
    assert names.violations("I like it.", "J'aime ça.") == []
    assert names.violations("I like IT.", "J'aime ça.") == ["glossary: 'IT' is not 'informatique'"]
    assert names.violations("The houses are red.", "Les demeures.") == ["glossary: 'house' is not 'maison'"]
    assert names.violations("The houses are red.", "Les maisons.") == []
    assert names.violations("The cat.", "Le chaton.") == ["glossary: 'cat' is not 'chat'"]
    assert len(names.violations("The cat and the kitten.", "Le chat.")) == 1
    assert names.between("en", "fr").placed("House", "Demeure", lambda term: ["demeure."]) == "Maison"


def test_lost_placeholders_of_every_kind_are_told() -> None:
    for placeholder in (
        "%1$s",
        "%lu",
        "%%",
        "{user.name}",
        "{n:.2f}",
        "{0!r}",
        "{{ x }}",
        "{% if %}",
        "%(name)s",
        "${x}",
        "%@",
        "%n",
        "%L2",
    ):
        assert problems(f"The man {placeholder} sees the cat.", "L'homme voit le chat.", "eos"), placeholder
        assert not problems(f"The man {placeholder} sees the cat.", f"L'homme {placeholder} voit le chat.", "eos"), placeholder


def test_text_without_letters_is_no_work_for_a_model(run: Run) -> None:
    for text in ("😀🌷", "102", "12 / 7"):
        done = run("translate", text, "--to", "fr")
        assert (done.code, done.out) == (0, f"{text}\n")


def test_the_plain_codes_are_those_that_langcodes_leaves_as_they_are() -> None:
    codes = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
    valid = [code for code in codes if langcodes.get(code).is_valid()]
    tags = {code: langcodes.standardize_tag(langcodes.get(code).simplify_script(), macro=False) for code in valid}
    assert {code for code, tag in tags.items() if tag == code == langcodes.standardize_tag(code, macro=True)} == PLAIN
