"""Where each mark of Markdown stands inside a block: markdown-it-py's own rules, watched while they run.

The library's inline tokens have no places. Its rules have: each is called with a position and moves it, so a rule that is
wrapped tells the place of what it has read. Knows Markdown's marks; not blocks.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents import html as pages
from llmkit.translation.documents.markdown_blocks import tab_plugin, terms_plugin
from llmkit.translation.documents.markdown_structure import without_titles
from llmkit.translation.placeholders import DISPLAY, FORMULA, ICU, IN_PROSE, STATEMENT, SYMBOL_ALONE, TEMPLATE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

#: Attributes in braces, as Pandoc has them.
_ATTRIBUTES = r"\{(?:[.#:]|[\w-]+=)[^{}\n]*\}"
#: A directive with a text, or with attributes: :abbr[HTML]{title="..."}, ::video{src=a}. https://github.com/remarkjs/remark-directive
_DIRECTIVE = re.compile(r"(?<![\w:]):{1,2}[a-zA-Z][\w-]*+(?:\[(?=(?P<text>[^\[\]\n]+)\])|(?:\[\])?\{[^{}\n]*\})")
_CLOSED = re.compile(r"\](?:\{[^{}\n]*\})?")
#: A formula as \\[x = y\\] between lines that hold nothing but its signs, and an environment.
_BETWEEN_LINES = r"\\\\?\[(?=[ \t]*\n(?:[^\\\n][^\n]*\n)*[ \t]*\\\\?\][ \t]*(?:\n|\Z))(?:[^\\\[\]]|\\(?!\\?[\[\]]))++\\\\?\]"
_DISPLAY = rf"{_BETWEEN_LINES}|{DISPLAY}|\\begin\{{(?P<env>\w+\*?)\}}(?:[^\\]++|\\(?!end\{{(?P=env)\}})){{0,2000}}+\\end\{{(?P=env)\}}"
#: Pandoc's [see @smith2004, p. 33], and commands of LaTeX.
_CITED = r"\[(?:[^\[\]\n@]*\s)?-?@[\w{][^\[\]\n]*\](?![(\[])"
_COMMAND = (
    r"\\(?!begin|end)[a-zA-Z]+\*?(?:\[[^\[\]\n]*\])?(?:\{[^{}\n]*\})++"
    r"|\\(?:newpage|clearpage|pagebreak|tableofcontents|(?:big|med|small)skip|noindent)\b"
)
#: Bookdown's references, and keys as MkDocs has them: ++ctrl+c++.
_BOOK = r"\\@ref\([^()\n]*\)"
#: Where a template says where a link leads; with space in it that is no link of CommonMark.
_TO_TEMPLATE = rf"\]\((?:[^()\s{{}}]*+(?:{STATEMENT}|\{{\{{(?:[^{{}}\n]++|\{{[^{{}}\n]*+\}})*+\}}\}}))++[^()\s]*+(?:\s+\"[^\"\n]*\")?\)"
_KEYS = r"\+\+(?:[\w\"-]++(?:\+[\w\"-]++)++|ctrl|alt|shift|enter|tab|esc(?:ape)?|cmd|space|backspace|del(?:ete)?|home|end|f\d{1,2})\+\+"
#: Read before all other marks: template marks, JSX, footnotes, attributes, kinds of alerts, links and comments of wikis, formulas.
_OPAQUE = re.compile(
    rf"{TEMPLATE}|{ICU}|[$%]?\{{(?:[^{{}}\n]|\{{(?!%)[^{{}}\n]*\}})*+\}}|\[\^[^\[\]\s]++\]|\[![A-Za-z]+\][+-]?"
    rf"|!?\[\[[^\[\]\n]+\]\](?!\()|{FORMULA}|{_DISPLAY}|<%[^<>\n]*%>|%%[^%\n]+%%|{_BOOK}|{_KEYS}|!?\[(?=[^\[\]\n]+{_TO_TEMPLATE})|{_TO_TEMPLATE}|\[(?=[^\[\]\n]+\]{_ATTRIBUTES})|\]{_ATTRIBUTES}|{_CITED}|{_COMMAND}"
)
#: What a note begins with that stands in the text itself.
NOTE = "^["
#: Elements in a text whose content is no prose.
_VERBATIM = re.compile(
    r"<(code|kbd|samp|var|math|svg|script|style)\b[^>]*(?<!/)>\Z|<(\w+)\b[^>]*\stranslate\s*=\s*[\"']?no\b[^>]*(?<!/)>\Z", re.IGNORECASE
)


@dataclass(frozen=True)
class Piece:
    """A part [begin, end) of a block's content.

    text: prose as it is read, or the mark as it is written. breaks: a line break that is meant.
    """

    begin: int
    end: int
    text: str
    mark: bool
    breaks: bool = False


@dataclass
class _Watch:
    """What the rules of one text have read."""

    state: StateInline | None = None
    pieces: list[Piece] = field(default_factory=list)
    delimiters: list[tuple[int, int, Token]] = field(default_factory=list)
    images: list[tuple[int, int]] = field(default_factory=list)
    _brackets: tuple[StateInline | None, int] = (None, -1)
    _notes: tuple[StateInline | None, dict[int, int]] = (None, {})
    _directives: tuple[StateInline | None, dict[int, int]] = (None, {})

    def last_bracket(self, state: StateInline) -> int:
        """Where the last `]` of a text stands, or -1."""
        if self._brackets[0] is not state:
            self._brackets = (state, state.src.rfind("]"))
        return self._brackets[1]

    def note_end(self, state: StateInline) -> int | None:
        """Where a note ends that stands in the text itself, ^[as here], and begins at the state's place."""
        if self._notes[0] is not state:
            self._notes = (state, dict(_notes(state.src)) if "^[" in state.src else {})
        return self._notes[1].get(state.pos)

    def directive_end(self, state: StateInline) -> int | None:
        """Where a mark of a directive ends that begins at the state's place: what stands before its text, and behind it."""
        if self._directives[0] is not state:
            self._directives = (state, dict(_directives(state.src)))
        return self._directives[1].get(state.pos)


