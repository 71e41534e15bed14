"""Template syntax in pages: what a program reads before a browser does, found before tags are, also over several lines.

The syntax of Jinja, Django, Twig, Liquid, Go, Handlebars, ERB, EJS, JSP, FreeMarker, HEEx, Blade and Razor is its own sign. That of
Velocity, Smarty, Latte, Svelte, Fluid and Mako could be prose: a page must hold some of it that is not. Words between the signs are
prose, also in {% raw %}, which says only that signs in it are shown as they are; in a comment or in code they are none.
Knows signs; not tags.
"""

from __future__ import annotations

import bisect
import functools
import re

from llmkit.translation.placeholders import ALTERNATIVE, ICU

_STRING = r"\"[^\"\n]*+\"|'[^'\n]*+'"
_BRACES = r"(?:[^{}]++|\{(?!%)(?:[^{}]++|\{(?:[^{}]++|\{[^{}]*+\})*+\})*+\})*+"
_PARENTHESES = r"\((?:[^()\n]++|\((?:[^()\n]++|\((?:[^()\n]++|\([^()\n]*+\))*+\))*+\))*+\)"
_STATEMENT = r"\{%(?:[^{%]++|\{(?!%)|%(?!\}))*+%\}"
#: Code and comments of Liquid, Django and Jekyll, up to their end.
_UNREAD = (
    r"\{%-?\s*+(?P<code>comment|schema|javascript|stylesheet|style|doc|highlight|codeblock)\b(?:[^{%]++|\{(?!%)|%(?!\}))*+%\}"
    r"(?:[^{]++|\{(?!%-?\s*+(?:end)?(?P=code)\b))*+\{%-?\s*+end(?P=code)\s*+-?%\}"
)
_NOTES = (
    r"\{\{[-~]?!--(?:[^-{]++|-(?!-[-~]?\}\})|\{(?!\{[-~]?!--))*+--[-~]?\}\}|\{\{--(?:[^-{]++|-(?!-\}\})|\{(?!\{--))*+--\}\}"
    r"|\{#(?![a-z])(?:[^{#]++|\{(?!#)|#(?!\}))*+#\}|\{\*(?:[^*{]++|\*(?!\})|\{(?!\*))*+\*\}"
    r"|@\*(?:[^*@]++|\*(?!@)|@(?!\*))*+\*@|<#--(?:[^-<]++|-(?!->)|<(?!#--))*+-->"
)
#: {{#each a}}, {{/each}}, {{else}}, {{> part}}; Go's {{ range .Pages }}; Hugo's {{< note >}}.
_BLOCK = (
    r"\{\{\{?[-~]?\s*+(?:[#/^>!<%]|(?:if|else|range|with|end|define|block|template|partial|break|continue|return)\b)(?!\}\})?"
    rf"{_BRACES}\}}\}}"
)
_EXPRESSION = rf"[@\\]?\{{\{{{_BRACES}\}}\}}|\{{!!(?:[^!{{]++|!(?!!\}})|\{{(?!!!))*+!!\}}"
_DIRECTIVES = (
    "assign|attempt|break|case|default|else|elseif|function|global|if|import|include|items|list|local|macro|nested|recover|return|sep"
)
#: FreeMarker's <#if a>, <@part/>, [#if a]; Mako's <%def name="a()">; HEEx's <.link>, <:title>.
_TAGS = (
    rf"</?[#@][a-zA-Z][\w.]*+(?:[^<>\"'()\n]++|{_STRING}|{_PARENTHESES})*+>|\[/?#(?:{_DIRECTIVES})\b(?:[^\[\]\"'\n]++|{_STRING})*+\]"
    rf"|</?%[a-z][\w:.]*+(?:[^<>\"'%]++|{_STRING})*+>|</?[.:][a-z][\w.]*+(?:[^<>\"'{{}}]++|\"[^\"<>]*+\"|\{{{_BRACES}\}})*+>"
)
#: ${a} of FreeMarker, JSP and Mako, #{a}; <<Name>>, ##name## and [[name]] of letters.
_VALUES = rf"\$!?\{{{_BRACES}\}}|#\{{{_BRACES}\}}|<<[A-Za-z_][\w. ]{{0,40}}>>|##\w++##|\[\[\s*[\w.|]++\s*\]\]"
#: Code of Blade and Razor, and what Angular declares.
_CODE = rf"@php\b(?!\s*\()(?:[^@]++|@(?!(?:end)?php\b))*+@endphp|@(?:code\s*+|functions\s*+)?\{{{_BRACES}\}}|@let\s[^;<@\n]*+;"
#: Velocity: #if(a), #end, ## note.
_VELOCITY = (
    rf"#(?:if|elseif|foreach|set|macro|parse|include|define|evaluate)\s*+{_PARENTHESES}|#(?:else|end|stop|break)\b|##[^\n]*+"
    r"|#\*(?:[^*#]++|\*(?!#)|#(?!\*))*+\*#|#\[\[|\]\]#"
)
#: ... and $a.b(c).
_REFERENCE = rf"\$!?[A-Za-z_][\w-]*+(?:\.[A-Za-z_]\w*+(?:{_PARENTHESES})?|\[[^\[\]\n]*+\])*+"
#: Smarty, Latte, Svelte, HEEx and Fluid: {if $a}, {/if}, {#each a}, {a.b}.
_SINGLE = r"\{(?=[^\s{}])(?:[^{}\n]++|\{[^{}\n]*+\})*+\}"
_SINGLE_ALONE = (
    r"\{(?:[/#:@*]|(?:if|else|elseif|foreach|foreachelse|for|while|block|include|var|capture|section|literal|extends|layout|import)\b)"
    r"[^{}\n]*+\}"
)
#: What is a statement where it stands alone: programs, Blade's words, lines of Razor; in Mako's pages lines of its own.
_ALONE = (
    r"<%(?![=-])(?:[^%<]++|%(?!>)|<(?!%))*+%>|<\?(?!=)(?:[^?<]++|\?(?!>)|<(?!\?))*+\?>"
    r"|@(?:end[a-z]++|else|csrf|auth|guest|verbatim|production|once|stop|show|append|overwrite|parent|default|break)\b"
    rf"|@[a-zA-Z]++\s?{_PARENTHESES}|@(?:using|model|page|inject|inherits|layout|namespace|addTagHelper|rendermode)\b[^\n<]*+"
)
_LINES_OF_MAKO = r"(?:%(?!%)|##)[^\n]*+"
_IS_VELOCITY = re.compile(r"#(?:foreach|set|macro|if)\s?\(")
_HAS_SINGLE = re.compile(r"\{/[a-z]+\}|\{\$\w|\{[#:@](?:if|each|await|else|html|const|render)\b|</?f:[a-z]|</?[.:][a-z]")
_IS_MAKO = re.compile(r"<%(?:inherit|def|namespace|block|page)\b|(?m:^[ \t]*% end(?:if|for|while)\b)")


