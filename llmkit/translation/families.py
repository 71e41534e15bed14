"""What a translation model wants to be told: each family's way of naming languages, behind one interface.

A family is a function in `FAMILIES` that knows its models by their configuration and their tokens. Knows codes; not tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmkit.engines.base import ModelFacts
from llmkit.errors import InputError, UsageError, did_you_mean
from llmkit.rows.fields import Prompt
from llmkit.translation.languages import Language, language, pick

Codes = tuple[tuple[Language, str], ...]


@dataclass(frozen=True)
class Direction:
    """From one language to another, as one model wants it.

    prefix and suffix: text around what is translated. source_token: what the encoder reads first. target_token: what the
    decoder writes first. last_token: what the encoder reads behind the text and its end. start_token: what the decoder starts
    with. stop: texts that end an answer.
    """

    source: Language | None
    target: Language
    prefix: str = ""
    suffix: str = ""
    source_token: str | None = None
    target_token: str | None = None
    last_token: str | None = None
    start_token: str | None = None
    stop: tuple[str, ...] = ()

    def prompt(self, text: str) -> Prompt:
        """What the encoder reads: the text with the family's marks."""
        return Prompt(text=f"{self.prefix}{text}{self.suffix}", first_token=self.source_token, last_token=self.last_token)


@dataclass(frozen=True)
class Family:
    """A model's languages with its own codes; empty `sources` or `targets` mean that it does not say.

    needs_source: the model must be told the language it reads. make: builds the direction from the two codes.
    """

    name: str
    sources: Codes
    targets: Codes
    needs_source: bool
    make: Callable[[Language | None, Language, str, str], Direction]

    def direction(self, source: Language | None, target: Language | None) -> Direction:
        """Raises UsageError for a language that the model does not know, that is missing, or that is the same twice."""
        return self.between(*self.ends(source, target))

    def ends(self, source: Language | None, target: Language | None) -> tuple[Language | None, Language]:
        """Source and target, with the only one that the model offers for one that is missing. Raises UsageError where it offers several.

        The source stays None for a model that need not be told it.
        """
        if target is None:
            others = [lang for lang, _ in self.targets if self.needs_source or source is None or not lang.matches(source)]
            if len(others) != 1:
                raise UsageError("no target language given", hint="name it with `to`, for example `to` fr")
            target = others[0]
        if source is None:
            others = [lang for lang, _ in self.sources if self.needs_source or len(self.sources) == 1 or not lang.matches(target)]
            source = others[0] if len(others) == 1 else None
        if source is None and self.needs_source:
            raise UsageError("this model needs the source language", hint="name it with `from`, or `from` auto")
        return source, target

    def between(self, source: Language | None, target: Language) -> Direction:
        """Of `ends`. Raises UsageError for a language that the model does not know, or that is the same twice."""
        check_ends(source, target)
        source_code = _code(source, self.sources, "`from`") if source is not None else ""
        return self.make(source, target, source_code, _code(target, self.targets, "`to`"))


def check_ends(source: Language | None, target: Language | None) -> None:
    """Raises UsageError for a translation from a language into itself."""
    if source is not None and target is not None and source.matches(target):
        raise UsageError(f"`from` and `to` are both {target.name}")


def family(facts: ModelFacts) -> Family:
    """The family of a model. Raises InputError for an encoder-decoder whose family is not known."""
    for find in FAMILIES.values():
        if made := find(facts):
            return made
    raise InputError(
        f"{facts.reference}: llmkit does not know how to select languages for this model ({facts.model_type})",
        hint=f"it knows {', '.join(FAMILIES)}",
    )


#: The languages at the end of a Marian model's name: opus-mt-tc-big-hu-en, en-ROMANCE.
_OPUS = re.compile(r"opus-mt-(?:tc-(?:[a-z]+-)+?)?([a-zA-Z_]+)-([a-zA-Z_]+)$")
#: Those of other names: marian-finetuned-kde4-en-to-fr, english_french.
_OTHER = re.compile(r"(?<![a-zA-Z])([a-zA-Z]{2,})(?:[-_]to[-_]|[-_2])([a-zA-Z]{2,})$")


