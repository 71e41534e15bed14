"""What a model is not asked to translate, because it would make nonsense of it: codes, and text that is in the target language.

Knows texts and languages; not models.
"""

from __future__ import annotations

import re

from llmkit.translation.languages import Language

#: A word that is a program's: my_house, x86_64, fooBar, --force, /usr/bin, a.txt, f(), @name, calendar:MY, ISO-8859-1.
_CODE = re.compile(
    r"--?[a-z][\w-]*(?:=\S*)?|[@#]\w+|\$\w+|\w+(?:\.\w+)*\(\S*\)|~?(?:/[\w.+-]+)+/?|[A-Za-z]:\\\S+|\w+(?:/[\w.-]+){2,}"
    r"|\w*[^\W\d_]\w+\.[^\W\d]\w{0,4}|\w+_\w[\w.]*|[a-z][\w-]*(?::[\w-]+)+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*|(?=\S*\d)(?=\S*[A-Za-z])[\w.+-]+"
)
#: A formula: no two letters beside each other but in commands of LaTeX or of regular expressions, and a sign of mathematics.
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD, _SIGN = re.compile(r"[^\W\d_]{2}|[^\W\d_a-zA-Z]"), re.compile(r"[=^+*/<>|\\]")
#: How a program writes dates: Y-m-d H:i:s, F j, Y; and a letter alone.
_DATES = re.compile(r"\\?[A-Za-z](?:[-/.:, ]+\\?[A-Za-z])*")
#: 1st, 20s, 5pm: numbers with words in them.
_NUMBER = re.compile(r"\d[\d.,]*[^\W\d_]{1,2}")
#: 12 kg, 5-6 km/h, 20 °C: a number with a unit that every language writes with the same letters.
_UNIT = r"(?:[kcmµμn]?m[²³23]?|[km]?g|[mcd]?[lL]|[kM]?W(?:h)?|k?V|mAh|[kMG]?Hz|°[CF]|%|px|dB)"
_QUANTITY = re.compile(rf"(?=\D*+\d)[-+~<>≤≥±×x\d.,\s–]++{_UNIT}(?:/(?:h|s|min|{_UNIT}))?")
#: Letters and words of a text whose language can be told from that of another, and by how many nats.
_LETTERS, _WORDS, _MARGIN = 18, 4, 10.0


def is_code(text: str) -> bool:
    """Whether all words of a text are names that programs use, or it is the form of a date, a quantity, a formula, or a letter."""
    if (
        _DATES.fullmatch(text.strip())
        or _QUANTITY.fullmatch(text.strip())
        or (_SIGN.search(text) and not _WORD.search(_COMMAND.sub(" ", text)))
    ):
        return True
    words = [word.strip(".,;:!?\"'") for word in text.split()]
    return bool(words) and all(_CODE.fullmatch(word) and not _NUMBER.fullmatch(word) for word in words)


def is_written_in(text: str, target: Language, source: Language | None) -> bool:
    """Whether a text is surely in the target language and not in the source language, by py3langid. Short texts are not sure."""
    if source is None or source.related(target) or source.primary == target.primary:
        return False
    if sum(c.isalpha() for c in text) < _LETTERS or len(text.split()) < _WORDS:
        return False
    import py3langid

    ranks = py3langid.rank(text[:1000])
    label, best = ranks[0]
    if not Language(str(label)).related(target):
        return False
    there = next((float(score) for label, score in ranks if Language(str(label)).related(source)), None)
    return there is not None and float(best) - there > _MARGIN
