"""The header of a gettext catalog: language, charset and plural forms, as msginit fills in a template's.

Knows the header's text; not the file. https://www.gnu.org/software/gettext/manual/html_node/Header-Entry.html
"""

from __future__ import annotations

import re

from llmkit.errors import UnavailableError

#: Where a catalog has none.
EMPTY = "Language: \nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
#: Charsets of templates, which have no character of another language; and any that a header may name.
_NO_CHARSET = re.compile(r"charset=(?:CHARSET|(?:us-)?ascii)\b", re.IGNORECASE)
_CHARSET = re.compile(r"(?<=charset=)(?!utf-?8\b)[\w.:-]+", re.IGNORECASE)
_LANGUAGE = re.compile(r"(?m)^Language: *([A-Za-z]{2,3})\b")


def is_unmade(text: str, target: str, *, fuzzy: bool, translated: bool) -> bool:
    """Whether a header is still a template's, or another language's in a catalog without a translation."""
    if "INTEGER" in text:
        return True
    language = _LANGUAGE.search(text)
    another = language is not None and language[1].lower() != target.split("-")[0].lower()
    return not translated and (fuzzy or another or _NO_CHARSET.search(text) is not None)


def with_charset(text: str) -> str:
    """The header with the charset in which catalogs are written."""
    return _CHARSET.sub("UTF-8", text)


def filled(text: str, target: str, *, plural: bool) -> str:
    """The header with the language and its plural forms. plural: whether the catalog has texts with plurals.

    Raises UnavailableError without babel.
    """
    try:
        from babel.core import UnknownLocaleError
        from babel.messages.plurals import get_plural
    except ImportError as exc:
        raise UnavailableError("filling in the header of a .po file needs babel", hint="pip install 'llmkit[documents]'") from exc
    locale = target.replace("-", "_")
    fields = {"Language": locale}
    try:
        made = get_plural(locale)
        fields["Plural-Forms"] = f"nplurals={made.num_plurals}; plural={made.plural_expr};"
    except (UnknownLocaleError, ValueError):
        pass
    for name, value in fields.items():
        lines = re.split(rf"(?m)^{name}:.*$", text)
        if len(lines) > 1:
            text = f"{name}: {value}".join(lines)
        elif name == "Language" or plural:
            text = f"{text}{name}: {value}\n"
    return text


def forms(text: str) -> int:
    """The number of plural forms that a header names, two where it names none."""
    match = re.search(r"nplurals\s*=\s*(\d+)", text)
    return min(max(int(match[1]), 1), 10) if match else 2
