"""A prompt becomes the text a model reads: through its chat template when it has one.

Knows templates; not tensors. Templates come with models and are not trusted: templates.py runs them apart, within limits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, ModelError, UsageError
from llmkit.rows.fields import Prompt

_MAX_TEMPLATE = 1_000_000


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
                with Path(self.template).open("rb") as file:
                    data = file.read(_MAX_TEMPLATE + 1)  # of a device or a pipe no size is known
                if len(data) > _MAX_TEMPLATE:
                    raise ValueError(f"{self.template}: more than {_MAX_TEMPLATE:,} bytes")
                return data.decode("utf-8")
            except (OSError, ValueError) as exc:
                raise InputError(f"the chat template can't be read: {exc}", hint="`chat_template` auto, none, or a file") from exc
        own = getattr(tokenizer, "chat_template", None)
        own = own.get("default") if isinstance(own, dict) else own
        return own if isinstance(own, str) else None

    def sha256(self, tokenizer: Any) -> str | None:
        """Hash of the template's text; None where there is no template."""
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
            what = "`system`" if prompt.messages is None else "the prompt is a conversation, which"
            raise UsageError(
                f"{what} needs a chat template, and the model has none", hint="give one with `chat_template` FILE, or use a chat model"
            )
        return prompt.plain or prompt.text or "", True
    from llmkit.engines.templates import apply  # only here: it needs what starts processes

    messages = list(prompt.messages) if prompt.messages is not None else [{"role": "user", "content": prompt.text or ""}]
    if settings.system is not None and not any(m["role"] == "system" for m in messages):
        messages.insert(0, {"role": "system", "content": settings.system})
    try:
        text = apply(
            source,
            messages,
            tokenizer,
            tools=list(prompt.tools) if prompt.tools else None,
            add_generation_prompt=ask and not prompt.continue_last,
            continue_last=prompt.continue_last,
        )
    except ModelError as exc:  # of the template, whatever the conversation
        place = settings.template if settings.template != "auto" else getattr(tokenizer, "name_or_path", None)
        raise ModelError(f"{place}: {exc.message}" if place else exc.message, hint=exc.hint) from exc
    return text, False
