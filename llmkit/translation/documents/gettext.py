"""gettext catalogues (.po, .pot): entries without a translation get one, plural forms included; everything else stays.

Read line by line as gettext's own lexer does: only a line feed ends a line, space before a keyword is allowed. polib counts
other characters as line ends, so its places can't be used. https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llmkit.errors import InputError, UnavailableError
from llmkit.translation.documents.base import Marks, Segment, decoded, has_letters, joined, with_marks
from llmkit.translation.placeholders import BY_FLAG, PLACEHOLDER

_LINE = re.compile(r'[ \t\f\v\r]*(?:(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d+)\])?[ \t]*)?("(?:[^"\\\n]|\\.)*")[ \t\f\v\r]*')
_MARKUP = r"</?[a-zA-Z][^<>]*>|&#?\w+;"
#: A letter's mark for the keyboard: _Open, &File; not that of a name (my_house), a company (R&D) or an entity.
_ACCELERATOR = re.compile(r"(?<!\w)([_&])(?=[^\W\d_])(?!\w+;)|(?<=\b[A-Z])([_&])(?=[a-z])(?!\w+;)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass
class _Entry:
    """texts: by keyword, with the number of a plural form. strings: where the msgstr lines stand, first to last."""

    line: int = 0
    flags: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    begin: int = -1
    end: int = -1
    indent: str = ""


@dataclass(frozen=True)
class _Place:
    """msgstr lines [begin, end) that are written anew, from the segments of their forms. numbered: plural forms."""

    begin: int
    end: int
    forms: int
    numbered: bool
    indent: str


@dataclass(frozen=True)
class Catalogue:
    """source: the whole file, with its header already of the target language."""

    source: str
    places: tuple[_Place, ...]
    segments: tuple[Segment, ...]

    @cached_property
    def keep(self) -> Marks:
        return Marks(self.segments)

    def build(self, translations: Sequence[str | None]) -> bytes:
        end = "\r\n" if "\r\n" in self.source else "\n"
        out: list[str] = []
        at = number = 0
        for place in self.places:
            segments = self.segments[number : number + place.forms]
            texts = translations[number : number + place.forms]
            number += place.forms
            out.append(self.source[at : place.begin])
            at = place.end
            if all(text is None or text == segment.text for segment, text in zip(segments, texts, strict=True)):
                out.append(self.source[place.begin : place.end])
                continue
            for form, (segment, text) in enumerate(zip(segments, texts, strict=True)):
                keyword = f"msgstr[{form}]" if place.numbered else "msgstr"
                written = "" if text is None else _accelerated(text, segment)
                out.append(f"{place.indent if form else ''}{keyword} {_quoted(written, end)}{end if form + 1 < place.forms else ''}")
        return "".join([*out, self.source[at:]]).encode("utf-8")


def parse(data: bytes, name: str, target: str | None = None) -> Catalogue:
    """target: the tag of the language that the header is to name. Raises InputError naming the line that is no catalogue's."""
    source = decoded(data, name)
    entries = list(_entries(source, name))
    header = next((e for e in entries if e.texts.get("msgid") == "" and "msgctxt" not in e.texts), None)
    forms = _forms(header.texts.get("msgstr", "") if header else "")
    if target is not None and header is not None and "INTEGER" in header.texts.get("msgstr", ""):
        source = _headed(source, header, target)
        entries = list(_entries(source, name))
        forms = _forms(next(e for e in entries if e.texts.get("msgid") == "").texts.get("msgstr", ""))
    places: list[_Place] = []
    segments: list[Segment] = []
    for entry in entries:
        if not entry.texts.get("msgid") or entry.begin < 0 or any(v for k, v in entry.texts.items() if k.startswith("msgstr")):
            continue
        made = [_segment(text, entry) for text in _sources(entry, forms)]
        if any(has_letters(segment.prose()) for segment in made):
            places.append(_Place(entry.begin, entry.end, len(made), "msgid_plural" in entry.texts, entry.indent))
            segments += made
    return Catalogue(source, tuple(places), tuple(segments))


def _sources(entry: _Entry, forms: int) -> list[str]:
    if "msgid_plural" not in entry.texts:
        return [entry.texts["msgid"]]
    plural = entry.texts["msgid_plural"]
    return [plural] if forms == 1 else [entry.texts["msgid"], *[plural] * (forms - 1)]


