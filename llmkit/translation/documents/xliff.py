"""XLIFF 1.2, 2.0 and 2.1 (.xlf, .xliff): units without a translation get one, marked as one to review; everything else stays.

1.2: https://docs.oasis-open.org/xliff/v1.2/os/xliff-core.html, where the state is `needs-review-translation`. 2.x has none of
that name; `translated` is its state before `reviewed`: https://docs.oasis-open.org/xliff/xliff-core/v2.1/xliff-core-v2.1.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from llmkit.errors import InputError
from llmkit.translation.documents import icu, messages, xml
from llmkit.translation.documents.base import Segment, Span, has_letters, joined, parts
from llmkit.translation.documents.edits import Change, EditedDocument, Unit, spanned
from llmkit.translation.documents.xml import Token

#: Inline elements whose content is code of the original format.
_CODE = frozenset(("bpt", "ept", "ph", "it", "sub"))
#: Elements that hold copies of sources and targets that are not the unit's own.
_LEFT_OUT = frozenset(("alt-trans", "matches", "glossary", "bin-unit", "header", "skeleton", "originalData", "notes", "note", "metadata"))
#: States of a target that is a translation already (1.2); of the others a new one is made.
_UNDONE = frozenset(("new", "needs-translation"))
_FINAL = frozenset(("final", "signed-off"))
_TARGET = re.compile(r"<((?:[\w.-]+:)?)target\b[^>]*?(?:/>|>.*?</\1target\s*>)", re.DOTALL)
_STATE = re.compile(r"""(\sstate\s*=\s*)(?:"[^"]*"|'[^']*')""")
_SUBSTATE = re.compile(r"""\s(?:state-qualifier|subState)\s*=\s*(?:"[^"]*"|'[^']*')""")


@dataclass
class _Unit:
    """What stands in a trans-unit (1.2) or a segment (2.x). source and target: from start tag to end tag.

    segmented: of <seg-source>, which has the source in sentences; the target may have places for them. targeted: of the target.
    """

    start: Token
    inside: list[Token] = field(default_factory=list)
    segmented: list[Token] = field(default_factory=list)
    targeted: list[Token] = field(default_factory=list)
    source: tuple[int, int] | None = None
    after: int = 0
    target: tuple[int, int] | None = None
    state: str | None = None
    filled: bool = False


def parse(data: bytes, name: str, target: str | None = None) -> EditedDocument:
    """target: what the file's target language becomes where it names none. Raises InputError."""
    source, encoding = xml.read(data, name)
    root = next((t for t in xml.tokens(source) if t.kind in ("start", "empty")), None)
    version = xml.attribute(source, root, "version") if root and root.name == "xliff" else None
    if version is None or version[:2] not in ("1.", "2."):
        raise InputError("is not XLIFF 1 or 2: its root is not <xliff version=...>", path=name)
    second = version.startswith("2.")
    if target is not None:
        source = _in_language(source, target, name, "trgLang" if second else "target-language")
    spans = [span for unit in _units(source, second) if (span := _span(source, unit, second)) is not None]
    made = spanned(source, spans, _write, _compare, encoding, partial(_shape, name=name))
    return replace(made, units=tuple(_of_message(unit, target) for unit in made.units))


def _of_message(unit: Unit, target: str | None) -> Unit:
    """The unit; of one with plurals or selects of ICU each branch is a segment, with the codes of the original format inside it."""
    segment, place = unit.segments[0], unit.place
    text, codes = _read(parts(segment.text, segment) or [])
    if place is None or not icu.is_complex(text):
        return unit
    signs = re.compile(rf"[{re.escape(''.join(codes))}]|{xml.MARKS.pattern}") if codes else xml.MARKS
    message = messages.message(text, segment.line, target=target, marks=signs, kind="icu")
    if message is None:
        return Unit((), lambda _: ())
    if message.segments[0].kind == messages.BROKEN:
        return Unit(message.segments, lambda _: ())

    def write(texts: Sequence[str]) -> Iterator[Change]:
        inner = "".join(codes.get(character, character) for character in xml.escape(message.write(texts)))
        yield *place, _with_target(inner, segment)

    return Unit(message.segments, write, place)


