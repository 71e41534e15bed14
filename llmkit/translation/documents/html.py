"""HTML: the text between tags and in attributes that people read; tags, scripts, comments and references stay.

The file is read token by token (`html_tokens`), because no parser tells where a token stands. One pass, no tree: depth and unclosed
tags cost nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from llmkit.translation.documents import front_matter, icu, page_language
from llmkit.translation.documents.base import Segment, Span, TextDocument, cut, has_letters, joined, one_line, parts
from llmkit.translation.documents.html_text import read
from llmkit.translation.documents.html_tokens import RAW, Token, tokens
from llmkit.translation.documents.page_templates import Lines
from llmkit.translation.placeholders import ELSE, IN_PAGES, cuts

#: Elements inside a sentence; all others end one.
_INLINE = frozenset(
    (
        "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i", "img", "ins", "label", "mark",
        "nobr", "q", "ruby", "s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "wbr",
    )
)  # fmt: skip
#: Elements whose content is no prose; those in a sentence stand in it as one mark.
_VERBATIM = frozenset(("pre", "textarea", "svg"))
_CODE = frozenset(("code", "kbd", "samp", "var", "math", "rp", "rt", "mat-icon", "v-icon"))
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)  # fmt: skip
#: Elements without an end tag end where one of these begins.
_ENDS = {
    "li": {"li"}, "dt": {"dt", "dd"}, "dd": {"dt", "dd"}, "option": {"option", "optgroup"}, "td": {"td", "th", "tr", "tbody", "tfoot"},
    "th": {"td", "th", "tr", "tbody", "tfoot"}, "tr": {"tr", "tbody", "tfoot"},
    "p": {
        "address", "article", "aside", "blockquote", "details", "div", "dl", "fieldset", "figure", "footer", "form", "h1", "h2", "h3", "h4",
        "h5", "h6", "header", "hr", "main", "menu", "nav", "ol", "p", "pre", "section", "table", "ul",
    },
}  # fmt: skip
#: Attributes that people read (HTML standard, translatable attributes).
_READ = frozenset(
    ("title", "alt", "placeholder", "label", "abbr", "summary", "aria-label", "aria-description", "aria-placeholder",
     "aria-roledescription", "aria-valuetext", "aria-braillelabel")
)  # fmt: skip
_META = frozenset(
    ("description", "keywords", "og:title", "og:description", "og:image:alt", "twitter:title", "twitter:description",
     "twitter:image:alt", "dc.title", "dc.description", "dcterms.title", "dcterms.description")
)  # fmt: skip
#: Kinds of <input> that show their value on a button.
_BUTTONS = frozenset(("submit", "button", "reset"))
#: Elements that stand apart where one follows another at once, as the links of a menu do.
_APART = frozenset(("a", "span", "ins", "del", "label", "time", "data", "abbr", "cite", "q"))
#: What a reference to a note begins with.
_NOTE = re.compile(r"(?:<[^<>]*>){0,3}[\[(]?[\d*†‡]")
#: A small number over or under the line: <sup>1</sup> is one mark.
SMALL = re.compile(r"<su[bp]\b[^>]*>\Z", re.IGNORECASE)
#: Classes of elements that are not translated; what is in an icon is its name.
_UNREAD = re.compile(r"notranslate\Z|material-(?:icons|symbols)")
_ENDED = re.compile(r"</([a-zA-Z]+)")


def parse(data: bytes, name: str, target: str | None = None, *, encoding: str | None = None) -> TextDocument:
    """The document of an HTML file. target: what `lang` becomes. encoding: of the file, and of what is built; None for what it declares."""
    source, encoding = page_language.read(data, name, encoding)
    if target is not None:
        source = page_language.changed_to(source, target)
    front = front_matter.end_of(source)
    of_page = (replace(span, begin=span.begin + front, end=span.end + front) for span in spans(source[front:]))
    both = [*front_matter.spans(source[:front]), *of_page]
    return cut(source, both, _write, _compare, encoding, lambda built: _whole(page_language.read(built, name, encoding)[0]))


def _write(text: str, segment: Segment) -> str:
    return front_matter.write(text, segment) if segment.kind.startswith("front") else write(text, segment)


def _compare(text: str, segment: Segment) -> object:
    return None if segment.kind.startswith("front") else compare(text, segment)


def _whole(source: str) -> list[object]:
    front = front_matter.end_of(source)
    return [front_matter.skeleton(source[:front]), *skeleton(source[front:])]


def spans(source: str) -> list[Span]:
    """The segments of HTML: runs of text and inline tags that hold a letter, and attributes that people read."""
    finder = _Finder(source)
    for token in tokens(source):
        finder.take(token)
    finder.end_segment()
    return sorted(finder.spans, key=lambda span: (span.begin, -span.end))


class _Finder:
    """Collects segments from tokens."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.spans: list[Span] = []
        self._parts: list[tuple[int, int, bool]] = []  # begin, end, whether it is a mark
        self._left_out: list[str] = []  # open elements, the first of which is not translated
        self._again: list[tuple[list[str], list[str]]] = []  # translated inside one that is not: the elements around it, and open ones
        self._code = False
        self._begin = 0
        self._cuts, self._lines = cuts(source), Lines(source)

    def take(self, token: Token) -> bool:
        """Returns whether the token is in an element that is left out, or ends one."""
        if self._left_out and self._is_translated_again(token):
            self._leave_out(token.begin)
            self._again.append((self._left_out, [token.name]))
            self._left_out = []
        elif self._left_out:
            self._inside(token)
            if self._left_out or not self._ended_by(token):
                return True
        elif self._again and self._ends_before(token):
            self._resume(token.begin)
            return self.take(token)
        self._take(token)
        if self._again and not self._left_out and not self._again[-1][1]:
            self._resume(token.end)
        return False

    def _take(self, token: Token) -> None:
        """A token that is not in an element that is left out."""
        if token.kind == "text":
            self._text(token.begin, token.end)
        elif token.kind == "other" and self._is_apart_from_both(token):
            self.end_segment()
        elif token.kind == "other":
            self._parts.append((token.begin, token.end, True))
            self._branches(token)
        elif token.kind == "start" and self._is_left_out(token):
            self._left_out = [token.name]
            self._code = token.name in _CODE
            self._begin = token.begin
            if not self._code and token.name not in _INLINE:
                self.end_segment()
            self._attributes(token)
        else:
            self._tag(token)

    def _branches(self, token: Token) -> None:
        """The branches of a plural or a select as segments of their own, within that of the sentence around them."""
        for begin, end in icu.innermost(self.source[token.begin : token.end]):
            begin, end = begin + token.begin, end + token.begin
            inside = (span for span in spans(self.source[begin:end]) if not span.kind)
            self.spans += [replace(span, begin=span.begin + begin, end=span.end + begin, kind="branch") for span in inside]

    def _is_apart_from_both(self, token: Token) -> bool:
        """Whether a statement stands alone in its line, or between two texts of which one is shown."""
        place = (token.begin, token.end)
        return bool(self._lines.hold(*place) or ELSE.match(self.source, *place) or self._cuts.fullmatch(self.source, *place))

    def _text(self, begin: int, end: int) -> None:
        """A text, cut at lines of statements, and where another one may be shown in its place."""
        cut = [*self._lines.within(begin, end), *(match.span() for match in self._cuts.finditer(self.source, begin, end))]
        for a, b in sorted(cut):
            self._prose(begin, a)
            self.end_segment()
            begin = max(begin, min(b, end))
        self._prose(begin, end)

    def _prose(self, begin: int, end: int) -> None:
        if self._parts and not self._parts[-1][2] and self._parts[-1][1] == begin:
            self._parts[-1] = (self._parts[-1][0], end, False)  # behind a `<` that is none
        elif begin < end:
            self._parts.append((begin, end, False))

    def _tag(self, token: Token) -> None:
        apart = token.kind == "start" and token.name in _APART and not _NOTE.match(self.source, token.end)
        if token.name not in _INLINE or (apart and self._is_apart(token.begin)):
            self.end_segment()
        if token.name in _INLINE:
            self._parts.append((token.begin, token.end, True))
        if token.kind == "start":
            self._attributes(token)

    def _is_apart(self, at: int) -> bool:
        """Whether a word and the end of an element stand before a place, with nothing between."""
        for begin, end, mark in reversed(self._parts):
            if end != at or not mark:
                return end == at and self.source[at - 1].isalnum() and begin < end
            ended = _ENDED.match(self.source, begin, end)
            if ended is None or ended[1].lower() not in _INLINE:
                return False
            at = begin
        return False

    def _is_left_out(self, token: Token) -> bool:
        if token.name in _VOID or self.source.endswith("/>", token.begin, token.end):
            return False
        return token.name in _VERBATIM or token.name in _CODE or self._untranslated(token)

    def _untranslated(self, token: Token) -> bool:
        values = {name: self.source[a:b].strip().lower() for name, a, b in token.attributes if name in ("translate", "class")}
        return values.get("translate") == "no" or any(_UNREAD.match(name) for name in values.get("class", "").split())

    def _inside(self, token: Token) -> None:
        """A token in an element that is left out: what it holds is followed until it ends."""
        first = self._left_out[0]
        if token.kind == "start" and token.name not in _VOID:
            if token.name in _ENDS.get(self._left_out[-1], ()):
                self._left_out.pop()
            if self._left_out or token.name not in _ENDS.get(first, ()):
                if not self.source.endswith("/>", token.begin, token.end):
                    self._left_out.append(token.name)
                return
        elif token.kind == "end":
            if token.name in self._left_out:
                while self._left_out.pop() != token.name:
                    pass
            elif first in _ENDS:
                self._left_out = []  # its parent ends
        if not self._left_out:
            self._leave_out(token.end if token.kind == "end" and token.name == first else token.begin, first)

    def _leave_out(self, end: int, first: str = "") -> None:
        """What was left out up to `end` stands in a sentence as one mark."""
        if (self._parts or self._code or (first or self._left_out[0]) in _INLINE) and end > self._begin:
            self._parts.append((self._begin, end, True))

    def _is_translated_again(self, token: Token) -> bool:
        """Whether an element inside one that is not translated is to be, as the standard has it."""
        if self._code or self._left_out[0] in _VERBATIM or token.kind != "start" or token.name in _VOID | _VERBATIM | _CODE | RAW:
            return False
        said = (self.source[a:b].strip().lower() for name, a, b in token.attributes if name == "translate")
        return next(said, "") in ("yes", "") and any(name == "translate" for name, _, _ in token.attributes)

    def _ends_before(self, token: Token) -> bool:
        """Follows what is open in the element that is translated again; whether the element has ended before a token."""
        outer, names = self._again[-1]
        if token.kind == "end" and token.name in names:
            while names.pop() != token.name:
                pass
        elif token.kind == "end":
            return token.name in outer
        elif token.kind == "start" and token.name not in _VOID and not self.source.endswith("/>", token.begin, token.end):
            if token.name in _ENDS.get(names[-1], ()):
                names.pop()
            if names and not self._is_left_out(token):
                names.append(token.name)
            return not names
        return False

    def _resume(self, at: int) -> None:
        """From `at` on, what is around the element that was translated is left out again."""
        self._left_out, _ = self._again.pop()
        if self._left_out[0] not in _INLINE:
            self.end_segment()
        self._begin = at

    def _ended_by(self, token: Token) -> bool:
        """Whether a token that ended the element is also one of its own."""
        return not (self._parts and self._parts[-1][1] == token.end) and not (token.kind == "end" and not self._parts)

    def _attributes(self, token: Token) -> None:
        values = {name: (a, b) for name, a, b in token.attributes}
        if self._untranslated(token):
            return
        for name, (a, b) in values.items():
            if _is_read(self.source, token, name, values) and has_letters(self.source[a:b]):
                self._attribute(a, b)

    def _attribute(self, begin: int, end: int) -> None:
        """A value as a segment of its own, within that of the sentence around it."""
        text, marks = joined(read(self.source[begin:end]))
        quote = self.source[begin - 1]
        self.spans.append(Span(begin, end, text, marks, f"attribute {quote}"))

    def end_segment(self) -> None:
        """From the first run of text that holds a letter to the last."""
        self._parts = list(self._numbered())
        worded = [n for n, (a, b, mark) in enumerate(self._parts) if not mark and has_letters(html.unescape(self.source[a:b]))]
        if worded:
            self.spans.append(_span(self.source, self._parts[worded[0] : worded[-1] + 1]))
        self._parts = []

    def _numbered(self) -> Iterator[tuple[int, int, bool]]:
        """The parts; a small number with its tags is one mark, and so is the reference to a note behind a word."""
        at = 0
        while at < len(self._parts):
            begin, _, mark = self._parts[at]
            count = next((count for count in (3, 5, 7) if mark and self._is_number(at, count)), 1)
            yield begin, self._parts[at + count - 1][1], mark
            at += count

    def _is_number(self, at: int, count: int) -> bool:
        """Whether so many parts are start tags, a text without letters and as many end tags."""
        run = self._parts[at : at + count]
        middle = count // 2
        if [mark for _, _, mark in run] != [True] * middle + [False] + [True] * middle:
            return False
        begin = run[0][0]
        if not SMALL.match(self.source[begin : run[0][1]]) and (not at or self.source[begin - 1].isspace()):
            return False
        tags = [self.source[a : a + 2] == "</" for a, _, mark in run if mark]
        number = html.unescape(self.source[run[middle][0] : run[middle][1]])
        return tags == [False] * middle + [True] * middle and not has_letters(number) and _NOTE.match(number) is not None