def _marian(facts: ModelFacts) -> Family | None:
    """Its direction is that of its name, its tokenizer or its tokens: cards list languages by the alphabet."""
    if facts.model_type != "marian":
        return None
    targets = _codes(facts, r">>(\w+)<<", regions=True)
    card = [lang for code in facts.languages if (lang := _single(code)) is not None]
    read, written = _ends(facts, card)
    told = targets or tuple((lang, lang.tag) for lang in written)
    if not told and not read:
        told = tuple((lang, lang.tag) for lang in card)  # nothing says which of its languages a model reads
        return Family("Marian", told, told, False, lambda s, t, *_: Direction(s, t))
    if not read:
        read = tuple(lang for lang in card if not any(lang.matches(target) for target, _ in told))
    sources = tuple((lang, lang.tag) for lang in read)
    if targets:
        return Family("Marian", sources, targets, False, lambda s, t, _, code: Direction(s, t, prefix=f"{code} "))
    return Family("Marian", sources, told, False, lambda s, t, *_: Direction(s, t))


def _ends(facts: ModelFacts, card: Sequence[Language]) -> tuple[tuple[Language, ...], tuple[Language, ...]]:
    """The languages that a Marian model reads and writes, none where that is not told (or a group)."""
    name = facts.reference.partition("@")[0].rstrip("/")
    if match := _OPUS.search(name):
        return _named(match[1]), _named(match[2])
    halves = _OTHER.search(name.rpartition("/")[2].rpartition(":")[2])
    for pair in (facts.sides, halves.groups() if halves and halves[1].casefold() != "to" else ("", "")):
        read, written = (tuple(lang for lang in [_single(code)] if lang is not None) for code in pair)
        known = all(any(lang.related(each) for each in card) for lang in (*read, *written)) or not card
        if read and written and known:
            return read, written
    return (), ()


#: Groups of languages (ISO 639-5) in the names of OPUS-MT models.
_CODES = (
    "aav afa alg alv apa aqa aql art ath auf aus awd azc bad bai bat ber bih bnt btk cai cau cba ccn ccs cdc cdd cel cmc cpe cpf cpp crp "
    "csu cus day dmn dra egx esx euq fiu fox gem gme gmq gmw grk hmx hok hyx iir ijo inc ine ira iro itc jpx kar kdo khi kro map mis mkh "
    "mno mul mun myn nah nai ngf nic nub omq omv oto paa phi plf poz pqe pqw pra qwe roa sai sal sdv sem sgn sio sit sla smi son sqj ssa "
    "syd synth tai taw tbq trk tup tut tuw urj wak wen xgn xnd ypk zhx zle zls zlw znd"
)
_GROUPS = frozenset(_CODES.split())


def _single(code: str) -> Language | None:
    return None if code.casefold() in _GROUPS else _known(code)


def _named(part: str) -> tuple[Language, ...]:
    """The languages in one half of a model's name, none for a group ('zle', 'ROMANCE')."""
    if re.fullmatch(r"[a-z]{2,3}_[A-Z]{2}", part) and (region := _known(part, regions=True)) is not None:
        return (region,)
    languages = tuple(_single(code) for code in part.split("_")) if part.islower() else ()
    return tuple(lang for lang in languages if lang is not None)


#: Architectures that may be told languages by tokens, without which they can't write.
TOLD_BY_TOKENS = ("m2m_100", "nllb-moe", "mbart")
#: mBART-25 has 25 languages, mBART-50 has 52.
_OLD_MBART = 25


