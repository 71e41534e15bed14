"""gettext catalogs (.po, .pot): entries without a translation get one, plural forms included; everything else stays.

`gettext_entries` finds them; here is what is translated in them, and how it is written.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from llmkit.translation.documents import gettext_header, icu, messages
from llmkit.translation.documents.base import Marks, Segment, decoded, has_letters, joined, parts, with_marks
from llmkit.translation.documents.gettext_entries import Entry, read
from llmkit.translation.documents.message_tags import without_attributes
from llmkit.translation.documents.messages import Message
from llmkit.translation.placeholders import BY_FLAG, MARKS_IN_MESSAGES, PLACEHOLDER, TAGS

#: Where GNOME's and KDE's translators write their own names.
_CREDITS = frozenset(("translator-credits", "translator_credits", "Your names", "Your emails"))
#: A letter's mark for the keyboard: _Open, &File, ~Edit, E&xit, Cu_t; not that of a name (my_house), a company (R&D) or an entity.
_ACCELERATOR = re.compile(
    r"(?<!\w)[_&](?=[^\W\d_])(?!\w+;)|(?<![\w/.])~(?=[A-Z])|(?<=\b[A-Z])[_&~](?=[a-z])(?!\w+;)"
    r"|(?<=\b[A-Z][a-z])(?:[&~](?=[a-z])(?!\w+;)|_(?=[a-z]{1,2}\b))"
)
#: ... further inside a word: such labels are in a catalog with others that have the sign.
_INSIDE = re.compile(r"(?<![\w&~])[A-Z][a-z]+([_&~])[a-z]+(?![\w&~;])|(?<![\w&~])[a-z]{1,2}([&~])[a-z]+(?![\w&~;])")
#: Characters of a text that may be a label with such a letter.
_LABEL = 80
#: The lines of a string, each with its end.
_LINES = r"[^\n]*\n|[^\n]+"


@dataclass(frozen=True)
class _Place:
    """msgstr lines [begin, end) that are written anew, from the segments of their forms. numbered: plural forms.

    flagged: the line of flags [begin, end), empty where there is none; flags: what it becomes. message: the plurals and selects of ICU
    in a text, whose branches are the segments.
    """

    begin: int
    end: int
    forms: int
    numbered: bool
    indent: str
    flagged: tuple[int, int]
    flags: str
    message: Message | None = None


@dataclass(frozen=True)
class Catalog:
    """source: the whole file, with its header already of the target language. fuzzy: entries so marked that are left as they are."""

    source: str
    places: tuple[_Place, ...]
    segments: tuple[Segment, ...]
    fuzzy: int = 0

    @cached_property
    def keep(self) -> Marks:
        """Placeholders, tags and line ends inside the entries."""
        return Marks(self.segments, lambda text, segment: text if segment.kind == messages.BROKEN else None)

    @cached_property
    def _texts(self) -> list[dict[str, str]]:
        """What the entries said before."""
        return [entry.texts for entry in read(self.source, "")]

    def skeleton(self, data: bytes) -> object:
        """Comments, flags, keys, the number of plural forms, and what translations lost or added beside words."""
        return _skeleton(data, self._texts)

    def build(self, translations: Sequence[str | None]) -> bytes:
        """As `Document.build`, in UTF-8. Only entries with a new translation are written anew, their flags with them."""
        end = "\r\n" if "\r\n" in self.source else "\n"
        out: list[str] = []
        at = number = 0
        for place in self.places:
            segments = self.segments[number : number + place.forms]
            texts = translations[number : number + place.forms]
            number += place.forms
            unread = segments[0].kind == messages.BROKEN
            if unread or all(text is None or text == segment.text for segment, text in zip(segments, texts, strict=True)):
                continue
            begin, ended = place.flagged
            out += [self.source[at:begin], place.flags, self.source[ended : place.begin]]
            at = place.end
            written = [text if text is None else _written(text, segment) for segment, text in zip(segments, texts, strict=True)]
            if place.message is not None:
                written = [place.message.write([s.text if text is None else text for s, text in zip(segments, texts, strict=True)])]
            for form, text in enumerate(written):
                keyword = f"msgstr[{form}]" if place.numbered else "msgstr"
                out.append(f"{place.indent if form else ''}{keyword} {_quoted(text or '', end)}{end if form + 1 < len(written) else ''}")
        return "".join([*out, self.source[at:]]).encode("utf-8")


def parse(data: bytes, name: str, target: str | None = None, *, retranslate_fuzzy: bool = False, mark_fuzzy: bool = False) -> Catalog:
    """target: the tag of the language that the header is to name. Raises InputError naming the line that is no catalog's.

    retranslate_fuzzy: also entries that are marked so, whose translation is of an earlier text. mark_fuzzy: each new translation,
    which a person is to read.
    """
    source = decoded(data, name)
    entries = list(read(source, name))
    header = next((e for e in entries if e.texts.get("msgid") == "" and "msgctxt" not in e.texts), None)
    forms = gettext_header.forms(header.texts.get("msgstr", "") if header else "")
    if target is not None and (headed := _headed(source, header, entries, target)) != source:
        source = headed
        entries = list(read(source, name))
        forms = gettext_header.forms(next(e for e in entries if e.texts.get("msgid") == "").texts.get("msgstr", ""))
    signs = _marking(entries)
    places: list[_Place] = []
    segments: list[Segment] = []
    fuzzy = 0
    for entry in entries:
        if not entry.texts.get("msgid") or entry.begin < 0 or entry.texts["msgid"] in _CREDITS:
            continue
        if any(v for k, v in entry.texts.items() if k.startswith("msgstr")) and not (retranslate_fuzzy and entry.fuzzy):
            fuzzy += entry.fuzzy
            continue
        message = _message(entry, target)
        made = list(message.segments) if message else [_segment(text, entry, signs) for text in _sources(entry, forms)]
        if any(has_letters(segment.prose()) for segment in made):
            flagged = entry.flagged or (entry.head, entry.head)
            flags = _flags(source, entry, mark_fuzzy)
            places.append(_Place(entry.begin, entry.end, len(made), "msgid_plural" in entry.texts, entry.indent, flagged, flags, message))
            segments += made
    return Catalog(source, tuple(places), tuple(segments), fuzzy)


def _message(entry: Entry, target: str | None) -> Message | None:
    """An entry's text as a message of ICU, if it has plurals or selects and no other format; else with what its tags say."""
    text = entry.texts["msgid"]
    if "msgid_plural" in entry.texts:
        return None
    if not icu.is_complex(text) or _formats(entry.flags):
        return messages.tagged(text, entry.line, _pattern(entry)) if "<" in text and "=" in text else None
    return messages.message(text, entry.line, target=target, marks=_pattern(entry))