def is_number(text: str, end: str) -> bool:
    """Whether a text without letters ends with the end tag of a small number."""
    return not has_letters(html.unescape(text)) and end.lower().startswith(("</sup", "</sub"))


def _is_read(source: str, token: Token, name: str, values: dict[str, tuple[int, int]]) -> bool:
    """Whether people read an attribute of a tag, whose values are at these places."""
    if token.name == "meta" and name == "content":
        return any(source[slice(*values[key])].lower() in _META for key in ("name", "property", "itemprop") if key in values)
    if token.name == "input" and name == "value":
        return "type" in values and source[slice(*values["type"])].lower() in _BUTTONS
    return name in _READ and token.name != "meta"


def _span(source: str, run: list[tuple[int, int, bool]]) -> Span:
    begin, end = run[0][0], run[-1][1]
    first, last = source[begin : run[0][1]], source[run[-1][0] : end]
    begin, end = begin + len(first) - len(first.lstrip()), end - (len(last) - len(last.rstrip()))
    pieces: list[tuple[str, bool]] = []
    for a, b, mark in run:
        text = source[max(a, begin) : min(b, end)]
        pieces += [(text, True)] if mark else read(text)
    text, marks = joined(pieces)
    return Span(begin, end, text, marks)


def write(text: str, segment: Segment) -> str:
    """Prose with references for what would be markup."""
    out = []
    for part, mark in parts(text, segment) or [(text, False)]:
        if mark:
            out.append(part)
            continue
        written = html.escape(part, quote=False).replace("\xa0", "&nbsp;")
        if segment.kind.startswith("attribute"):
            written = html.escape(part, quote=True) if segment.kind[-1] in "\"'" else re.sub(r"\s+", "&#32;", html.escape(part))
        out.append(written)
    return "".join(out)


