"""Android's string resources (.xml with the root <resources>): strings, arrays and plurals, translated in place.

https://developer.android.com/guide/topics/resources/string-resource: escapes, quotation marks, xliff:g, CDATA, references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents import xml
from llmkit.translation.documents.base import Segment, Span, has_letters, joined, parts
from llmkit.translation.documents.edits import Change, EditedDocument, Unit, spanned
from llmkit.translation.documents.plurals import lacking
from llmkit.translation.documents.xml import Token

#: A value that is another resource's or an attribute of the theme.
_REFERENCE = re.compile(r"\s*[@?](?:\+?[\w.]+:)?[\w.]+/[\w.]+\s*|\s*@(?:null|empty)\s*")
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|.)|"', re.DOTALL)
_CHARACTERS = {"n": "\n", "t": "\t"}


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """Raises InputError for XML of another kind."""
    source, encoding = xml.read(data, name)
    spans: list[Span] = []
    path: list[tuple[str, bool]] = []  # of open elements the name, and whether it is translated
    inside: list[Token] | None = None
    opened = 0  # elements, with the one that holds `inside`
    for token in xml.tokens(source):
        if token.kind == "start":
            if not path and token.name != "resources":
                raise InputError(f"is XML of another kind: its root is <{token.name}>, not Android's <resources>", path=name)
            refused = xml.attribute(source, token, "translatable") == "false" or xml.attribute(source, token, "translate") == "no"
            path.append((token.name, not refused and (not path or path[-1][1])))
            if inside is None:
                inside, opened = ([] if path[-1][1] and _is_text(source, token, path) else None), len(path)
                continue
        elif token.kind == "end" and path:
            if inside is not None and opened == len(path):
                spans += _span(source, inside)
                inside = None
            path.pop()
        if inside is not None:
            inside.append(token)
    others = {begin: (end, categories) for begin, end, categories in _others(source, target)}
    made = spanned(source, spans, _write, _compare, encoding, partial(_shape, name=name, added=frozenset(b for b in others)))
    return replace(made, units=tuple(_completed(unit, source, others) for unit in made.units))


def _others(source: str, target: str | None) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """The items "other" of plurals, and the categories of the target language that are to follow them."""
    for plural in re.finditer(r"<plurals\b[^>]*>.*?</plurals\s*>", source, re.DOTALL):
        items = list(re.finditer(r"""<item\s+quantity=["'](\w+)["'][^>]*>.*?</item\s*>""", plural.group(), re.DOTALL))
        added = lacking({item[1] for item in items}, target)
        for item in items:
            if item[1] == "other" and added:
                yield plural.start() + item.start(), plural.start() + item.end(), added


def _completed(unit: Unit, source: str, others: Mapping[int, tuple[int, tuple[str, ...]]]) -> Unit:
    """A unit that also writes the items that follow its own."""
    begin = source.rfind("<item", 0, unit.place[0]) if unit.place else -1
    if begin not in others or unit.place is None or source.find("</item", begin) < unit.place[0]:
        return unit
    end, added = others[begin]
    (first, last), before = unit.place, re.search(r"\s*\Z", source[:begin])
    space = before.group() if before else ""

    def write(texts: Sequence[str]) -> Iterator[Change]:
        for change in unit.write(texts):
            yield change
            item = source[begin:first] + change[2] + source[last:end]
            more = (re.sub(r"""(quantity=["'])other""", rf"\g<1>{category}", item, count=1) for category in added)
            yield end, end, "".join(f"{space}{each}" for each in more)

    return replace(unit, write=write)


def _shape(data: bytes, name: str, added: frozenset[int]) -> list[str]:
    """The tags, comments and the rest that is no text; of plurals one item each."""
    source, _ = xml.read(data, name)
    if added:
        source = re.sub(r"""<item\s+quantity=["'](?!other)\w+["'][^>]*>.*?</item\s*>""", "", source, flags=re.DOTALL)
    return [source[token.begin : token.end] for token in xml.tokens(source) if token.kind not in ("text", "cdata")]


def _is_text(source: str, token: Token, path: list[tuple[str, bool]]) -> bool:
    names = [name for name, _ in path[1:]]
    if names == ["item"]:
        return xml.attribute(source, token, "type") == "string"
    return names in (["string"], ["plurals", "item"], ["string-array", "item"])


def _span(source: str, inside: list[Token]) -> Iterator[Span]:
    if not inside or _REFERENCE.fullmatch(source[inside[0].begin : inside[-1].end]):
        return
    made: list[tuple[str, bool]] = []
    quoted = False  # between quotation marks, white space is the text's own
    for text, mark in xml.pieces(source, _grouped(inside)):
        read = [(text, True)] if mark else _read(text, quoted)
        quoted ^= not mark and sum(piece == '"' and is_mark for piece, is_mark in read) % 2 == 1
        made += read
    # space at the ends is Android's layout, not the text
    begin, end = inside[0].begin, inside[-1].end
    first, last = (source[t.begin : t.end] if t.kind == "text" else "" for t in (inside[0], inside[-1]))
    begin, end = begin + len(first) - len(first.lstrip()), end - len(last) + len(last.rstrip())
    if made and not made[0][1]:
        made[0] = (made[0][0].lstrip(" ") if first[:1].isspace() else made[0][0], False)
    if made and not made[-1][1]:
        made[-1] = (made[-1][0].rstrip(" ") if last[-1:].isspace() else made[-1][0], False)
    text, marks = joined(made)
    if begin < end and has_letters(Segment(text, "", 0, marks).prose()):
        yield Span(begin, end, text, marks)


def _grouped(inside: list[Token]) -> Iterator[Token]:
    """The tokens; <xliff:g> is one, with all that it holds."""
    return xml.whole(inside, lambda token: token.name == "g")


def _read(text: str, quoted: bool) -> list[tuple[str, bool]]:
    """Escapes as characters, white space as one space; a quotation mark without an escape is a mark."""
    out: list[tuple[str, bool]] = []
    at = 0
    prose: list[str] = []
    for match in (*_ESCAPE.finditer(text), None):
        run = text[at : match.start() if match else len(text)]
        prose.append(run if quoted else re.sub(r"\s+", " ", run))
        if match is None:
            break
        at, code = match.end(), match.group()
        if code == '"':
            out += [("".join(prose), False), (code, True)]
            prose, quoted = [], not quoted
        elif len(code) == 6:
            prose.append(chr(int(code[2:], 16)))
        else:
            prose.append(_CHARACTERS.get(code[1], code[1]))
    return [*out, ("".join(prose), False)]


def _write(text: str, segment: Segment) -> str:
    out: list[tuple[str, bool]] = []
    for part, mark in parts(text, segment) or parts(segment.text, segment) or []:
        out.append((part, True) if mark else (_escaped(part, segment.raw, first=not any(p.strip() for p, _ in out)), False))
    if out and not out[0][1]:  # a space at the ends of a segment is the text's own, which only an escape keeps
        out[0] = (re.sub(r"\A +", lambda match: "\\u0020" * len(match.group()), out[0][0]), False)
    if out and not out[-1][1]:
        kept = out[-1][0].rstrip(" ")
        out[-1] = (kept + "\\u0020" * (len(out[-1][0]) - len(kept)), False)
    return xml.written(out)


def _escaped(prose: str, raw: str, *, first: bool) -> str:
    for character, written in (("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        prose = prose.replace(character, written)
    prose = prose.replace("\xa0", "\\u00A0")
    if "\\@" in raw:  # as the source does it: behind other words it need not be
        return prose.replace("@", "\\@")
    return re.sub(r"^(\s*)([@?])", r"\1\\\2", prose) if first else prose


def _compare(text: str, segment: Segment) -> object:
    return xml.skeleton(_write(text, segment)) if parts(text, segment) is not None else None
