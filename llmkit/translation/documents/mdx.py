"""JSX and modules in Markdown (MDX): found before Markdown is read, and hidden from it at the same length, so that places stay.

A module (import, export) and an expression that is a block of its own become space; in a tag, an expression becomes a quoted value.
https://mdxjs.com/docs/what-is-mdx/. Knows JavaScript's brackets, strings and comments; not Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmkit.translation.documents.page_templates import OVER_LINES

_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(`{3,}|~{3,})")
_TAG = re.compile(r"<[A-Za-z][\w.:-]*(?=[\s/>])")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*+"|\'(?:[^\'\\\n]|\\.)*+\'|`(?:[^`\\]|\\.)*+`|/\*(?:[^*]|\*(?!/))*+\*/|//[^\n]*', re.DOTALL)
_CODE = re.compile(rf"{_STRING.pattern}|[\n()\[\]{{}}]", re.DOTALL)
_IN_TAG = re.compile(r'"[^"]*"|\'[^\']*\'|[{<>]')
_MODULE = re.compile(
    r"import\s+(?:['\"][^'\"\n]+['\"]|(?:[\w$*{][^'\"\n;]*|\{[^{}'\"]*\}\s*)from\s*['\"])|export\s+(?:(?:const|let|var)\s+[\w$\[{]|(?:async\s+)?function\b"
    r"|default\s+\S|class\s+[\w$]+|\{[^}\n]*\}|\*\s+from\s)"
)
#: What stands between tags: code of Markdown, a brace.
_IN_TEXT = re.compile(r"(`+)(?:(?!\1)[^\n])+\1|\\.|\{\{|\{")
#: Blocks of code of Hugo and of Liquid.
_TEMPLATE = re.compile(
    r"[ \t]*(?:\{\{[<%]\s*(highlight|code|mermaid|math|katex)\b[^{}\n]*(?<!/)[>%]\}\}"
    r"|\{%-?\s*(highlight|code|codeblock|mermaid|math|katex|comment|schema|javascript|stylesheet|style)\b[^{}\n]*%\})"
)
#: Characters of a statement, and of an expression in a tag or between tags; what is longer is none.
_LONGEST, _SHORT = 20_000, 2000


@dataclass(frozen=True)
class Hidden:
    """What stands at [begin, begin + len(text)), and what is read in its place."""

    begin: int
    text: str
    instead: str


def hidden(source: str, *, mdx: bool) -> list[Hidden]:
    """What Markdown is not to read, in order. mdx: also expressions that are blocks, which other Markdown has as text."""
    out: list[Hidden] = []
    at, fence, begins = 0, "", True
    unclosed: set[str] = set()
    while at < len(source):
        line = _LINE.match(source, at)
        end = line.end() if line else len(source)
        body = source[at:end]
        mark = _FENCE.match(body)
        if fence or mark:
            fence = _fence(fence, mark)
        elif (stop := _code_end(source, at, unclosed)) > at or ((stop := _statement(source, at, mdx=mdx)) > at and begins):
            out.append(_space(source, at, stop))
            at = end = max(source.find("\n", stop - 1) + 1, stop)
            continue
        elif mdx and body.strip() in ("<>", "</>"):
            out.append(_space(source, at, at + len(body.rstrip())))
        else:
            expressions = list(_expressions(source, at, end))
            if mdx:
                children = list(_children(source, at, end, expressions))
                outer = [e for e in expressions if not any(c.begin <= e.begin < c.begin + len(c.text) for c in children)]
                expressions = sorted([*outer, *children], key=lambda each: each.begin)
            out += expressions
            end = max([end, *(source.find("\n", each.begin + len(each.text)) + 1 for each in expressions[-1:])])
        begins, at = not body.strip(), end
    return out


def is_mdx(parts: Sequence[Hidden]) -> bool:
    """Whether what is hidden in a file that another ending has shows that it is MDX: Docusaurus reads .md as that, too."""
    return any(_MODULE.match(each.text) for each in parts)


def is_call(text: str) -> bool:
    """Whether what is hidden is the call of a template over several lines, whose titles are read."""
    return OVER_LINES.fullmatch(text) is not None


def masked(source: str, parts: Sequence[Hidden]) -> str:
    """The source with everything hidden."""
    out, at = [], 0
    for each in parts:
        out += [source[at : each.begin], each.instead]
        at = each.begin + len(each.text)
    return "".join([*out, source[at:]])


def shown(text: str, begin: int, end: int, parts: Sequence[Hidden]) -> str:
    """The text of a place [begin, end) of a masked source with what was hidden in it."""
    at = 0
    for each in parts:
        if begin <= each.begin < end and (place := text.find(each.instead, at)) >= 0:
            text = text[:place] + each.text + text[place + len(each.instead) :]
            at = place + len(each.text)
    return text


def _fence(fence: str, mark: re.Match[str] | None) -> str:
    """The fence of the code that goes on behind a line."""
    if mark is None:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) and not mark.string[mark.end() :].strip() else fence


#: A drawing in a container, as Azure's wikis have it.
_DRAWING = re.compile(r"[ \t]*:{3,}[ \t]*(?:mermaid|plantuml|math|katex)[ \t]*\r?\n")


def _code_end(source: str, at: int, unclosed: set[str]) -> int:
    """Where a template's block of code ends that begins at `at`; `at` where there is none. unclosed: names that nothing ends any more."""
    if ":::" not in unclosed and (drawing := _DRAWING.match(source, at)):
        drawn = re.compile(r"(?m)^[ \t]*:{3,}[ \t]*$").search(source, drawing.end())
        unclosed |= set() if drawn else {":::"}
        return drawn.end() if drawn else at
    over = OVER_LINES.match(source, at)
    if over is not None and "\n" in over.group():
        return over.end()
    begun = _TEMPLATE.match(source, at)
    if begun is None or (name := begun[1] or begun[2]) in unclosed:
        return at
    closing = rf"\{{\{{[<%]\s*/\s*{begun[1]}\s*[>%]\}}\}}" if begun[1] else rf"\{{%-?\s*end{begun[2]}\s*-?%\}}"
    ended = re.compile(closing).search(source, begun.end())
    if ended is None:
        unclosed.add(name)
        return at
    return ended.end()