def _flags(source: str, entry: Entry, fuzzy: bool) -> str:
    """An entry's line of flags, with or without `fuzzy`."""
    flags = [flag.strip() for flag in entry.flags.split(",") if flag.strip() not in ("", "fuzzy")]
    line = source[slice(*entry.flagged)] if entry.flagged else ""
    if entry.fuzzy == fuzzy:
        return line
    end = line[len(line.rstrip("\r\n")) :] or ("\r\n" if "\r\n" in source else "\n")
    flags = [*(["fuzzy"] if fuzzy else []), *flags]
    return f"#, {', '.join(flags)}{end}" if flags else ""


def _skeleton(data: bytes, before: Sequence[dict[str, str]]) -> object:
    """Comments and flags, keys, the number of forms, what a new translation lost or added beside words, and what msgfmt says of it."""
    source = decoded(data, "")
    entries = list(read(source, ""))
    keys = [{k: v for k, v in e.texts.items() if not k.startswith("msgstr")} for e in entries]
    # an entry may lack forms that the header says there are
    forms = [["msgstr[]" if "msgid_plural" in e.texts else k for k in e.texts if k.startswith("msgstr")][:1] for e in entries]
    signs = _marking(entries)
    known = [*before, *[{}] * (len(entries) - len(before))]
    new = [entry.texts != texts for entry, texts in zip(entries, known, strict=False)]
    lost = [_lost(e, signs) for e, is_new in zip(entries, new, strict=True) if e.texts.get("msgid") and is_new]
    header = [e.texts.get("msgstr") for e in entries if not e.texts.get("msgid")]
    lines = [line.strip("\ufeff \t\f\v\r") for line in source.split("\n")]
    comments = [line for line in lines if line.startswith("#") and not line.startswith("#,")]
    flags = [sorted({flag.strip() for flag in entry.flags.split(",")} - {"", "fuzzy"}) for entry in entries]
    return comments, flags, keys, forms, header, [each for each in lost if each], _complaints(data)


