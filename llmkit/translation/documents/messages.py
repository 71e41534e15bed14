"""Messages of programs: what in a file of keys and values is a text, its placeholders, plurals and quotes.

Knows values; not the files that they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from llmkit.translation.documents import icu, plurals
from llmkit.translation.documents.base import Segment, has_letters, joined, parts, with_marks
from llmkit.translation.documents.edits import Unit
from llmkit.translation.documents.icu import Branch
from llmkit.translation.documents.message_tags import with_attributes
from llmkit.translation.placeholders import MARKS_IN_MESSAGES, MARKUP, PLACEHOLDER

#: Of i18next, Rails, Vue, Chrome, Apple and ICU; the rest is in `placeholders`. A # is the number of a plural.
_OTHERS = (
    r"%\{[^{}\n]*\}|\{'[^'\n]*'\}|%#@\w+@|%arg\b|\$t\([^()\n]*\)|@(?:\.\w+)?:(?:\([^()\n]*\)|\{'[^'\n]*'\}|[\w.-]*\w)|\$[A-Za-z_]\w*\$|\$[1-9](?!\d|[.,]\d)|__\w+?__"
    r"|\{\s*[\w.-]+\s*(?:,\s*\w+\s*(?:,[^{}\n]*)?)?\}|'[{}][^'\n]*'|#"
)
#: BBCode, and the numbers for which Symfony and Laravel have a text.
_BRACKETS = r"\[/?(?:b|i|u|s|url|img|color|size|quote|code|list|center|font|\*)(?:=[^\[\]\n]*)?\]|[\[\]]\d+,[ ]?(?:\d+|\*|Inf)[\[\]]"
MARKS = re.compile(f"{MARKS_IN_MESSAGES}|{_OTHERS}|{_BRACKETS}|{MARKUP}|{PLACEHOLDER.pattern}")
#: vue-i18n's plural forms of one message.
_FORMS = re.compile(r"(\s\|\s)")
#: Values that are no text: colors, paths, media types, names of programs, codes of languages, sizes, dates' formats, hashes.
_CODE = re.compile(
    r"#[0-9a-fA-F]{3,8}|(?:~|\.{0,2})/\S*|[A-Za-z]:\\\S*|\S*/\S*\.\w{1,5}|(?:text|image|audio|video|font|application|multipart)/[\w.+-]+"
    r"|[a-z0-9]+(?:_[a-z0-9]+)+|[A-Z0-9]+(?:_[A-Z0-9]+)+|[a-z][a-z0-9]*[A-Z]\w*|[\w-]+(?:\.[\w-]+)+|[\w-]+(?:::[\w-]+)+"
    r"|[a-z]{2,3}[-_](?:[A-Z]{2}|[A-Z][a-z]{3})|\d+(?:\.\d+)?[a-zA-Z]{1,3}|(?:[yYMdDHhmsS]{1,4}[-/.:, ]+)+[yYMdDHhmsSaA]{1,4}"
    r"|(?=\S*\d)[\w+/=-]{24,}|:[a-z_]\w*|[a-z][a-z0-9+.-]*:\S+|[a-z]+\d+|--?[a-z][\w-]*(?::\s*[\w#%.-]+)?|\^.*\$|true|false|null"
)
#: What strftime puts in: %Y, %-d.
_TIME = re.compile(r"%[-_0^#:]*\d*[A-Za-z]")
#: Keys whose values programs read, if they are one word in small letters.
_KEYS = frozenset(("id", "key", "icon", "class", "classname", "style", "slug", "href", "src", "url", "type", "rel", "target", "round_mode"))
#: Characters of a name; more without a space are data.
_LONGEST_NAME = 200
#: The kind of a segment that is a message that can't be read.
BROKEN = "broken"
#: Two apostrophes in a word: the text's author knows that one would quote.
_DOUBLED = re.compile(r"(?<=\w)''(?=\w)")
_JAVA = re.compile(r"\{\d+[,}]")


def is_text(value: str, key: str = "") -> bool:
    """Whether a value is for people: it has a letter outside of placeholders and is no name, path, color or code.

    key: the value's own, if the file has one.
    """
    word = value.strip()
    if (key.lower() in _KEYS and word.islower() and not re.search(r"\s", word)) or not has_letters(_TIME.sub("", value)):
        return False
    code = _CODE.fullmatch(word) if len(word) <= _LONGEST_NAME else word.isascii() and not re.search(r"\s", word)
    if code or re.search("[\ud800-\udfff]", value):
        return False
    return icu.is_complex(value) or has_letters(MARKS.sub("", value))


@dataclass(frozen=True)
class Value:
    """A string of a file: its place [begin, end), what it says, its line from 1."""

    begin: int
    end: int
    text: str
    line: int


@dataclass(frozen=True)
class Message:
    """segments: the texts of a message, one for each branch. write: the message from their translations."""

    segments: tuple[Segment, ...]
    write: Callable[[Sequence[str]], str]


def message(
    text: str, line: int, *, java: bool = False, target: str | None = None, marks: re.Pattern[str] = MARKS, kind: str = ""
) -> Message | None:
    """A message of a program; None where it holds no text. line: where it stands, from 1. marks: what in its prose stays.

    java: read by java.text.MessageFormat, where it has {0}. target: the tag of the language whose plural categories are added, with
    the text of "other".

    A message that can't be read as what it looks like has one segment, whose translation is never taken.
    """
    doubled = bool(_DOUBLED.search(text)) or (java and bool(_JAVA.search(text)))
    try:
        made: list[str | Branch] = [icu.message(text, marks)] if doubled or icu.is_complex(text) else _plain(text)
    except icu.NotAMessage:
        if icu.is_complex(text):
            return Message((Segment(text, text, line, (), BROKEN),), lambda _: text)
        made, doubled = _plain(text), False
    made = [_with_categories(with_attributes(part, marks), target) if isinstance(part, Branch) else part for part in made]
    return _message(made, line, kind, doubled=doubled)


def tagged(text: str, line: int, marks: re.Pattern[str]) -> Message | None:
    """A text of no format of messages whose tags have attributes that people read; None for any other."""
    branch = with_attributes(Branch(*joined(with_marks(text, marks))), marks)
    return _message([branch], line, "", doubled=False) if branch.holes else None


def _message(made: Sequence[str | Branch], line: int, kind: str, *, doubled: bool) -> Message | None:
    segments = [Segment(branch.text, branch.text, line, branch.marks, kind) for branch in _branches(made)]
    segments = [segment for segment in segments if has_letters(segment.prose())]
    return Message(tuple(segments), lambda texts: _rebuilt(made, iter(texts), doubled)) if segments else None


def unit(value: Value, encode: Callable[[str], str], *, java: bool = False, target: str | None = None) -> Unit | None:
    """The message of a value, as `message` reads it. encode: a text as the file writes it."""
    made = message(value.text, value.line, java=java, target=target)
    if made is None:
        return None
    if made.segments[0].kind == BROKEN:
        return Unit(made.segments, lambda _: ())
    return Unit(made.segments, lambda texts: [(value.begin, value.end, encode(made.write(texts)))])


def _plain(text: str) -> list[str | Branch]:
    forms = _FORMS.split(text)
    if any(form.count("{") != form.count("}") for form in forms):  # the bar is a filter's: {{ x | upper }}
        forms = [text]
    return [part if n % 2 else Branch(*joined(with_marks(part, MARKS))) for n, part in enumerate(forms)]


#: What stands before a branch: its argument, where it is the first, and its category.
_PLURAL = re.compile(r"\{\s*[\w.-]+\s*,\s*plural\s*,")
_ARGUMENT = re.compile(r"\{\s*[\w.-]+\s*,\s*\w+")
_CATEGORY = re.compile(r"(=\d+|\w+)\s*\{\Z")


def _with_categories(branch: Branch, target: str | None) -> Branch:
    """A branch whose plurals have all categories of the target language."""
    return replace(branch, holes=tuple((number, tuple(_completed(made, target))) for number, made in branch.holes))


def _completed(made: tuple[str | Branch, ...], target: str | None) -> Iterator[str | Branch]:
    parts = [_with_categories(part, target) if isinstance(part, Branch) else part for part in made]
    named = [_CATEGORY.search(part) for part in parts[:-1] if isinstance(part, str)]
    present = [match[1] if match else "" for match in named]
    yield from parts[:-1]
    if isinstance(parts[0], str) and _PLURAL.match(parts[0]):
        lead = re.match(r"\}\s*", parts[2]) if len(parts) > 3 and isinstance(parts[2], str) else None
        for category in plurals.lacking(set(present), target):
            yield f"{lead.group() if lead else '} '}{category} {{"
            yield parts[2 * present.index("other") + 1]
    yield parts[-1]


def _branches(made: Sequence[str | Branch]) -> Iterator[Branch]:
    """All branches once, each before those inside it."""
    seen: set[int] = set()
    for branch in made:
        if isinstance(branch, Branch) and id(branch) not in seen:
            seen.add(id(branch))
            yield branch
            for _, inner in branch.holes:
                yield from _branches(inner)


def _rebuilt(made: Sequence[str | Branch], texts: Iterator[str], doubled: bool) -> str:
    """The message with its texts, apostrophes as its author wrote them. One right before a brace or # would quote it: it is a letter."""
    pieces = list(_pieces(made, texts))
    if doubled:
        return "".join(text if mark else text.replace("'", "''") for text, mark in pieces)
    followed = zip(pieces, [*pieces[1:], ("", True)], strict=True)
    return "".join(
        f"{text[:-1]}’" if not mark and text.endswith("'") and after[:1] in ("{", "}", "#") else text
        for (text, mark), (after, _) in followed
    )