def _statement(source: str, at: int, *, mdx: bool) -> int:
    """Where a module or an expression ends that is a block of its own; `at` where there is none."""
    if _MODULE.match(source, at):
        return _closed(source, at, "\n")
    if (mdx or source.startswith("{/*", at)) and source.startswith("{", at) and source[at + 1 : at + 2] not in ("{", "%", ":", "#", "."):
        end = _closed(source, at, "}")
        following = source.find("\n", end)
        return end if not source[end : following if following >= 0 else len(source)].strip() else at
    return at


def _closed(source: str, at: int, last: str, most: int = _LONGEST) -> int:
    """Where all brackets from `at` on are closed and `last` stands; `at` where that is not."""
    depth = 0
    for match in _CODE.finditer(source, at, at + most):
        sign = match.group()
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(sign, 0)
        if depth <= 0 and sign == last:
            return match.end() if last != "\n" else match.start()
    return len(source) if last == "\n" and depth <= 0 and len(source) - at < most else at


def _space(source: str, begin: int, end: int) -> Hidden:
    text = source[begin:end]
    return Hidden(begin, text, re.sub(r"[^\r\n]", " ", text))


def _expressions(source: str, begin: int, end: int) -> Iterator[Hidden]:
    """The expressions in the tags that begin in a line."""
    at = begin
    while (tag := _TAG.search(source, at, end)) is not None:
        at = tag.end()
        braces: list[tuple[int, int]] = []
        for match in _IN_TAG.finditer(source, at, at + _LONGEST):
            if match.start() < at or match.group()[0] in "\"'":
                continue
            if match.group() != "{":
                at = match.end() if match.group() == ">" and braces else at
                break
            stop = _closed(source, match.start(), "}", _SHORT)
            if stop == match.start() or "\n\n" in source[match.start() : stop]:
                return  # nor is there a whole tag behind it
            braces.append((match.start(), stop))
            at = stop
        else:
            braces = []
        yield from (_quoted(source, a, b) for a, b in braces if not source.startswith("{{", a) or source[a - 1] == "=")


def _children(source: str, begin: int, end: int, others: Sequence[Hidden]) -> Iterator[Hidden]:
    """The expressions between the tags of a line that hold tags or braces of their own, or go over several lines."""
    at = begin
    for match in _IN_TEXT.finditer(source, begin, end):
        place = match.start()
        if place < at or match.group() != "{" or any(each.begin <= place < each.begin + len(each.text) for each in others):
            continue
        at = _closed(source, place, "}", _SHORT)
        if at > end or set(source[place + 1 : at - 1]) & {"<", "{", "}"}:
            line = source.rfind("\n", 0, place) + 1
            following = source.find("\n", at)
            alone = not source[line:place].strip() and not source[at : following if following >= 0 else len(source)].strip()
            yield _space(source, place, at) if alone else Hidden(place, source[place:at], f"{{{'x' * (at - place - 2)}}}")


def _quoted(source: str, begin: int, end: int) -> Hidden:
    text = source[begin:end]
    if source[begin - 1] == "=":  # a value without a letter is no text
        return Hidden(begin, text, '"' + re.sub(r"[^\r\n]", "0", text[1:-1]) + '"')
    return Hidden(begin, text, "x" + re.sub(r"[^\r\n]", "x", text[1:-1]) + "x")