def compare(text: str, segment: Segment) -> object:
    """The tags of a segment, and which of them are empty."""
    all_tokens = list(tokens(write(text, segment)))
    empty = [a.name for a, b in pairwise(all_tokens) if (a.kind, b.kind, a.name) == ("start", "end", b.name)]
    return [(t.kind, t.name, t.end - t.begin) for t in all_tokens if t.kind != "text"], empty


def skeleton(source: str) -> list[object]:
    """Everything but words, in order: tags without the values that people read, comments, what is left out, placeholders."""
    finder = _Finder(source)
    out: list[object] = []
    prose: list[str] = []
    before = ""  # the start tag right before
    for token in tokens(source):
        inside = finder.take(token)
        raw = source[token.begin : token.end]
        out += ["empty"] if token.kind == "end" and token.name == before and not "".join(prose).strip() else []
        before = token.name if token.kind == "start" else before if token.kind == "text" else ""
        if token.kind == "text" and not inside:
            prose.append(raw)
            continue
        shape = [raw] if inside else _branches(raw) if token.kind == "other" else _shape(source, token)
        out += [*_placeholders("".join(prose)), *shape]
        prose = []
    return [*out, *_placeholders("".join(prose))]


def _placeholders(raw: str) -> list[str]:
    return [match.group() for match in IN_PAGES.finditer(one_line(raw))]


def _branches(raw: str) -> Iterator[object]:
    """What is no text, the branches of a plural or a select in it without their words."""
    at = 0
    for begin, end in icu.innermost(raw):
        yield raw[at:begin]
        yield skeleton(raw[begin:end])
        at = end
    yield raw[at:]


def _shape(source: str, token: Token) -> Iterator[str]:
    """A tag, the values that people read replaced by the placeholders in them."""
    at = token.begin
    values = {name: (a, b) for name, a, b in token.attributes}
    for name, begin, end in token.attributes:
        if _is_read(source, token, name, values):
            yield source[at:begin]
            yield from _placeholders(source[begin:end])
            at = end
    yield source[at : token.end]
