"""A prompt becomes the text a model reads: through its chat template when it has one.

Knows templates; not tensors. Templates come with models and are not trusted: templates.py runs them apart, within limits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, ModelError, UsageError
from llmkit.files import read_at_most
from llmkit.rows.fields import Prompt
from llmkit.rows.messages import NOT_VALUES, Message

#: Bytes of a template.
_MAX_TEMPLATE = 1_000_000


@dataclass(frozen=True)
class ChatSettings:
    """template: 'auto', 'none', or a Jinja file. system: a message before the conversation. values: what else the template is shown.

    A file is read once, here: settings that are sent to another machine hold its text. Raises UsageError for values whose names
    are not theirs to set, InputError for a file that can't be read.
    """

    template: str = "auto"
    system: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (name := next((name for name in self.values if name in NOT_VALUES), None)) is not None:
            raise UsageError(f"`chat_template_kwargs`: '{name}' is set by llmkit itself", hint="remove it")
        _ = self._text  # read before anything else is, and once: it may be a pipe

    @cached_property
    def _text(self) -> str | None:
        """What is in the template's file; None for 'auto' and 'none'."""
        if self.template in ("auto", "none"):
            return None
        try:
            return read_at_most(Path(self.template), _MAX_TEMPLATE).decode("utf-8")
        except (OSError, ValueError) as exc:
            why = (exc.strerror if isinstance(exc, OSError) else None) or exc
            raise InputError(
                f"{self.template}: the chat template cannot be read: {why}", hint="`chat_template` auto, none, or a file"
            ) from exc

    def check(self, tokenizer: Any) -> list[str]:
        """Remarks on values that the template does not read. Raises UsageError for values without a template."""
        if not self.values:
            return []
        source = self.source(tokenizer)
        if source is None:
            raise UsageError("`chat_template_kwargs` needs a chat template, and the model has none", hint="remove it, or use a chat model")
        unread = [name for name in self.values if re.search(rf"\b{re.escape(name)}\b", source) is None]
        return [f"the chat template does not read {', '.join(repr(name[:60]) for name in unread)}"] if unread else []

    def source(self, tokenizer: Any) -> str | None:
        """The template's text, None for plain prompts."""
        if self.template != "auto":
            return self._text
        own = getattr(tokenizer, "chat_template", None)
        own = own.get("default") if isinstance(own, dict) else own
        return own if isinstance(own, str) else None

    def sha256(self, tokenizer: Any) -> str | None:
        """Hash of the template's text; None where there is no template."""
        source = self.source(tokenizer)
        return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest() if source else None


def is_chat(prompt: Prompt, settings: ChatSettings) -> bool:
    """Whether a chat template applies to a prompt where there is one. Raises InputError for a text to be continued beside `system`."""
    if prompt.bare and settings.system is not None:
        raise InputError("a request for a plain completion has no place for `system`", hint="remove it, or ask with 'messages'")
    return not prompt.bare


def whole_conversation(prompt: Prompt, settings: ChatSettings) -> list[Message]:
    """The messages that a chat model is asked: a row's own system message counts more than that of the settings."""
    messages = list(prompt.messages) if prompt.messages is not None else [{"role": "user", "content": prompt.text or ""}]
    system = settings.system if prompt.system is None else prompt.system
    if system is not None and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    return messages


def render(prompt: Prompt, tokenizer: Any, settings: ChatSettings, *, ask: bool = True) -> tuple[str, bool]:
    """The text for the tokenizer, and whether the tokenizer still has to add its special tokens (BOS).

    tokenizer: anything with the attributes `chat_template` and `special_tokens_map`, as transformers' tokenizers have them.
    ask: end a conversation with the generation prompt, after which the model answers.
    Raises UsageError for messages without a template, ModelError for a template that fails or does not end.
    """
    source = settings.source(tokenizer) if is_chat(prompt, settings) else None
    if source is None:
        if prompt.messages is not None or settings.system is not None:
            what = "`system`" if prompt.messages is None else "the prompt is a conversation, which"
            raise UsageError(
                f"{what} needs a chat template, and the model has none", hint="give one with `chat_template` FILE, or use a chat model"
            )
        return prompt.plain or prompt.text or "", True
    from llmkit.engines.templates import apply  # only here: it needs what starts processes

    try:
        text = apply(
            source,
            whole_conversation(prompt, settings),
            tokenizer,
            **{**settings.values, **(prompt.template_values or {})},
            tools=list(prompt.tools) if prompt.tools else None,
            add_generation_prompt=ask and not prompt.continue_last,
            continue_last=prompt.continue_last,
        )
    except ModelError as exc:  # of the template, whatever the conversation
        place = settings.template if settings.template != "auto" else getattr(tokenizer, "name_or_path", None)
        raise ModelError(f"{place}: {exc.message}" if place else exc.message, hint=exc.hint) from exc
    return text, False