def _lost(entry: Entry, signs: frozenset[str]) -> list[object]:
    """Placeholders, tags and line ends at both ends in which the forms differ from what they translate."""
    written = [text for keyword, text in entry.texts.items() if keyword.startswith("msgstr")]
    out: list[object] = []
    for source, text in zip(_sources(entry, len(written)), written, strict=False):
        before, after = _signs(source, entry), _signs(text, entry)
        if text and before != after:
            out.append(sorted((before - after) + (after - before)))
        if text and _accelerator(source, signs) is not None and _accelerator(text, signs) is None:
            out.append("accelerator")
    return out


def _signs(text: str, entry: Entry) -> Counter[str]:
    ends = [f"{where} line end" for where, there in (("first", text.startswith("\n")), ("last", text.endswith("\n"))) if there]
    told = messages.placeholders(text, _pattern(entry)) if icu.is_complex(text) and not _formats(entry.flags) else None
    return Counter([*(told if told is not None else (without_attributes(m.group()) for m in _pattern(entry).finditer(text))), *ends])


def _complaints(data: bytes) -> list[str]:
    """What msgfmt's checks find in the entries of a catalog; nothing where there is no msgfmt. A header's faults are the source's own."""
    program = shutil.which("msgfmt")
    if program is None:
        return []
    command = [program, "-c", "-o", os.devnull, "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    lines = [re.sub(r"^.*?:(?:\d+:)* *", "", line) for line in done.stderr.decode("utf-8", "replace").splitlines()]
    return sorted(line for line in lines if not re.search(r"header|nplurals|plural (?:form|expression)|fatal error|^warning", line))


def _sources(entry: Entry, forms: int) -> list[str]:
    if "msgid_plural" not in entry.texts:
        return [entry.texts["msgid"]]
    plural = entry.texts["msgid_plural"]
    return [plural] if forms == 1 else [entry.texts["msgid"], *[plural] * (forms - 1)]


def _segment(text: str, entry: Entry, signs: frozenset[str]) -> Segment:
    plain, kind = text, ""
    if (place := _accelerator(text, signs)) is not None:
        plain = text[:place] + text[place + 1 :]
        kind = text[place] + plain[place]
    pieces: list[tuple[str, bool]] = []
    for piece, is_mark in with_marks(plain, _pattern(entry)):
        pieces += [(piece, True)] if is_mark else _wrapped(piece)
    stripped, places = joined(pieces)
    return Segment(stripped, '""', entry.line, places, kind)


def _accelerator(text: str, signs: frozenset[str]) -> int | None:
    """Where the one mark of a letter for the keyboard stands in a label. signs: those that other labels have."""
    marks = [mark.start() for mark in _ACCELERATOR.finditer(text)]
    if not marks:
        marks = [place for mark in _INSIDE.finditer(text) if text[(place := mark.start(mark.lastindex or 0))] in signs]
    return marks[0] if len(marks) == 1 and len(text) < _LABEL else None


def _marking(entries: Sequence[Entry]) -> frozenset[str]:
    """The signs that mark letters for the keyboard in a catalog."""
    labels = (entry.texts.get("msgid", "") for entry in entries)
    return frozenset(text[place] for text in labels if (place := _accelerator(text, frozenset())) is not None)


def _pattern(entry: Entry) -> re.Pattern[str]:
    """What in an entry's text is no prose, by its flags."""
    return re.compile("|".join([MARKS_IN_MESSAGES, TAGS, *(_formats(entry.flags) or [PLACEHOLDER.pattern])]))


@functools.lru_cache(maxsize=1000)
def _formats(flags: str) -> tuple[str, ...]:
    """What the formats that an entry's flags name put into texts."""
    return tuple(pattern for flag, pattern in BY_FLAG.items() if re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", flags))


def _wrapped(prose: str) -> Iterator[tuple[str, bool]]:
    """Prose whose sentences go over line ends: such a line end is a space that is seen, and a mark behind it."""
    at = 0
    for match in re.finditer(r"(?<=[\w,])\n(?=[^\W\d_A-Z])", prose):
        if prose[match.end()].islower():
            yield from ((prose[at : match.start()] + " ", False), ("\n", True))
            at = match.end()
    yield prose[at:], False


def _written(text: str, segment: Segment) -> str:
    """The translation as the entry holds it: lines without the space before their ends, the keyboard letter marked."""
    pieces = parts(text, segment) or [(text, False)]
    for number, (_, mark) in enumerate(pieces[1:], 1):
        if mark and pieces[number][0] == "\n":
            pieces[number - 1] = (pieces[number - 1][0].rstrip(" "), pieces[number - 1][1])
    return "".join(_accelerated(pieces, segment.kind))


def _accelerated(pieces: Sequence[tuple[str, bool]], kind: str) -> Iterator[str]:
    """The translation with its keyboard letter marked: the source's, where a word begins with it, or the first letter of its prose."""
    wanted = rf"(?<!\w){re.escape(kind[1:])}"
    prose = [(number, part) for number, (part, mark) in enumerate(pieces) if kind and not mark]
    found = ((n, re.search(pattern, part, re.IGNORECASE)) for pattern in (wanted, r"[^\W\d_]") for n, part in prose)
    place = next(((number, match.start()) for number, match in found if match), None)
    for number, (part, _) in enumerate(pieces):
        yield f"{part[: place[1]]}{kind[0]}{part[place[1] :]}" if place is not None and place[0] == number else part


def _headed(source: str, header: Entry | None, entries: Sequence[Entry], target: str) -> str:
    """The source with a header of the language that it is to be in, as msginit makes it, and of the charset that is written."""
    end = "\r\n" if "\r\n" in source else "\n"
    plural = any("msgid_plural" in entry.texts for entry in entries)
    if header is None:
        mark = "\ufeff" if source.startswith("\ufeff") else ""
        made = gettext_header.filled(gettext_header.EMPTY, target, plural=plural)
        return f'{mark}msgid ""{end}msgstr {_lines(made, end)}{end * 2}{source[len(mark) :]}' if plural else source
    text = header.texts.get("msgstr", "")
    translated = any(t for e in entries if e.texts.get("msgid") for key, t in e.texts.items() if key.startswith("msgstr"))
    unmade = gettext_header.is_unmade(text, target, fuzzy=header.fuzzy, translated=translated)
    new = gettext_header.with_charset(gettext_header.filled(text, target, plural=plural) if unmade else text)
    begin, ended = header.flagged if header.flagged and unmade else (header.begin, header.begin)
    flags = _flags(source, header, False) if ended > begin else ""
    written = source[header.begin : header.end] if new == text else f"msgstr {_lines(new, end)}"
    return source[:begin] + flags + source[ended : header.begin] + written + source[header.end :]


def _quoted(text: str, end: str) -> str:
    """The string as catalogs write it: on one line, or an empty one and then a line each."""
    return _lines(text, end) if len(re.findall(_LINES, text)) > 1 else f'"{_escaped(text)}"'


def _lines(text: str, end: str) -> str:
    """An empty string, and the lines of a text, each as one."""
    return end.join(['""', *(f'"{_escaped(line)}"' for line in re.findall(_LINES, text))])


def _escaped(line: str) -> str:
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\t", "\\t"), ("\r", "\\r"), ("\n", "\\n")):
        line = line.replace(character, written)
    return line