def _directives(text: str) -> Iterator[tuple[int, int]]:
    """Where the marks of directives in a text begin and end."""
    for match in _DIRECTIVE.finditer(text):
        yield match.span()
        if match["text"] is not None and (closed := _CLOSED.match(text, match.end("text"))):
            yield closed.span()


def _notes(text: str) -> Iterator[tuple[int, int]]:
    """Where the notes in a text begin and end, by counting brackets."""
    opened: list[int] = []
    for match in re.finditer(r"\\.|\^?\[|\]", text, re.DOTALL):
        if match.group() != "]":
            opened += [] if match.group()[0] == "\\" else [match.start()]
        elif opened and text[opened[-1]] == "^":
            yield opened.pop(), match.end()
        elif opened:
            opened.pop()


def parser() -> MarkdownIt:
    """markdown-it-py with the blocks that people's files hold, and rules that can be watched."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.admon import admon_plugin
    from mdit_py_plugins.container import container_plugin
    from mdit_py_plugins.deflist import deflist_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from mdit_py_plugins.footnote import footnote_plugin

    md = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    container_plugin(md, "any", validate=lambda *_: True)
    admon_plugin(md)
    footnote_plugin(md, inline=False)
    deflist_plugin(md)
    tab_plugin(md)
    terms_plugin(md)
    dollarmath_plugin(md, allow_space=False, allow_digits=False, double_inline=True)
    md.core.ruler.enableOnly(["normalize", "block"])
    # the words of an image are read by `pieces_of`: with images in images, reading them here as well takes time in the cube of the depth
    md.inline.parse = lambda src, md, env, tokens: tokens  # type: ignore[method-assign]
    md.inline.ruler.before("text", "opaque", _opaque)
    md.inline.ruler.disable("footnote_ref")  # `opaque` reads them all; this one looks to the end of the text from each `[^`
    md.inline.ruler2.disable("fragments_join")
    watch = _Watch()
    for name, rule in zip(md.inline.ruler.get_active_rules(), md.inline.ruler.getRules(""), strict=True):
        md.inline.ruler.at(name, _watched(name, rule, watch))
    md.options["watch"] = watch
    return md


def _opaque(state: StateInline, silent: bool) -> bool:
    match = _OPAQUE.match(state.src, state.pos, state.posMax) if state.src[state.pos] in "{[$\\<!]%@*^+" else None
    watch: _Watch = state.md.options["watch"]
    if match:
        end: int | None = match.end()
    else:
        end = watch.note_end(state) if state.src.startswith(NOTE, state.pos) else watch.directive_end(state)
    if end is None or end > state.posMax:
        return False
    if not silent:
        token = state.push("opaque", "", 0)
        token.content = state.src[state.pos : end]
    state.pos = end
    return True


def _watched(name: str, rule: Callable[[StateInline, bool], bool], watch: _Watch) -> Callable[[StateInline, bool], bool]:
    """The rule, telling `watch` what it has read."""

    labeled = name in ("link", "image")

    def run(state: StateInline, silent: bool) -> bool:
        if labeled and watch.last_bracket(state) <= state.pos:
            return False  # it would look for the end of a label
        if silent or state is not watch.state:
            return rule(state, silent)
        begin, count, pending = state.pos, len(state.tokens), bool(state.pending)
        done = rule(state, silent)
        if done:
            _note(name, state, begin, state.tokens[count + pending :], watch)
        return done

    return run


def _note(name: str, state: StateInline, begin: int, tokens: list[Token], watch: _Watch) -> None:
    end, source = state.pos, state.src
    if name in ("emphasis", "strikethrough"):
        for token in tokens:
            watch.delimiters.append((begin, begin + len(token.content), token))
            begin += len(token.content)
    elif name in ("link", "image"):
        opened = begin + (2 if name == "image" else 1)
        label = state.md.helpers.parseLinkLabel(state, opened - 1, name == "link")
        state.pos = end
        closing = source[label:end]
        if closing in ("]", "][]"):  # a reference by its own words: it is named, because the words change
            closing = f"][{' '.join(source[opened:label].split())}]"
        watch.pieces += [Piece(begin, opened, source[begin:opened], True), Piece(label, end, closing, True)]
        watch.images += [(opened, label)] if name == "image" else []
    elif name == "newline" or (name == "escape" and source[begin : begin + 2] == "\\\n"):
        hard = name == "escape" or source[max(begin - 2, 0) : begin] == "  "
        watch.pieces.append(Piece(begin, end, " ", False, hard))
    elif name in ("escape", "entity"):
        escaped = name == "escape" and source[begin + 1] in string.punctuation  # else the backslash is one
        text = source[begin + 1 : end] if escaped else html.unescape(source[begin:end])
        if SYMBOL_ALONE.fullmatch(text):
            watch.pieces.append(Piece(begin, end, source[begin:end], True))
        else:
            watch.pieces.append(Piece(begin, end, text, False))
    elif name == "html_inline" and re.match(r"<br\s*/?>", source[begin:end], re.IGNORECASE):
        watch.pieces.append(Piece(begin, end, source[begin:end], True, True))
    elif name != "text":
        watch.pieces.append(Piece(begin, end, source[begin:end], True))


def pieces_of(md: MarkdownIt, env: dict[str, Any], content: str) -> list[Piece]:
    """The content of a block in pieces, in order, without gaps."""
    from markdown_it.rules_inline import StateInline

    watch: _Watch = md.options["watch"]
    watch.state, watch.pieces, watch.delimiters, watch.images = StateInline(content, md, env, []), [], [], []
    md.inline.tokenize(watch.state)
    for rule in md.inline.ruler2.getRules(""):
        rule(watch.state)
    watch.state = None
    pieces, images = watch.pieces, watch.images
    marks = [Piece(a, b, content[a:b], True) for a, b, token in watch.delimiters if token.type != "text" or not token.content]
    for begin, end in images:
        pieces += [replace(piece, begin=piece.begin + begin, end=piece.end + begin) for piece in pieces_of(md, env, content[begin:end])]
    return list(_verbatim(_filled(content, [*pieces, *marks]), content))


def _filled(content: str, pieces: list[Piece]) -> list[Piece]:
    """The pieces in order, with prose in the gaps."""
    out: list[Piece] = []
    at = 0
    for piece in sorted(pieces, key=lambda piece: (piece.begin, piece.end)):
        if piece.begin > at:
            out.append(Piece(at, piece.begin, content[at : piece.begin].replace("\n", " "), False))
        if piece.begin >= at:
            out.append(piece)
            at = piece.end
    if at < len(content):
        out.append(Piece(at, len(content), content[at:].replace("\n", " "), False))
    return out


def _verbatim(pieces: list[Piece], content: str) -> Iterator[Piece]:
    """The pieces; an element that holds no prose is one."""
    closing = {piece.text.lower(): number for number, piece in enumerate(pieces) if piece.mark and piece.text.startswith("</")}
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        inside = pieces[at + 1 : at + 3]
        if piece.mark and len(inside) == 2 and pages.SMALL.match(piece.text) and pages.is_number(inside[0].text, inside[1].text):
            yield Piece(piece.begin, inside[1].end, content[piece.begin : inside[1].end], True)
            at += 3
            continue
        element = _VERBATIM.match(piece.text) if piece.mark and piece.text.startswith("<") else None
        name = f"</{(element[1] or element[2]).lower()}>" if element else ""
        last = closing.get(name, -1)
        if last > at:
            end = next(n for n in range(at + 1, last + 1) if pieces[n].mark and pieces[n].text.lower() == name)
            yield Piece(piece.begin, pieces[end].end, content[piece.begin : pieces[end].end], True)
            at = end
        else:
            yield piece
        at += 1


def _told(name: str, value: str | int | float) -> object:
    """The value of an attribute; of one that people read, the placeholders in it."""
    return [match.group() for match in IN_PROSE.finditer(str(value))] if name in ("alt", "title") else value


def skeleton(md: MarkdownIt, env: dict[str, Any], content: str) -> list[tuple[str, str]]:
    """The marks of a text in order, what they are, where they lead and whether they are empty, and the placeholders, without words."""
    from markdown_it.rules_inline import StateInline

    state = StateInline(content, md, env, [])
    md.inline.tokenize(state)
    for rule in md.inline.ruler2.getRules(""):
        rule(state)
    out: list[tuple[str, str]] = []
    prose: list[str] = []
    for token in [*state.tokens, None]:
        if token is not None and token.type in ("text", "text_special", "softbreak"):
            prose.append(token.content or " ")
            continue
        text = "".join(prose)
        out += [("placeholder", match.group()) for match in IN_PROSE.finditer(text)]
        prose = []
        if token is not None:
            if token.nesting < 0 and not text.strip() and out and out[-1][0] == token.type.replace("close", "open"):
                out.append(("empty", ""))
            attributes = str({k: _told(k, v) for k, v in token.attrs.items()})
            tag = str(pages.skeleton(token.content)) if token.type == "html_inline" else without_titles(token.content)
            if token.type == "opaque" and token.content.startswith(NOTE):
                tag = str(skeleton(md, env, token.content[len(NOTE) : -1]))
            if token.type == "opaque" and token.content.startswith("]("):
                tag = re.sub(r'"[^"\n]*"\)\Z', '"")', tag)  # a title
            out.append((token.type, attributes if token.attrs else tag))
    return out
