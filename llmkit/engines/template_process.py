"""The program of the process in which chat templates are rendered. Run as a file; it imports nothing of llmkit.

Reads a JSON object a line from stdin and writes one a line to stdout: {"template", "values"} → {"text"} or {"error"}. The
environment is that of transformers (utils/chat_template_utils.py, release 5.24): Jinja's immutable sandbox, blocks
trimmed, loop controls, `{% generation %}`, and the functions that chat templates call.

It limits its own memory and time, so that a template can take neither from the run, whichever way it tries.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox


class TooLongError(Exception):
    """A template that writes more than is allowed."""


class Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant wrote; here it is written like the rest."""

    tags = {"generation"}  # noqa: RUF012 - the library's own name and type

    def parse(self, parser: Any) -> Any:
        """The body of the tag as a call of `_same`, on the tag's line."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


class Namespace(jinja2.utils.Namespace):
    """Jinja's, without names that begin with an underscore."""

    def __init__(self, /, *args: Any, **values: Any) -> None:
        values = dict(*args, **values)
        for name in values:
            _check_name(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace can't hold {name!r}, which begins with an underscore")


class Dictionary:
    """`dict(...)` and `dict.fromkeys(...)`, and none of the type's attributes."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        """As Python's `dict`."""
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As Python's `dict.fromkeys`."""
        return dict.fromkeys(*args)


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=8)
def compiled(source: str) -> jinja2.Template:
    """A template, ready to be rendered."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now, "dict": Dictionary(), "namespace": Namespace}
    return environment.from_string(source)


def render(source: str, values: dict[str, Any], characters: int) -> str:
    """The text of a template; it stops where the text becomes longer than `characters`."""
    pieces, length = [], 0
    for piece in compiled(source).generate(**values):
        pieces.append(piece)
        length += len(piece)
        if length > characters:
            raise TooLongError(f"it writes more than {characters:,} characters")
    return "".join(pieces)


def _limit_memory(size: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        return  # no such limit here; the process that reads from this one looks at its size


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["template"], request["values"], request["characters"])}
    except MemoryError:
        return {"error": "it takes too much memory", "kind": "template"}
    except TooLongError as exc:
        return {"error": str(exc), "kind": "template"}
    except jinja2.TemplateSyntaxError as exc:
        return {"error": f"line {exc.lineno}: {exc.message}"[:2000], "kind": "template"}
    except Exception as exc:
        # a template raises Jinja's own exceptions and any of Python's
        return {"error": f"{type(exc).__name__}: {exc}"[:2000] if not isinstance(exc, jinja2.TemplateError) else str(exc)[:2000]}


def main(memory: int, seconds: float) -> None:
    """Answers requests on standard input until it ends: one JSON object a line in, one out."""
    _limit_memory(memory)
    timer = getattr(signal, "setitimer", None)
    for line in sys.stdin.buffer:
        if timer is not None:  # by default its signal ends the process, also inside one long operation
            timer(signal.ITIMER_REAL, seconds)
        answer = _answer(json.loads(line))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
        if timer is not None:
            timer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a keyboard's interrupt is for the run, which then ends this
    main(int(sys.argv[1]), float(sys.argv[2]))