def _by_tokens(name: str, pattern: str) -> Callable[[ModelFacts], Family | None]:
    """Models that read the source's token before the text, and write the target's before the translation."""

    def find(facts: ModelFacts) -> Family | None:
        codes = _codes(facts, pattern) if facts.model_type in TOLD_BY_TOKENS else ()
        if len(codes) < 2:
            return None
        if facts.model_type == "mbart" and len(codes) == _OLD_MBART:
            # the language stands behind the text and its end, and the decoder starts with the target's (transformers' MBartTokenizer)
            return Family("mBART-25", codes, codes, True, lambda s, t, a, b: Direction(s, t, last_token=a, start_token=b))
        return Family(name, codes, codes, True, lambda s, t, a, b: Direction(s, t, source_token=a, target_token=b))

    return find


def _madlad(facts: ModelFacts) -> Family | None:
    # its other tokens are scripts, regions and tasks: <2Latn>, <2NL>, <2translate>, <2en_xx_simple>
    codes = (
        _codes(facts, r"<2([a-z]{2,3}(?:_[A-Z][a-z]{3})?(?:_[A-Z]{2})?)>", regions=True)
        if facts.model_type in ("t5", "mt5", "umt5")
        else ()
    )
    return Family("MADLAD", (), codes, False, lambda s, t, _, code: Direction(s, t, prefix=f"{code} ")) if codes else None


def _t5(facts: ModelFacts) -> Family | None:
    if facts.model_type not in ("t5", "mt5", "umt5"):
        return None
    tasks = [re.fullmatch(r"translate (\w+) to (\w+): ", prefix) for prefix in facts.task_prefixes]
    pairs = [(m[1], m[2]) for m in tasks if m]
    sources = tuple((language(name), name) for name in dict.fromkeys(a for a, _ in pairs))
    targets = tuple((language(name), name) for name in dict.fromkeys(b for _, b in pairs))
    if not pairs:
        return None
    return Family("T5", sources, targets, True, lambda s, t, a, b: Direction(s, t, prefix=f"translate {a} to {b}: "))


def _causal(facts: ModelFacts) -> Family | None:
    if facts.encoder_decoder:
        return None

    def make(source: Language | None, target: Language, _: str, __: str) -> Direction:
        read = source.name if source else "the text's language"
        if facts.has_chat_template:
            ask = f"Translate the following text from {read} to {target.name}. Answer with the translation alone.\n\n"
            return Direction(source, target, prefix=ask)
        return Direction(source, target, prefix=f"{read}: ", suffix=f"\n{target.name}:", stop=("\n",))

    return Family("causal", (), (), False, make)


#: By the names that a message shows. The first that knows a model is its family: MADLAD's models are T5's, too.
FAMILIES: dict[str, Callable[[ModelFacts], Family | None]] = {
    "Marian": _marian,
    "NLLB": _by_tokens("NLLB", r"([a-z]{3}_[A-Z][a-z]{3})"),
    "M2M100": _by_tokens("M2M100", r"__([a-z]{2,3})__"),
    "mBART": _by_tokens("mBART-50", r"([a-z]{2}_[A-Z]{2})"),
    "MADLAD": _madlad,
    "T5": _t5,
    "causal models": _causal,
}


def _codes(facts: ModelFacts, pattern: str, *, regions: bool = False) -> Codes:
    """The model's tokens that name a language, with the language."""
    codes = []
    for token in facts.tokens:
        match = re.fullmatch(pattern, token)
        if match and (lang := _known(match[1], regions=regions)):
            codes.append((lang, token))
    return tuple(codes)


def _known(code: str, *, regions: bool = False) -> Language | None:
    # mBART writes a region where others write a script; that region says nothing of a language it alone has
    try:
        return language(code.partition("_")[0] if not regions and re.fullmatch(r"[a-z]{2}_[A-Z]{2}", code) else code)
    except UsageError:
        return None


def _code(wanted: Language, offered: Sequence[tuple[Language, str]], option: str) -> str:
    if not offered:
        return wanted.tag
    if code := pick(wanted, offered):
        return code
    names = sorted({lang.name for lang, _ in offered})
    default = f"it knows {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    hint = did_you_mean(wanted.name, names, default=default)
    raise UsageError(f"{option} {wanted.tag}: the model does not know {wanted.name}", hint=hint)
