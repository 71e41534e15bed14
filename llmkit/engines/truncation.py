"""Prompts that are too long are cut: a text at one side, a conversation inside its longest messages.

What a tokenizer puts around a text, and all that a chat template writes, stays. Knows tokens and prompts; not tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from llmkit.errors import InputError, counted
from llmkit.rows.fields import Prompt

#: Tries to come as close to the limit as a whole number of characters allows; each renders the template once.
_TRIES = 16


def cut_tokens(tokens: Sequence[int], keep: int, side: str, *, head: int, tail: int) -> list[int]:
    """`keep` of the tokens: the first `head` and the last `tail`, which frame the text, and one side of what is between.

    side: 'left' or 'right', which is cut off. Raises InputError when the frame alone is too long.
    """
    middle = list(tokens[head : len(tokens) - tail])
    room = keep - head - tail
    if room < 1:
        raise InputError(f"there is no room for the prompt: the model takes {keep:,} tokens of it", hint="a lower `max_new_tokens`")
    return [*tokens[:head], *(middle[:room] if side == "right" else middle[-room:]), *tokens[len(tokens) - tail :]]


def cut_conversation(prompt: Prompt, tokens: Sequence[int], keep: int, side: str, encode: Callable[[Prompt], list[int]]) -> list[int]:
    """The tokens of the conversation with its longest messages cut so that it has at most `keep`.

    tokens: of the whole one. encode: the tokens of a prompt through its template. A message that is to be continued is not cut.
    Raises InputError when the template leaves no room.
    """
    low, high = 1, max((len(text) for text in _contents(prompt)), default=0)
    best = encode(capped(prompt, low, side)) if high > low else list(tokens)
    if len(best) > keep:
        raise InputError(
            f"the conversation is too long even without its text: it has {counted(len(best), 'token')}, and there is room for {keep:,}",
            hint="a lower `max_new_tokens`, or fewer messages",
        )
    longer = len(tokens)
    for attempt in range(_TRIES):
        if high - low < 2 or len(best) == keep:
            break
        # lengths in tokens grow about linearly with those in characters; every other try halves what is left
        share = (keep - len(best)) / max(1, longer - len(best)) if attempt % 2 == 0 else 0.5
        most = min(high - 1, max(low + 1, low + int(share * (high - low))))
        ids = encode(capped(prompt, most, side))
        if len(ids) <= keep:
            low, best = most, ids
        else:
            high, longer = most, len(ids)
    return best


def _contents(prompt: Prompt) -> list[str]:
    """The texts that may be cut."""
    if prompt.messages is None:
        return [prompt.text or ""]
    messages = prompt.messages[:-1] if prompt.continue_last else prompt.messages
    return [message["content"] for message in messages if isinstance(message.get("content"), str)]


def capped(prompt: Prompt, most: int, side: str) -> Prompt:
    """The prompt with no text that may be cut longer than `most` characters; the same one where none is.

    side: 'left' or 'right', which is cut off.
    """

    def cut(text: str) -> str:
        return text[:most] if side == "right" else text[-most:]

    if prompt.messages is None:
        if max(len(prompt.text or ""), len(prompt.plain or "")) <= most:
            return prompt
        return replace(prompt, text=prompt.text and cut(prompt.text), plain=prompt.plain and cut(prompt.plain))
    last = len(prompt.messages) - 1 if prompt.continue_last else len(prompt.messages)
    messages = [
        {**m, "content": cut(m["content"])} if place < last and isinstance(m.get("content"), str) and len(m["content"]) > most else m
        for place, m in enumerate(prompt.messages)
    ]
    return prompt if messages == list(prompt.messages) else replace(prompt, messages=tuple(messages))
