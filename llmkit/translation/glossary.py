"""Terms that are to be translated in one way: found in texts, also in other forms, counted in translations, put into them.

Knows words and stems, by Snowball; not models or files.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

#: Scripts that put no space between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_PARTS = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)
#: What English adds to a word; Snowball also puts together words that only have a beginning in common (universe, university).
_ENGLISH = re.compile(r"(?:e|y|ies|ied|e?s|e?d|(?:[bdgklmnprt])?(?:ed|ing))?")
#: Plurals that no stemmer knows: men, children, knives.
_SINGULARS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "oxen": "ox", "knives": "knife", "wives": "wife", "lives": "life", "leaves": "leaf", "wolves": "wolf",
    "shelves": "shelf", "halves": "half", "calves": "calf", "loaves": "loaf", "thieves": "thief", "scarves": "scarf", "indices": "index",
    "matrices": "matrix", "vertices": "vertex", "criteria": "criterion", "phenomena": "phenomenon", "analyses": "analysis",
}  # fmt: skip
#: A short word at the beginning: le, l', der, un.
_ARTICLE = re.compile(r"^[^\W\d_]{1,3}(?:['’]|\s+)(?=\w)")
#: What French elides that is no article: a model that writes c'est for a term has not understood it.
_PRONOUN = re.compile(r"[cjmnst]['’]", re.IGNORECASE)
#: Languages whose plural is an -s, which a term that is put in gets.
_PLURAL_S = frozenset(("ca", "en", "es", "fr", "pt"))
#: French words before a vowel and before a consonant: l'homme, le gars; d'eau, de pain.
_ELIDED = re.compile(r"\b(?:[ldjmtsnc]|qu)['’]\Z", re.IGNORECASE)
_NOT_ELIDED = re.compile(r"\b(?:l[ea]|[djmtsnc]e|que) \Z", re.IGNORECASE)
_VOWEL = re.compile("[aeiouyàâäéèêëîïôöùûüœæ]", re.IGNORECASE)


@dataclass(frozen=True)
class Occurrence:
    """A term at [begin, end) of a text, and the words that stand for it there."""

    begin: int
    end: int
    text: str
    term: str


@dataclass(frozen=True)
class Terms:
    """Finds terms in texts of a language (a BCP-47 tag): whole words in any form, the longest term first, none over another.

    Case is ignored, but a term in capitals (IT) is found in capitals alone.
    """

    terms: tuple[str, ...]
    tag: str

    def find(self, text: str) -> list[Occurrence]:
        """In the order of the text; none lies over another."""
        taken: list[Occurrence] = []
        for begin, term in sorted(self._places(text), key=lambda place: (-len(place[1]), not text.startswith(place[1], place[0]))):
            match = _pattern(term).match(text, begin)
            if match is None or not self._means(term, match):
                continue
            if all(match.end() <= each.begin or each.end <= begin for each in taken):
                taken.append(Occurrence(begin, match.end(), match.group(), term))
        return sorted(taken, key=lambda each: each.begin)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Terms by the stem of their first word; those that begin with no word, by nothing."""
        out: dict[str, list[str]] = {}
        for term in self.terms:
            first = _first_word(term)
            out.setdefault(_stem(first, self.tag) if first else "", []).append(term)
        return out

    def _places(self, text: str) -> Iterator[tuple[int, str]]:
        """Where terms may begin."""
        for match in re.finditer(r"(?<!\w)[^\W_]+", text):
            for term in self._by_stem.get(_stem(match.group(), self.tag), ()):
                yield match.start(), term
        for term in self._by_stem.get("", ()):
            for match in re.finditer(re.escape(term), text, re.IGNORECASE):
                yield match.start(), term

    def _means(self, term: str, match: re.Match[str]) -> bool:
        """Whether words that look like a term are a form of it."""
        if term.isupper() and len(term) > 1:
            return match.group().removesuffix("s") == term or match.group() == term
        wanted = [part for part in _PARTS.findall(term) if part[0].isalnum()]
        return all(_same(one, other, self.tag) for one, other in zip(match.groups(), wanted, strict=True))


