"""Blocks of Markdown that hold a text beside their content: containers, tabs, link definitions. Where their titles stand.

Knows lines; not what is in a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmkit.translation.documents.base import Span, joined, with_marks
from llmkit.translation.placeholders import IN_PROSE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock

_CONTAINER = re.compile(
    r"\s*:{3,}[ \t]*\{?[\w.-]+\}?"
    r"(?:[ \t]*\[(?P<label>[^\n]+)\]|[ \t]+(?P<title>[^\[\]{}\s](?:[^\[\]{}\n]*[^\[\]{}\s])?))?(?P<attributes>[ \t]*\{[^{}\n]*\})?\s*"
)
_ATTRIBUTES = re.compile(r"\s*:{3,}[ \t]*[\w.-]*[ \t]*\{[^{}\n]*\}\s*")
_TITLE = re.compile(r"""\b(?:title|label|caption)=(?P<quote>["'])(?P<title>[^"'\n]+)(?P=quote)""")
_TAB = re.compile(r'={3}[!+]?[ \t]+"(?P<title>[^"\n]+)"[ \t]*')
_DEFINED = re.compile(
    r"""(?:"(?P<double>(?:[^"\\]|\\.)+)"|'(?P<single>(?:[^'\\]|\\.)+)'|\((?P<round>(?:[^()\\]|\\.)+)\))\s*\Z""", re.DOTALL
)
#: Fenced blocks whose content is Markdown, as MyST has them.
_DIRECTIVE = re.compile(
    r"\{(?:note|warning|tip|important|hint|caution|danger|attention|error|seealso|admonition|topic|sidebar|margin|dropdown|epigraph|card"
    r"|tab-item|tab-set|grid|grid-item|grid-item-card|versionadded|versionchanged|deprecated|todo|exercise|solution|figure)\}(?P<title>.*)"
)
_OPTION = re.compile(r"[ \t]*:[\w-]+:.*")
#: Those whose title is a file or the like.
_NAMED = frozenset(("figure", "tab-set", "grid", "versionadded", "versionchanged", "deprecated"))
_INDENT = 4
#: The first line of a definition; how many terms one may have at most; blocks that end a paragraph.
_DEFINITION = re.compile(r"[:~][ \t]+\S")
_TERMS = 20
_ENDING = frozenset(("fence", "blockquote", "hr", "list", "heading", "html_block", "container_any", "admonition", "tab"))


def tab_plugin(md: MarkdownIt) -> None:
    """Tabs of MkDocs: === "Title", and an indented block. https://facelessuser.github.io/pymdown-extensions/extensions/tabbed/"""
    md.block.ruler.before("fence", "tab", _tab, {"alt": ["paragraph", "reference", "blockquote", "list"]})


def _tab(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    begin = state.bMarks[first] + state.tShift[first]
    match = _TAB.fullmatch(state.src, begin, state.eMarks[first])
    if match is None or state.sCount[first] - state.blkIndent >= _INDENT:
        return False
    if silent:
        return True
    end = first + 1
    while end < last and (state.isEmpty(end) or state.sCount[end] >= state.sCount[first] + _INDENT):
        end += 1
    before, indent = state.lineMax, state.blkIndent
    state.lineMax, state.blkIndent = end, state.sCount[first] + _INDENT
    token = state.push("tab_open", "div", 1)
    token.map, token.info = [first, end], match.group()
    state.md.block.tokenize(state, first + 1, end)
    state.push("tab_close", "div", -1)
    state.lineMax, state.blkIndent, state.line = before, indent, end
    return True


def terms_plugin(md: MarkdownIt) -> None:
    """Definition lists as PHP Markdown Extra has them: several terms, a line each. https://michelf.ca/projects/php-markdown/extra/"""
    others = [rule for name, rule in zip(md.block.ruler.get_active_rules(), md.block.ruler.getRules(""), strict=True) if name in _ENDING]
    defined = dict(zip(md.block.ruler.get_active_rules(), md.block.ruler.getRules(""), strict=True))["deflist"]

    def terms(state: StateBlock, first: int, last: int, silent: bool) -> bool:
        if silent or state.sCount[first] - state.blkIndent >= _INDENT:
            return False
        term = first
        while term + 1 < last and not state.isEmpty(term + 1) and not _DEFINITION.match(_line(state, term + 1)) and term - first < _TERMS:
            term += 1
        if term == first or term + 1 >= last or not _DEFINITION.match(_line(state, term + 1)):
            return False
        if any(rule(state, number, last, True) for number in range(first + 1, term + 1) for rule in others):
            return False
        for number in range(first, term):
            state.push("dt_open", "dt", 1)
            token = state.push("inline", "", 0)
            token.map, token.content, token.children = [number, number], _line(state, number).strip(), []
            state.push("dt_close", "dt", -1)
        return defined(state, term, last, False)

    md.block.ruler.before("deflist", "terms", terms, {"alt": []})


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def tab_title(at: int, line: str) -> Iterator[Span]:
    """The title of a tab, whose line begins at `at`."""
    match = _TAB.search(line)
    if match:
        yield _span(at, match.span("title"), line)


def container_title(line: str) -> tuple[int, int] | None:
    """Where the title of a container stands in its line: Markdown, too."""
    match = _CONTAINER.fullmatch(line.rstrip())
    group = next((name for name in ("label", "title") if match and match[name]), None)
    return match.span(group) if match and group else None


def container_attributes(at: int, line: str) -> Iterator[Span]:
    """The titles among the attributes of a container, whose line begins at `at`."""
    if _ATTRIBUTES.fullmatch(line.rstrip()):
        for match in _TITLE.finditer(line):
            yield _span(at, match.span("title"), line, f"title {match['quote']}")


def untitled(line: str) -> str:
    """The line that begins a container, a tab or an admonition, without its title."""
    place = container_title(line)
    if place:
        line = line[: place[0]] + line[place[1] :]
    return re.sub(r"""(["'])[^"'\n]*\1""", r"\1\1", line)


def defined_titles(source: str, lines: list[tuple[int, str]], env: dict[str, Any]) -> Iterator[Span]:
    """The titles of link definitions."""
    for each in env.get("references", {}).values():
        first, last = each.get("map") or (0, 0)
        if not each.get("title") or not first < last <= len(lines):
            continue
        begin, end = lines[first][0], lines[last - 1][0] + len(lines[last - 1][1])
        match = _DEFINED.search(source, begin, end)
        if match and match.lastgroup and "\n" not in match[match.lastgroup]:
            quote = {"double": '"', "single": "'", "round": ")"}[match.lastgroup]
            yield _span(0, match.span(match.lastgroup), source, f"title {quote}")


def directive(info: str) -> tuple[str, str] | None:
    """The name and the title of a fenced block whose content is Markdown."""
    match = _DIRECTIVE.fullmatch(info.strip())
    if match is None:
        return None
    name = match.group()[1 : match.group().index("}")]
    return name, "" if name in _NAMED else match["title"].strip()


def content(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The lines inside a fence, behind the options of a directive, without the indentation that they share."""
    while lines and _OPTION.fullmatch(lines[0][1].rstrip("\r\n")):
        lines = lines[1:]
    indents = [len(line) - len(line.lstrip(" ")) for _, line in lines]
    shared = min((indent for indent, (_, line) in zip(indents, lines, strict=True) if line.strip()), default=0)
    cuts = [min(shared, indent) for indent in indents]
    return [(at + cut, line[cut:]) for cut, (at, line) in zip(cuts, lines, strict=True)]


def _span(at: int, place: tuple[int, int], line: str, kind: str = "") -> Span:
    text, marks = joined(with_marks(line[slice(*place)], IN_PROSE))
    return Span(at + place[0], at + place[1], text, marks, kind)
