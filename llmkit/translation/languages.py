"""Languages as people write them (names, ISO 639, BCP-47, FLORES codes), made one.

Knows names and codes, by langcodes; not models.
"""

from __future__ import annotations

import functools
import math
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmkit.errors import InputError, UsageError, did_you_mean


@dataclass(frozen=True)
class Language:
    """tag: BCP-47, as short as it can be ('fr', 'zh-Hant', 'pt-BR')."""

    tag: str

    @property
    def primary(self) -> str:
        """The language alone: 'pt' of 'pt-BR'."""
        return self.tag.split("-")[0]

    @property
    def script(self) -> str:
        """The script it is written in, the usual one where the tag names none: 'Latn'."""
        import langcodes

        return str(langcodes.get(self.tag).maximize().script)

    @property
    def name(self) -> str:
        """In English."""
        import langcodes

        return str(langcodes.get(self.tag).display_name())

    @property
    def region(self) -> str | None:
        """'BR' of 'pt-BR'."""
        if self.tag in PLAIN:
            return None
        import langcodes

        return langcodes.get(self.tag).territory

    def matches(self, other: Language) -> bool:
        """Whether they are the same language in the same script; regions may differ."""
        return self.primary == other.primary and _same_script(self.script, other.script)

    def related(self, other: Language) -> bool:
        """Whether one is what the other usually means: Standard Arabic for Arabic, Norwegian Bokmål for Norwegian."""
        return self == other or (_macro(self.primary) == _macro(other.primary) and _same_script(self.script, other.script))


#: Languages whose code is their tag as it is, and no member of another: known without langcodes, whose tables take long to read.
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj
    fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky
    la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru
    rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tn to tr ts tt ty ug uk ur uz ve vi vo wa wo xh yi yo za zh
    zu
"""
PLAIN = frozenset(_CODES.split())
#: Scripts that include others (ISO 15924).
_INCLUDED = {"Hang": "Kore", "Hira": "Jpan", "Kana": "Jpan"}
#: Members of macrolanguages (ISO 639-3) that langcodes does not put together.
_MACRO = {"nb": "no", "nn": "no", "quy": "qu", "quz": "qu", "pbt": "ps", "fil": "tl", "ekk": "et", "gug": "gn", "fuv": "ff"}


def _same_script(one: str, other: str) -> bool:
    one, other = _INCLUDED.get(one, one), _INCLUDED.get(other, other)
    return one == other or ({one, other} & {"Hani"} == {"Hani"} and {one, other} <= {"Hani", "Hans", "Hant"})


def _macro(primary: str) -> str:
    macro = primary
    if primary not in PLAIN:
        import langcodes

        macro = langcodes.standardize_tag(primary, macro=True).split("-")[0]
    return _MACRO.get(macro, macro)


def _qualified(text: str) -> Language | None:
    """A language with its script or region as `Language.name` writes them: 'Hausa (Latin)', 'Chinese (Simplified)', 'Talysh (Iran)'."""
    import langcodes

    match = re.fullmatch(r"(.+) \(([^()]+)\)", text)
    if match is None:
        return None
    try:
        plain = language(match[1])
    except UsageError:
        return None
    for script in _SCRIPTS:
        made = Language(langcodes.standardize_tag(f"{plain.primary}-{script}", macro=False))
        if text.casefold() in (made.name.casefold(), f"{plain.name} ({langcodes.get(f'und-{script}').script_name()})".casefold()):
            return Language(langcodes.standardize_tag(langcodes.get(made.tag).simplify_script(), macro=False))
    letters = string.ascii_uppercase
    regions = [a + b for a in letters for b in letters if langcodes.get(f"und-{a}{b}").territory_name().casefold() in match[2].casefold()]
    for script in ("", *(_SCRIPTS if ", " in match[2] else ())):
        for region in regions:
            made = Language("-".join(part for part in (plain.primary, script, region) if part))
            if text.casefold() == made.name.casefold():
                return made
    return None


_SCRIPTS = (
    "Arab", "Armn", "Beng", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hang", "Hans", "Hant", "Hebr", "Jpan", "Khmr", "Knda",
    "Kore", "Laoo", "Latn", "Mlym", "Mong", "Mymr", "Nkoo", "Olck", "Orya", "Sinh", "Taml", "Telu", "Tfng", "Thai", "Tibt",
)  # fmt: skip


def language(text: str, option: str = "`to`") -> Language:
    """The language that `text` names: in English, in itself, or by a code. Raises UsageError with "did you mean"."""
    wanted, default = text.strip(), "a name (French), or a code (fr, fra, pt-BR, zho_Hant)"
    if not wanted:  # no name is looked for: their tables take as long to read as a model
        raise UsageError(f"{option} (empty): no language is known by that name", hint=default)
    if token := re.fullmatch(r"__(\w+)__|<2(\w+)>|>>(\w+)<<", wanted):
        wanted = next(part for part in token.groups() if part)
    code = wanted.replace("_", "-")
    if code in PLAIN:
        return Language(code)
    import langcodes

    near = None
    try:
        if wanted in _SHORT_NAMES:
            return Language(_SHORT_NAMES[wanted])
        if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code):
            tag = langcodes.get(code)
            if tag.is_valid() and tag.language:
                return Language(langcodes.standardize_tag(tag.simplify_script(), macro=False))
        if (qualified := _qualified(wanted)) is not None:
            return qualified
        if wanted.casefold() in _ALIASES:
            return Language(_ALIASES[wanted.casefold()])
        tag = langcodes.find(wanted)  # also finds what is only like a name
        near = str(tag.display_name())
        if _folded(wanted) in (_folded(near), _folded(str(tag.autonym()))):
            return Language(tag.to_tag())
    except (LookupError, ValueError):
        pass
    if own := _own_names().get(_folded(wanted)):
        return own
    hint = f"did you mean '{near}'?" if near else did_you_mean(wanted.title(), NAMES, default=default)
    raise UsageError(f"{option} {wanted[:60]}: no language is known by that name", hint=hint)


def _folded(text: str) -> str:
    """A name in small letters without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