#: What may go over several lines of Markdown; kramdown's comments.
OVER_LINES = re.compile(
    rf"[ \t]*+(?:{_UNREAD}|{_NOTES}|{_STATEMENT}|{_BLOCK}|<%(?:[^%<]++|%(?!>)|<(?!%))*+%>"
    r"|\{::comment\}(?:[^{]++|\{(?!:/|::comment))*+\{:/(?:comment)?\})[ \t]*+(?=\r?\n|\Z)"
)


def next_of(page: str) -> re.Pattern[str]:
    """What finds in a page what its program reads, or a `<`."""
    return _next(_IS_VELOCITY.search(page) is not None, _HAS_SINGLE.search(page) is not None)


class Lines:
    """The lines of a page that hold statements of its program alone: what is on both sides is not one text."""

    def __init__(self, page: str) -> None:
        kinds = (pattern.search(page) is not None for pattern in (_IS_VELOCITY, _HAS_SINGLE, _IS_MAKO))
        self._places = [match.span() for match in _line(*kinds).finditer(page)]

    def hold(self, begin: int, end: int) -> bool:
        """Whether a place lies in one of them."""
        return any(a <= begin and end <= b for a, b in self.within(begin, end))

    def within(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Those that a place touches."""
        first = bisect.bisect_left(self._places, begin, key=lambda place: place[1])
        last = bisect.bisect_left(self._places, end, key=lambda place: place[0])
        return self._places[first:last]


@functools.cache
def _next(velocity: bool, single: bool) -> re.Pattern[str]:
    more = [*([_VELOCITY, _REFERENCE] if velocity else []), *([_SINGLE] if single else [])]
    signs = "|".join([ALTERNATIVE.pattern, ICU, _UNREAD, _NOTES, _STATEMENT, _BLOCK, _TAGS, _CODE, _EXPRESSION, _VALUES, *more])
    return re.compile(rf"(?=[<{{@#$\[\]\\])(?:{signs}|<)")


@functools.cache
def _line(velocity: bool, single: bool, mako: bool) -> re.Pattern[str]:
    more = [*([_VELOCITY] if velocity else []), *([_SINGLE_ALONE] if single else []), *([_LINES_OF_MAKO] if mako else [])]
    signs = "|".join([_UNREAD, _NOTES, _STATEMENT, _BLOCK, _TAGS, _CODE, _ALONE, *more])
    return re.compile(rf"(?m:^)[ \t]*+(?:(?:{signs})[ \t]*+)++(?=\r?\n|\Z)")