def _entries(source: str, name: str) -> Iterator[_Entry]:
    """The entries of a catalogue that are not obsolete."""
    entry, keyword = _Entry(), ""
    at = 0
    for number, line in enumerate(source.split("\n"), 1):
        begin, at = at, at + len(line) + 1
        body = line.lstrip("\ufeff \t\f\v\r")
        if not body.strip():
            continue
        if body.startswith("#"):
            if entry.begin >= 0:
                yield entry
                entry, keyword = _Entry(), ""
            entry.flags += body[2:] if body.startswith("#,") else ""
            continue
        match = _LINE.fullmatch(line.lstrip("\ufeff"))
        if match is None or not (match[1] or keyword):
            raise InputError("is not a line of a gettext catalog", path=name, line=number, hint='for example: msgid "Hello"')
        if match[1] in ("msgctxt", "msgid") and entry.begin >= 0:
            yield entry
            entry = _Entry()
        if match[1]:
            keyword = match[1] + (match[2] or "")
            entry.line = entry.line or number
        entry.texts[keyword] = entry.texts.get(keyword, "") + _unescaped(match[3][1:-1])
        if keyword.startswith("msgstr"):
            if entry.begin < 0:
                entry.indent = line[: len(line) - len(line.lstrip())]
                entry.begin = begin + len(entry.indent)
            entry.end = begin + len(line.rstrip("\r"))
    if entry.begin >= 0:
        yield entry


def _segment(text: str, entry: _Entry) -> Segment:
    marks = list(_ACCELERATOR.finditer(text))
    plain = text
    kind = ""
    if len(marks) == 1 and len(text) < 60:
        kind = marks[0].group()
        plain = text[: marks[0].start()] + text[marks[0].end() :]
        kind += plain[marks[0].start()]
    patterns = [pattern.pattern for flag, pattern in BY_FLAG.items() if re.search(rf"(?<!no-)\b{flag}\b", entry.flags)]
    pattern = re.compile("|".join([_MARKUP, *(patterns or [PLACEHOLDER.pattern])]))
    stripped, places = joined(with_marks(plain, pattern))
    return Segment(stripped, '""', entry.line, places, kind)


def _accelerated(text: str, segment: Segment) -> str:
    """The translation with its keyboard letter marked: the source's, where a word begins with it, or the first letter."""
    if not segment.kind:
        return text
    mark, letter = segment.kind[0], segment.kind[1:]
    match = re.search(rf"(?<!\w){re.escape(letter)}", text, re.IGNORECASE) or re.search(r"[^\W\d_]", text)
    return text if match is None else f"{text[: match.start()]}{mark}{text[match.start() :]}"


def _headed(source: str, header: _Entry, target: str) -> str:
    """The source with the placeholders of its header filled in, as msginit does, and the header no longer fuzzy."""
    try:
        from babel.core import UnknownLocaleError
        from babel.messages.plurals import get_plural
    except ImportError as exc:
        raise UnavailableError("filling in the header of a .po file needs babel", hint="pip install 'llmkit[documents]'") from exc
    text = source[: header.end]
    locale = target.replace("-", "_")
    try:
        plural = get_plural(locale)
        text = text.replace("nplurals=INTEGER; plural=EXPRESSION;", f"nplurals={plural.num_plurals}; plural={plural.plural_expr};")
    except (UnknownLocaleError, ValueError):
        pass
    text = text.replace("charset=CHARSET", "charset=UTF-8")
    text = re.sub(r'"Language: *\\n"', lambda _: f'"Language: {locale}\\n"', text)
    text = re.sub(r"(?m)^#,[ \t]*fuzzy[ \t]*\r?\n", "", text, count=1)
    return text + source[header.end :]


def _forms(header: str) -> int:
    match = re.search(r"nplurals\s*=\s*(\d+)", header)
    return min(max(int(match[1]), 1), 10) if match else 2


def _unescaped(text: str) -> str:
    return re.sub(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", _character, text)


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPES.get(code, code)


def _quoted(text: str, end: str) -> str:
    """The string as catalogues write it: on one line, or an empty one and then a line each."""
    lines = [_escaped(line) for line in re.findall(r"[^\n]*\n|[^\n]+", text)]
    return f'"{"".join(lines)}"' if len(lines) < 2 else end.join(['""', *(f'"{line}"' for line in lines)])


def _escaped(line: str) -> str:
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\t", "\\t"), ("\r", "\\r"), ("\n", "\\n")):
        line = line.replace(character, written)
    return line