def _read(pieces: Sequence[tuple[str, bool]]) -> tuple[str, dict[str, str]]:
    """A source as its message reads, and its codes by the characters that stand for them there, which no text has.

    Nothing for a source of more codes than there are such characters, which no message has.
    """
    used = {character for piece, _ in pieces for character in piece}
    free = (character for character in map(chr, range(0xE000, 0xF900)) if character not in used)
    codes: dict[str, str] = {}
    out: list[str] = []
    cdata = False
    for piece, mark in pieces:
        if mark and piece in ("<![CDATA[", "]]>"):
            cdata = piece == "<![CDATA["
        elif not mark or cdata:
            out.append(piece)
        elif xml.escape(xml.unescape(piece)) == piece:
            out.append(xml.unescape(piece))
        else:
            sign = next(free, None)
            if sign is None:
                return "", {}
            codes[sign] = piece
            out.append(sign)
    return "".join(out), codes


def _shape(data: bytes, name: str) -> list[str]:
    """All but the targets and the tags that name languages and states."""
    source, _ = xml.read(data, name)
    out: list[str] = []
    target = 0
    for token in xml.tokens(source):
        if token.name == "target":
            target += {"start": 1, "end": -1}.get(token.kind, 0)
        elif not target and (token.kind != "text" or source[token.begin : token.end].strip()):
            changes = token.kind == "start" and token.name in ("xliff", "file", "segment")
            out.append(token.name if changes else source[token.begin : token.end])
    return out


def _in_language(source: str, target: str, name: str, attribute: str) -> str:
    """The source with its target language. Raises InputError where it is the file of another language."""
    element, changes = ("xliff" if attribute == "trgLang" else "file"), []
    done = any(unit.filled for unit in _units(source, attribute == "trgLang"))
    for token in xml.tokens(source):
        if token.kind != "start" or token.name != element:
            continue
        place = xml.attributes(source, token).get(attribute)
        if place is None:
            changes.append((token.end - 1, token.end - 1, f' {attribute}="{target}"'))
        elif re.split("[-_]", source[slice(*place)].lower())[0] != target.split("-")[0].lower():
            if done and place[0] < place[1]:
                raise InputError(
                    f"holds translations into '{source[slice(*place)]}'", path=name, hint="translate into that language, or remove them"
                )
            changes.append((*place, target))
    for begin, end, text in reversed(changes):
        source = source[:begin] + text + source[end:]
    return source


#: Elements around text; alone they are no translation.
_AROUND = ("mrk", "g", "pc")


def _units(source: str, second: bool) -> Iterator[_Unit]:
    """The units that may be translated."""
    element = "segment" if second else "trans-unit"
    refused: list[bool] = [False]  # of each open element, whether it is not to be translated
    skipped = 0
    unit: _Unit | None = None
    within: tuple[str, int] | None = None  # in a source or target: its name and begin
    for token in xml.tokens(source):
        if token.kind == "start":
            skipped += token.name in _LEFT_OUT and within is None
            said = xml.attribute(source, token, "translate") if within is None else None
            refused.append(refused[-1] if said is None else said == "no")
        elif token.kind == "end":
            refused.pop()
        if skipped:
            skipped -= token.kind == "end" and token.name in _LEFT_OUT
            continue
        if token.name == element and token.kind == "start":
            unit = None if refused[-1] else _Unit(token)
        elif token.name == element and token.kind == "end" and unit is not None:
            if unit.source is not None:
                yield unit
            unit = None
        elif unit is not None:
            within = _inside(source, unit, token, within)


def _inside(source: str, unit: _Unit, token: Token, within: tuple[str, int] | None) -> tuple[str, int] | None:
    """Notes a token of a unit, and returns the element of texts that it stands in."""
    texts = ("source", "seg-source", "target")
    if within is None:
        if token.name not in texts or token.kind not in ("start", "empty"):
            return None
        if token.name == "target":
            unit.state = xml.attribute(source, token, "state")
            unit.target = (token.begin, token.end)
        return (token.name, token.begin) if token.kind == "start" else None
    name, begin = within
    if token.kind == "end" and token.name == name:
        if name == "source":
            unit.source = (begin, token.end)
        if name == "target":
            unit.target = (begin, token.end)
        else:
            unit.after = token.end
        return None
    if name == "source":
        unit.inside.append(token)
    elif name == "seg-source":
        unit.segmented.append(token)
    elif name == "target":
        unit.targeted.append(token)
        unit.filled = unit.filled or (token.name not in _AROUND and bool(source[token.begin : token.end].strip()))
    return within


