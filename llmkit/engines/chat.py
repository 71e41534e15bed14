"""A prompt becomes the text a model reads: through its chat template when it has one.

Knows templates; not tensors. Templates come with models and are not trusted: they run in Jinja's sandbox, within a time
limit, and their text within a size limit.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.engines.template import render_template
from llmkit.errors import InputError, ModelError, UsageError
from llmkit.rows.fields import Prompt

_SECONDS = 10.0
_CHARACTERS = 50_000_000


@dataclass(frozen=True)
class ChatSettings:
    """template: 'auto', 'none', or a Jinja file. system: a message before the conversation."""

    template: str = "auto"
    system: str | None = None

    def source(self, tokenizer: Any) -> str | None:
        """The template's text, None for plain prompts. Raises InputError for a file that can't be read."""
        if self.template == "none":
            return None
        if self.template != "auto":
            try:
                return Path(self.template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise InputError(f"the chat template can't be read: {exc}", hint="--chat-template auto, none, or a file") from exc
        found = getattr(tokenizer, "chat_template", None)
        return found if isinstance(found, str) else found.get("default") if isinstance(found, dict) else None

    def sha256(self, tokenizer: Any) -> str | None:
        source = self.source(tokenizer)
        return hashlib.sha256(source.encode()).hexdigest() if source else None


def render(prompt: Prompt, tokenizer: Any, settings: ChatSettings, *, ask: bool = True) -> tuple[str, bool]:
    """The text for the tokenizer, and whether the tokenizer still has to add its special tokens (BOS).

    tokenizer: anything with the attributes `chat_template` and `special_tokens_map`, as transformers' tokenizers have them.
    ask: end a conversation with the generation prompt, after which the model answers.
    Raises UsageError for messages without a template, ModelError for a template that fails or does not end.
    """
    source = settings.source(tokenizer)
    if source is None:
        if prompt.messages is not None or settings.system is not None:
            what = "--system" if prompt.messages is None else "the prompt is a conversation, which"
            raise UsageError(
                f"{what} needs a chat template, and the model has none", hint="give one with --chat-template FILE, or use a chat model"
            )
        return prompt.text or "", True
    messages = list(prompt.messages) if prompt.messages is not None else [{"role": "user", "content": prompt.text or ""}]
    if settings.system is not None and not any(m["role"] == "system" for m in messages):
        messages.insert(0, {"role": "system", "content": settings.system})
    try:
        with _time_limit(_SECONDS):
            text = _rendered(source, messages, prompt, tokenizer, ask=ask)
    except TimeoutError as exc:
        raise ModelError(f"the chat template did not end within {_SECONDS:g} s", hint="--chat-template none, or another template") from exc
    except Exception as exc:
        # Templates raise through Jinja's own exceptions and any of Python's.
        line = " ".join(str(exc).split())[:200]
        raise InputError(
            f"the chat template refuses the conversation: {line}", hint="look at the order of its roles, or use --chat-template none"
        ) from exc
    if len(text) > _CHARACTERS:
        raise ModelError(f"the chat template wrote {len(text):,} characters", hint="--chat-template none, or another template")
    return text, False


def _rendered(source: str, messages: list[Any], prompt: Prompt, tokenizer: Any, *, ask: bool) -> str:
    tools, ask = list(prompt.tools) if prompt.tools else None, ask and not prompt.continue_last
    if prompt.continue_last:
        # to cut a text inside its last message, transformers' way is needed
        text: str = tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=source, tokenize=False, add_generation_prompt=False, continue_final_message=True
        )
        return text
    return render_template(source, messages, getattr(tokenizer, "special_tokens_map", {}), tools=tools, ask=ask)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside the block. By a timer signal, so only where there is one and in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