@dataclass(frozen=True)
class Glossary:
    """(term, its translation). source and target: the tags of the languages, which decide what forms words have."""

    terms: tuple[tuple[str, str], ...]
    source: str = "en"
    target: str = ""

    def between(self, source: str | None, target: str) -> Glossary:
        """The glossary for these languages."""
        return replace(self, source=source or self.source, target=target)

    @cached_property
    def _targets(self) -> dict[str, str]:
        return dict(self.terms)

    @cached_property
    def _source_terms(self) -> Terms:
        return Terms(tuple(self._targets), self.source)

    def find(self, text: str) -> list[Occurrence]:
        """The terms of a text in the source language."""
        return self._source_terms.find(text)

    def violations(self, source_text: str, translation: str) -> list[str]:
        """Terms of `source_text` whose translation is missing, or there less often. Each counts for itself, as whole words."""
        lost = self._missing(self.find(source_text), translation)
        return [f"glossary: '{term}' is not '{self._targets[term]}'" for term in dict.fromkeys(each.term for each in lost)]

    def placed(self, source_text: str, translation: str, alone: Callable[[str], Sequence[str]]) -> str:
        """The translation with each missing term in the place of the words that a model writes for it.

        alone: what the model may make of a term by itself. Where none of that is in the translation, it stays as it is.
        """
        for term in self._missing(self.find(source_text), translation):
            wanted = self._targets[term.term]
            for word in [*_candidates(alone(term.text)), term.text]:  # the last for one that the model has copied
                there = next(iter(Terms((word,), self.target).find(translation)), None)
                if there is not None:
                    written = self._inflected(wanted, term, there, word)
                    before = _before(translation[: there.begin], written) if self.target.startswith("fr") else translation[: there.begin]
                    translation = before + written + translation[there.end :]
                    break
        return translation

    def _missing(self, terms: Sequence[Occurrence], translation: str) -> list[Occurrence]:
        """Those whose translation is not there, or not often enough."""
        wanted = tuple(dict.fromkeys(self._targets[term.term] for term in terms))
        written = Counter(term.term for term in Terms(wanted, self.target).find(translation))
        out = []
        for term in terms:
            target = self._targets[term.term]
            written[target] -= 1
            if written[target] < 0:
                out.append(term)
        return out

    def _inflected(self, wanted: str, term: Occurrence, there: Occurrence, word: str) -> str:
        """A term's translation as it stands in a sentence: with a capital, in the plural."""
        plural = len(term.text) > len(term.term) and term.text[-1:] == "s"
        plural = plural or _singular(term.text, self.source) == term.term.casefold() != term.text.casefold()
        more = plural and self.target.partition("-")[0] in _PLURAL_S
        if more and wanted[-1:].isalpha() and wanted[-1:] not in "sxz":
            wanted += "s"
        capital = there.text[:1].isupper() and not word[:1].isupper()
        return wanted[:1].upper() + wanted[1:] if capital and wanted[:1].islower() else wanted


def _candidates(translations: Sequence[str]) -> list[str]:
    """What may stand for a term, best first: each translation of it without an article, then its single words, the longest first.

    Words of three letters are none, because most are articles and the like; but for those in capitals, and those behind an article
    (l'eau).
    """
    stripped = [text.strip(" .,;:!?…\"'«»") for text in translations]
    whole = [_ARTICLE.sub("", text) for text in stripped if not _PRONOUN.match(text)]
    words = [word for text in translations for word in reversed(re.findall(r"[^\W_]+", text))]
    words = [word for word in words if len(word) > 3 or (word.isupper() and len(word) > 1) or _UNSPACED.search(word)]
    words += [word for text in translations for word in re.findall(r"(?<=\b[lLdD]['’])[^\W\d_]{2,}", text)]
    return [text for text in dict.fromkeys([*whole, *sorted(words, key=len, reverse=True)]) if text]


def _before(text: str, term: str) -> str:
    """French text that ends before a term, its last word as it is before a vowel or before a consonant."""
    if match := _ELIDED.search(text):
        return text if _VOWEL.match(term) or term[:1] in "hH" else f"{text[: match.end() - 1]}e "
    if _VOWEL.match(term) and (match := _NOT_ELIDED.search(text)):
        return f"{text[: match.end() - 2]}'"
    return text


def _first_word(term: str) -> str:
    """The word that a term begins with; none in scripts without spaces."""
    match = re.match(r"[^\W_]+", term)
    return match.group() if match and not _UNSPACED.match(term) else ""


@functools.lru_cache(maxsize=10_000)
def _pattern(term: str) -> re.Pattern[str]:
    """Any words in the places of a term's, each a group."""
    if _UNSPACED.match(term):
        return re.compile("".join(f"({re.escape(part)})" if part[0].isalnum() else re.escape(part) for part in _PARTS.findall(term)))
    parts = [r"\s+" if part.isspace() else r"([^\W_]+)" if part[0].isalnum() else re.escape(part) for part in _PARTS.findall(term)]
    begin, end = (r"(?<!\w)" if term[0].isalnum() else "", r"(?!\w)" if term[-1].isalnum() else "")
    return re.compile(begin + "".join(parts) + end)


def _same(word: str, wanted: str, tag: str) -> bool:
    """Whether a word is a form of another. A word of capitals (IT) has no other case."""
    if len(wanted) > 1 and wanted.isupper():
        return word == wanted
    one, other = _singular(word, tag), _singular(wanted, tag)
    if one == other:
        return True
    if _stem(one, tag) != _stem(other, tag):
        return False
    if tag.partition("-")[0] != "en":
        return True
    common = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return bool(_ENGLISH.fullmatch(one[common:]) and _ENGLISH.fullmatch(other[common:]))


def _singular(word: str, tag: str) -> str:
    """A word in small letters; of a plural that the stemmer of its language does not see as one, the singular."""
    small, primary = word.casefold(), tag.partition("-")[0]
    if primary == "en":
        return _SINGULARS.get(small, small)
    return small.removesuffix("s") if primary in _PLURAL_S and len(small) > 3 else small


@functools.lru_cache(maxsize=100_000)
def _stem(word: str, tag: str) -> str:
    stemmer, word = _stemmer(tag.partition("-")[0]), _singular(word, tag)
    return word if stemmer is None else str(stemmer(word))


@functools.cache
def _stemmer(primary: str) -> Callable[[str], str] | None:
    """Snowball's stemmer of a language, None where it has none."""
    import langcodes
    import snowballstemmer

    name = langcodes.get(primary).display_name().lower() if primary else ""
    name = "norwegian" if primary in ("nb", "nn", "no") else name
    if name not in snowballstemmer.algorithms():
        return None
    stem: Callable[[str], str] = snowballstemmer.stemmer(name).stemWord
    return stem
