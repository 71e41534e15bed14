"""Chat templates rendered in a process of their own, within limits of memory, time and length.

Templates come with models and are not trusted. A sandbox keeps one from running code, but not from `'a' * 2000000000`
or an endless loop, and no thread can be stopped from outside. So they run in a child (template_process.py), one for all
rows of a run, which is ended when it passes a limit. Knows nothing of models.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, ModelError
from llmkit.rows.messages import REASONING

#: Limits of one rendering: seconds, bytes of the process, characters of the text. The longest known take milliseconds.
SECONDS = 10.0
MEMORY = 1 << 30
CHARACTERS = 10_000_000
#: How often the child's memory is looked at where the system does not limit it.
_LOOK_SECONDS = 0.05
_HINT = "`chat_template` none, or another template"
#: Of the environment, what Python and the clock need; no token or key.
_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "SYSTEMROOT",
    "TZ",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)
_MARK = "LLMKIT-CONTINUES-HERE "


def apply(source: str, messages: Sequence[Mapping[str, Any]], tokenizer: Any, /, *, continue_last: bool = False, **values: Any) -> str:
    """The text of `messages` by the template `source`, as `tokenizer.apply_chat_template` gives it.

    tokenizer: anything with the attribute `special_tokens_map`.
    continue_last: the text ends with the last message's, without what the template writes after it.
    values: what else the template sees (add_generation_prompt, tools, ...); they override the tokenizer's special tokens.
    Raises InputError for a conversation that the template refuses, ModelError for a template that is none or passes a limit.
    """
    shown = [_message(message) for message in messages]
    special = {
        name: token if isinstance(token, list) else str(token) for name, token in getattr(tokenizer, "special_tokens_map", {}).items()
    }
    if continue_last and shown:
        shown[-1] = {**shown[-1], "content": _marked(shown[-1].get("content"))}
    text = render(source, {"tools": None, "documents": None, **special, **values, "messages": shown})
    return _before_mark(text) if continue_last else text


def render(source: str, values: Mapping[str, Any], *, seconds: float = SECONDS) -> str:
    """The text of a template. Raises as `apply`."""
    return _renderer(os.getpid()).render(source, values, seconds)


def _marked(content: Any) -> Any:
    """A message's content with a mark at its end; of content in parts, at the end of the last text."""
    if isinstance(content, str):
        return content + _MARK
    if isinstance(content, list):
        last = next(
            (i for i in reversed(range(len(content))) if isinstance(content[i], dict) and isinstance(content[i].get("text"), str)), None
        )
        if last is not None:
            return [*content[:last], {**content[last], "text": content[last]["text"] + _MARK}, *content[last + 1 :]]
    raise InputError("the last message has no text to continue")


def _before_mark(text: str) -> str:
    place = text.rfind(_MARK.strip())
    if place < 0:
        raise InputError("the chat template does not write the last message, so it can't be continued", hint=_HINT)
    # a template that strips content has stripped the space before the mark, too
    return text[:place] if text[place:].startswith(_MARK) else text[:place].rstrip()


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers shows it: without fields that are null, reasoning under the names that templates read."""
    shown = {name: value for name, value in message.items() if value is not None}
    reasoning = next((shown[name] for name in REASONING if name in shown), None)
    return shown if reasoning is None else {"thinking": reasoning, **shown, "reasoning_content": reasoning}


@lru_cache(maxsize=1)
def _renderer(process: int) -> Renderer:
    """The one of this process: after a fork the parent's child is not ours to talk to."""
    return Renderer()


class Renderer:
    """A child that renders one template after another. It is started when it is needed, and again after it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def render(self, source: str, values: Mapping[str, Any], seconds: float) -> str:
        """The text of a template; one is rendered at a time. seconds: after them the process is ended. Raises as `apply`."""
        request = json.dumps({"template": source, "values": values, "characters": CHARACTERS}, default=str).encode() + b"\n"
        with self._lock:
            line = self._ask(request, seconds)
        answer = json.loads(line)
        if "text" in answer:
            return str(answer["text"])
        reason = " ".join(answer["error"].split())[:200]
        if answer.get("kind") == "template":
            raise ModelError(f"the chat template can't be used: {reason}", hint=_HINT)
        raise InputError(
            f"the chat template refuses the conversation: {reason}", hint="look at the order of its roles, or use `chat_template` none"
        )

    def _ask(self, request: bytes, seconds: float) -> bytes:
        child = self._running(seconds)
        began = time.monotonic()
        try:
            stdin: Any = child.stdin
            stdin.write(request)
            stdin.flush()
            line = self._answer(child, began + seconds)
        except BaseException as exc:  # whatever ended the wait, the child's next answer would be to this request
            self._end()
            if not isinstance(exc, BrokenPipeError):
                raise
            line = b""
        if line:
            return line
        self._end()
        late = time.monotonic() - began >= seconds
        what = f"did not end within {seconds:g} s" if late else "stopped its process, probably because it used too much memory"
        raise ModelError(f"the chat template {what}", hint=_HINT)

    def _running(self, seconds: float) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            program = Path(__file__).with_name("template_process.py")
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            # the child's own alarm is for the case that this process is gone
            command = [sys.executable, "-P", str(program), str(MEMORY), str(seconds + 5)]
            self._child = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
            self._lines = queue.SimpleQueue()
            threading.Thread(target=_read, args=(self._child.stdout, self._lines), daemon=True).start()
            weakref.finalize(self._child, _close, self._child.stdin)
        return self._child

    def _answer(self, child: subprocess.Popen[bytes], until: float) -> bytes:
        """The next line of the child; empty where it has ended or must be ended."""
        limited = sys.platform == "linux"
        while (left := until - time.monotonic()) > 0:
            try:
                return self._lines.get(timeout=left if limited else min(left, _LOOK_SECONDS))
            except queue.Empty:
                if not limited and _size(child.pid) > MEMORY:
                    return b""
        return b""

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _read(stdout: Any, lines: queue.SimpleQueue[bytes]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(b"")


def _close(stdin: Any) -> None:
    """Ends a child that waits for a request: its input is at an end."""
    try:
        stdin.close()
    except OSError:
        return  # it has ended already


def _size(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