@functools.cache
def _own_names() -> dict[str, Language]:
    """The languages that people ask for by their own names, without accents."""
    import langcodes

    tags = [langcodes.find(name) for name in NAMES]
    return {_folded(str(each.autonym())): Language(each.to_tag()) for each in tags}


#: Names that langcodes does not know, or knows as those of another; some are ISO 639's, some have been replaced.
_ALIASES = {
    "dari": "prs", "fulah": "ff", "fulani": "ff", "tamazight": "tzm",
    "simplified chinese": "zh", "traditional chinese": "zh-Hant", "tamasheq": "taq", "rawa": "rwo", "ojibwa": "oj", "mandarin": "zh",
    "castilian": "es", "flemish": "nl-BE", "valencian": "ca", "farsi": "fa", "moldavian": "ro", "moldovan": "ro", "bokmål": "nb",
    "bokmal": "nb", "nynorsk": "nn", "sorani": "ckb", "kurmanji": "kmr", "sinhalese": "si", "uighur": "ug", "oriya": "or",
    "panjabi": "pa", "kirghiz": "ky", "pushto": "ps", "chichewa": "ny", "chewa": "ny", "myanmar": "my", "modern greek": "el",
    "brazilian portuguese": "pt-BR", "european portuguese": "pt-PT", "latin american spanish": "es-419", "british english": "en-GB",
    "american english": "en-US", "canadian french": "fr-CA", "swiss german": "gsw", "frisian": "fy", "gaelic": "gd",
}  # fmt: skip
#: Names that are other languages' codes, and a code that is M2M100's own.
_SHORT_NAMES = {"Uma": "ppk", "ns": "nso"}
#: Languages that people ask for: to guess what a misspelled name meant, and for completion.
NAMES = (
    "Afrikaans", "Arabic", "Bengali", "Bulgarian", "Catalan", "Chinese", "Croatian", "Czech", "Danish", "Dutch", "English", "Estonian",
    "Finnish", "French", "Galician", "German", "Greek", "Hebrew", "Hindi", "Hungarian", "Icelandic", "Indonesian", "Irish", "Italian",
    "Japanese", "Korean", "Latin", "Latvian", "Lithuanian", "Norwegian", "Persian", "Polish", "Portuguese", "Romanian", "Russian",
    "Serbian", "Slovak", "Slovenian", "Spanish", "Swahili", "Swedish", "Thai", "Turkish", "Ukrainian", "Urdu", "Vietnamese", "Welsh",
)  # fmt: skip


def pick(wanted: Language, offered: Iterable[tuple[Language, str]]) -> str | None:
    """The model's own code for a language: the same tag first, then the same language and script, without a region if it can be.

    A language without a script is also the model's only row of that language, in whatever script.
    """
    offers = list(offered)
    near = [(lang, code) for lang, code in offers if lang.tag == wanted.tag or lang.related(wanted)]
    if not near and wanted.tag == wanted.primary:  # no script is asked for, and the model's only one is not the usual one
        written = [(lang, code) for lang, code in offers if lang.primary == wanted.primary]
        near = written if len({lang.script for lang, _ in written}) == 1 else []

    def distance(offer: tuple[Language, str]) -> tuple[bool, ...]:
        lang, code = offer
        written = wanted.tag.replace("-", "_") in code  # >>pt_BR<< before >>pt_br<<
        return (
            lang.tag != wanted.tag,
            lang.region not in (None, wanted.region),
            lang.primary != wanted.primary,
            lang.primary == "nn",
            not written,
        )

    return min(near, key=distance)[1] if near else None


#: The share of the likeliest language's probability from which a short text is taken for it, and the letters of one that is not short.
_SURE, _SHORT = 0.6, 100
#: Characters that are looked at.
_SAMPLE = 20_000


def detect(text: str, among: Sequence[Language] = ()) -> Language:
    """The language of a text, by py3langid. among: the languages that it may be, any if there are none.

    Raises InputError for a text without letters, and for one that is too short to tell.
    """
    import py3langid

    if len(among) == 1:
        return among[0]
    letters = sum(c.isalpha() for c in text[:_SAMPLE])
    if not letters:
        raise InputError("the text has no letters to detect a language from", hint="name the language with `from`")
    ranks = [(Language(str(label)), float(score)) for label, score in py3langid.rank(text[:_SAMPLE])]
    near = {lang: next((each for each in among if each.related(lang)), None) if among else lang for lang, _ in ranks}
    likely: dict[Language, float] = {}
    for lang, score in ranks:
        if (each := near[lang]) is not None:
            likely[each] = likely.get(each, 0.0) + math.exp(score - ranks[0][1])
    if not likely or max(likely.values()) == 0.0:
        raise InputError("its language can't be detected among those of the model", hint="name the language with `from`")
    best = sorted(likely, key=lambda lang: -likely[lang])
    if likely[best[0]] < _SURE * sum(likely.values()) and letters < _SHORT:
        names = ", ".join(f"{lang.name} ({lang.tag})" for lang in best[:3])
        raise InputError(f"the text is too short to tell its language: it may be {names}", hint="name the language with `from`")
    return best[0]
