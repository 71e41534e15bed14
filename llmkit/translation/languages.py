"""Languages as people write them (names, ISO 639, BCP-47, FLORES codes), made one.

Knows names and codes, by langcodes; not models.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from llmkit.errors import InputError, UsageError


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

    def matches(self, other: Language) -> bool:
        """Whether they are the same language in the same script; regions may differ."""
        return self.primary == other.primary and self.script == other.script


def language(text: str, option: str = "--to") -> Language:
    """The language that `text` names: in English, in itself, or by a code. Raises UsageError with "did you mean"."""
    import langcodes

    asked = text.strip()
    code = asked.replace("_", "-")
    near = None
    try:
        if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code):
            found = langcodes.get(code)
            if found.is_valid() and found.language:
                return Language(langcodes.standardize_tag(found.simplify_script(), macro=False))
        found = langcodes.find(asked)  # also finds what is only like a name
        near = str(found.display_name())
        if asked.casefold() in (near.casefold(), str(found.autonym()).casefold()):
            return Language(found.to_tag())
    except (LookupError, ValueError):
        pass
    close = near or next(iter(difflib.get_close_matches(asked.title(), _NAMES, n=1)), None)
    hint = f"did you mean {close}?" if close else "a name (French), or a code (fr, fra, pt-BR, zho_Hant)"
    raise UsageError(f"{option} {asked[:60] or '(empty)'}: no language is known by that name", hint=hint)


#: Enough to guess what a misspelt name meant.
_NAMES = (
    "Afrikaans", "Arabic", "Bengali", "Bulgarian", "Catalan", "Chinese", "Croatian", "Czech", "Danish", "Dutch", "English", "Estonian",
    "Finnish", "French", "Galician", "German", "Greek", "Hebrew", "Hindi", "Hungarian", "Icelandic", "Indonesian", "Irish", "Italian",
    "Japanese", "Korean", "Latin", "Latvian", "Lithuanian", "Norwegian", "Persian", "Polish", "Portuguese", "Romanian", "Russian",
    "Serbian", "Slovak", "Slovenian", "Spanish", "Swahili", "Swedish", "Thai", "Turkish", "Ukrainian", "Urdu", "Vietnamese", "Welsh",
)  # fmt: skip


def pick(wanted: Language, offered: Iterable[tuple[Language, str]]) -> str | None:
    """The model's own code for a language: the same tag first, then the same language and script."""
    among = list(offered)
    exact = next((code for lang, code in among if lang.tag == wanted.tag), None)
    return exact or next((code for lang, code in among if lang.matches(wanted)), None)


def detect(text: str) -> Language:
    """The language of a text, by py3langid. Raises InputError for a text without letters."""
    import py3langid

    if not any(c.isalpha() for c in text):
        raise InputError("there is no letter to tell a language by", hint="name the language with --from")
    return Language(str(py3langid.classify(text[:20_000])[0]))