def _span(source: str, unit: _Unit, second: bool) -> Span | None:
    """From the unit's start tag or source to behind its target: all that is written anew."""
    state = xml.attribute(source, unit.start, "state") if second else unit.state
    undone = state in (None, "initial") if second else state is None or state in _UNDONE
    same = unit.target is not None and unit.source is not None and _inner(source, unit.target) == _inner(source, unit.source)
    if (
        unit.source is None
        or any(token.name in ("source", "seg-source", "target") for token in unit.inside)
        or (not second and xml.attribute(source, unit.start, "approved") == "yes")
    ):
        return None
    done = _sentences(source, unit.targeted)
    partly = 0 < len(done) < len(_sentences(source, unit.segmented)) and state not in _FINAL
    if unit.filled and not partly and not (undone and (same or state in _UNDONE)):
        return None
    end = unit.after
    if unit.target is not None:
        if unit.target[0] < unit.source[0]:
            return None
        end = max(unit.target[1], end)
    in_sentences = unit.target is not None and "mrk" in source[slice(*unit.target)]
    codes = _codes(source, unit.segmented if in_sentences else unit.inside, done if partly else {})
    text, marks = joined(xml.pieces(source, codes))
    if not has_letters(Segment(text, "", 0, marks).prose()) and not icu.is_complex(text):
        return None
    return Span(unit.start.begin if second else unit.source[0], end, text, marks, f"{2 if second else 1} {_indent(source, unit.source[0])}")


def _inner(source: str, place: tuple[int, int]) -> str:
    begin, end = source.index(">", place[0]) + 1, source.rindex("<", *place)
    return source[begin:end]


def _indent(source: str, at: int) -> str:
    """The white space from the line end before a place to it."""
    match = re.search(r"\r?\n[ \t]*\Z", source[max(at - 200, 0) : at])
    return match.group() if match else ""


def _codes(source: str, inside: Sequence[Token], done: Mapping[str, Token]) -> Iterator[Token]:
    """The tokens of a source; an element of code, or one that is not to be translated, is one; so is a sentence that is `done`."""
    for token in xml.whole(inside, lambda t: t.name in _CODE or _protected(source, t) or _sentence(source, t) in done):
        yield done.get(_sentence(source, token) or "", token)


def _sentences(source: str, tokens: Sequence[Token]) -> dict[str, Token]:
    """The sentences that have words, by their names."""
    every = xml.whole(tokens, lambda token: _sentence(source, token) is not None)
    words = ((token, re.sub(r"<[^>]*>", "", source[token.begin : token.end]).strip()) for token in every)
    return {name: token for token, text in words if text and (name := _sentence(source, token)) is not None}


def _sentence(source: str, token: Token) -> str | None:
    """The name of a sentence in a source or target of sentences, from its start tag or the whole element."""
    if token.kind not in ("start", "other") or not re.compile(r"<(?:[\w.-]+:)?mrk\b").match(source, token.begin):
        return None
    tag = Token("start", token.begin, source.index(">", token.begin) + 1, "mrk")
    return xml.attribute(source, tag, "mid") if xml.attribute(source, tag, "mtype") == "seg" else None


def _protected(source: str, token: Token) -> bool:
    kind = xml.attribute(source, token, "mtype")
    return token.name == "mrk" and (kind == "protected" or xml.attribute(source, token, "translate") == "no")


def _write(text: str, segment: Segment) -> str:
    return _with_target(xml.written(parts(text, segment) or parts(segment.text, segment) or []), segment)


def _with_target(inner: str, segment: Segment) -> str:
    """The unit's source and target, which holds `inner`."""
    second, indent = segment.kind[0] == "2", segment.kind[2:]
    raw = segment.raw
    source = re.search(r"<((?:[\w.-]+:)?)source\b", raw)
    prefix = source[1] if source else ""
    old = next((match for match in _TARGET.finditer(raw)), None)
    tag = re.match(r"<[^>]*?(?=/?>)", old.group()) if old else None
    opening = tag.group() if tag else f"<{prefix}target"
    if not second:
        opening = _SUBSTATE.sub("", opening)
        state = 'state="needs-review-translation"'
        opening = _STATE.sub(f" {state}", opening) if _STATE.search(opening) else f"{opening} {state}"
    new = f"{opening}>{inner}</{prefix}target>"
    raw = f"{raw[: old.start()]}{new}{raw[old.end() :]}" if old else f"{raw}{indent}{new}"
    if not second:
        return raw
    start = raw[: raw.index(">")]
    changed = _SUBSTATE.sub("", start)
    changed = _STATE.sub(' state="translated"', changed) if _STATE.search(changed) else f'{changed} state="translated"'
    return changed + raw[len(start) :]


def _compare(text: str, segment: Segment) -> object:
    if segment.kind in ("icu", messages.BROKEN):
        return messages.compare(text, segment)
    return xml.skeleton(xml.written(parts(text, segment) or [(text, False)]))
