"""Languages by every name and code that people write: ISO 639-2/B, old codes, scripts and regions, accents left out, other names."""

from __future__ import annotations

import pytest
from test_language_names import facts

from llmkit.errors import UsageError
from llmkit.translation.families import family
from llmkit.translation.languages import language

CODES = {
    "sq": "alb", "hy": "arm", "eu": "baq", "my": "bur", "zh": "chi", "cs": "cze", "nl": "dut", "fr": "fre", "ka": "geo", "de": "ger",
    "el": "gre", "is": "ice", "mk": "mac", "mi": "mao", "ms": "may", "fa": "per", "ro": "rum", "sk": "slo", "bo": "tib", "cy": "wel",
    "he": "iw", "id": "in", "yi": "ji", "sr-Latn": "sh", "nb": "nob", "pt-BR": "pt_BR", "zh-Hant": "zh_Hant", "sr-Cyrl": "srp_Cyrl",
}  # fmt: skip
NAMES = {
    "es": ("Español", "espanol", "ESPAÑOL", "Castilian"), "cs": ("Čeština", "cestina"), "fr": ("Français", "francais"),
    "nb": ("Norwegian Bokmål", "Norwegian Bokmal", "Bokmål"), "nn": ("Nynorsk",), "mi": ("Māori", "Maori"), "vo": ("Volapük", "Volapuk"),
    "gn": ("Guaraní", "Guarani"), "tr": ("Türkçe", "turkce"), "fa": ("Farsi", "Persian"), "zh": ("Mandarin", "Simplified Chinese"),
    "zh-Hant": ("Traditional Chinese", "Chinese (Traditional)"), "pt-BR": ("Brazilian Portuguese", "Portuguese (Brazil)"),
    "ro": ("Moldovan", "Romanian"), "ckb": ("Sorani",), "kmr": ("Kurmanji",), "ug": ("Uighur", "Uyghur"), "si": ("Sinhalese",),
    "en-GB": ("British English",), "nl-BE": ("Flemish",), "ca": ("Valencian",), "ny": ("Chichewa",), "ky": ("Kirghiz",),
}  # fmt: skip
OPUS = (
    "cmn_Hans cmn_Hant zho_Hant srp_Latn srp_Cyrl bos_Latn hrv nob nno fil ron kmr_Latn ara ita spa por lat_Latn zsm_Latn ind uzb_Latn "
    "uzb_Cyrl tat deu nds"
)


@pytest.mark.parametrize(("tag", "code"), CODES.items())
def test_every_kind_of_code_is_a_language(tag: str, code: str) -> None:
    assert language(code).tag == tag


@pytest.mark.parametrize(("tag", "name"), [(tag, name) for tag, names in NAMES.items() for name in names])
def test_a_language_is_known_by_its_names_with_and_without_accents(tag: str, name: str) -> None:
    assert language(name).tag == tag
    assert language(f"  {name.lower()} ").tag == tag


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("zh", "cmn_Hans"), ("zh-TW", "zho_Hant"), ("zh-Hans", "cmn_Hans"), ("sr", "srp_Cyrl"), ("sr-Latn", "srp_Latn"), ("sh", "srp_Latn"),
        ("no", "nob"), ("nn", "nno"), ("tl", "fil"), ("mo", "ron"), ("ku", "kmr_Latn"), ("ms", "zsm_Latn"), ("uz-Cyrl", "uzb_Cyrl"),
        ("uz", "uzb_Latn"), ("ger", "deu"), ("pt-BR", "por"), ("Low German", "nds"), ("in", "ind"),
    ],
)  # fmt: skip
def test_an_opus_model_of_many_languages_is_asked_for_the_one_that_is_meant(asked: str, code: str) -> None:
    tokens = tuple(f">>{each}<<" for each in OPUS.split())
    model = family(facts("marian", reference="opus-mt-tc-big-en-mul", tokens=tokens))
    assert model.direction(language("en"), language(asked)).prefix == f">>{code}<< "


@pytest.mark.parametrize("name", ["Frensh", "Klingonese", "Bokmalish", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no language is known"):
        language(name)