def _pieces(made: Sequence[str | Branch], texts: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """What a message is made of, as (text, whether it is none of its prose), without empty ones."""
    done: dict[int, list[tuple[str, bool]]] = {}
    for branch in made:
        if isinstance(branch, str):
            yield branch, True
        elif id(branch) in done:
            yield from done[id(branch)]
        else:
            done[id(branch)] = list(_branch_pieces(branch, texts))
            yield from done[id(branch)]


def _branch_pieces(branch: Branch, texts: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """The same for one branch, whose texts are the next ones."""
    segment = Segment(branch.text, branch.text, 0, branch.marks)
    text = next(texts) if has_letters(segment.prose()) else branch.text
    if branch.choice and text != branch.text:
        # the one would quote, on which level its author alone knows; the other would end the branch
        text = text.replace("'", "’").replace("|", "/")
    if branch.quote and text != branch.text:
        text = text.replace(branch.quote, "’" if branch.quote == "'" else "”").replace("<", "‹").replace(">", "›")
    holes, number = dict(branch.holes), 0
    for part, mark in parts(text, segment) or parts(branch.text, segment) or []:
        if mark and number in holes:
            yield from _pieces(holes[number], texts)
        elif part:
            yield part, mark
        number += mark


def placeholders(text: str, marks: re.Pattern[str] = MARKS) -> frozenset[str] | None:
    """What a plural or a select and its branches put in, whatever their number; None for a text that can't be read as one."""
    try:
        return frozenset(_put_in(icu.message(text, marks)))
    except icu.NotAMessage:
        return None


def _put_in(message: Branch) -> Iterator[str]:
    for branch in _branches([message]):
        holes = dict(branch.holes)
        for number, (begin, end) in enumerate(branch.marks):
            mark = branch.text[begin:end]
            argument = _ARGUMENT.match(mark) if number in holes else None
            yield argument.group() if argument else mark


def compare(text: str, segment: Segment) -> object:
    """The placeholders and tags that a program finds in a message's text."""
    if segment.kind == BROKEN:
        return text
    pieces = parts(text, segment) or [(text, False)]
    plain = "".join(part if mark else part.replace("'", "’") for part, mark in pieces)
    if icu.is_complex(segment.text):
        try:
            branch = icu.message(plain, MARKS)
        except icu.NotAMessage:
            return None
        return sorted(branch.text[begin:end] for begin, end in branch.marks)
    return sorted(match.group() for match in MARKS.finditer(plain)), len(_FORMS.findall(plain)), plain.count("{"), plain.count("}")
