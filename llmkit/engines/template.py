"""A chat template's text and a conversation become one text, with Jinja alone: no tokenizer library is needed.

Templates come with models and are not trusted: they run in Jinja's immutable sandbox. What a template may call beside
Jinja's own is what transformers offers, so that a model's template gives the same text here and there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def render_template(
    source: str, messages: Sequence[Mapping[str, Any]], special_tokens: Mapping[str, Any], *, ask: bool, tools: Any = None
) -> str:
    """The conversation as the template writes it.

    special_tokens: by name ('bos_token', ...), for templates that write them. ask: end with the generation prompt.
    tools: JSON schemas of functions, for templates that write them.
    Raises what the template raises: jinja2.TemplateError, or any exception of Python.
    """
    values = {**special_tokens, "tools": tools, "documents": None, "add_generation_prompt": ask}
    plain = [{name: value for name, value in message.items() if value is not None} for message in messages]
    for message in plain:  # models know what was thought before an answer by different names
        thought = next((message[name] for name in ("reasoning_content", "thinking", "reasoning") if name in message), None)
        if thought is not None:
            message.setdefault("thinking", thought)
            message["reasoning_content"] = thought
    text: str = _compiled(source).render(messages=plain, **values)
    return text


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> Any:
    import jinja2
    from jinja2 import ext, nodes, sandbox

    class Generation(ext.Extension):
        """`{% generation %}` marks what the assistant wrote; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    class Namespace(jinja2.utils.Namespace):
        """Jinja's, without names that lead into Python's objects."""

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a template may not set '{name}'")
            super().__setitem__(name, value)

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        # Jinja's own filter escapes for HTML
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": Namespace,
    }
    return environment.from_string(source)
