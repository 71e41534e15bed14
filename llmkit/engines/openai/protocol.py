"""What is said to a server and what it says back: decoding becomes a request's fields, an answer's fields a completion.

Every field that decides an answer is sent, its neutral value too: a server fills what is missing from the model's own
`generation_config.json`. Knows the protocol; not how requests travel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llmkit.engines.base import Completion, TokenScore
from llmkit.engines.decoding import Decoding
from llmkit.engines.detokenize import find_stop
from llmkit.engines.openai.failures import BrokenAnswerError

CHAT, TEXT = "/chat/completions", "/completions"
#: Fields that not every server knows, with the value that says nothing.
OPTIONAL: dict[str, Any] = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
}  # fmt: skip
#: What vLLM, SGLang and llama.cpp call the values that a chat template is shown.
TEMPLATE_VALUES = "chat_template_kwargs"
#: The other name of the limit of an answer, for servers that have given up the first.
LIMIT, OTHER_LIMIT = "max_tokens", "max_completion_tokens"
#: Reasons for which a model's answer ends; a server has others of its own, such as 'content_filter'.
ENDS = ("eos", "stop", "length", "unknown")
#: What gateways, vLLM and SGLang call the end of an answer that they could not finish.
BROKEN = ("error", "abort")
#: A count of tokens that is higher than this is none: sums of it have to stay exact in every JSON reader.
_MOST_TOKENS = 10**9
#: How far above 0 a log-probability may be: servers compute in low precision.
_ROUNDING = 0.01


def fields(decoding: Decoding, max_new_tokens: int, seed: int, *, chat: bool) -> dict[str, Any]:
    """The fields of a request but its model and prompt."""
    out: dict[str, Any] = {
        LIMIT: max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": 1.0 if decoding.top_p is None else decoding.top_p,
        "n": 1,
        "seed": seed,
        "stream": False,
        **OPTIONAL,
        "top_k": OPTIONAL["top_k"] if decoding.top_k is None else decoding.top_k,
        "min_p": OPTIONAL["min_p"] if decoding.min_p is None else decoding.min_p,
        "repetition_penalty": decoding.repetition_penalty,
        "min_tokens": decoding.min_new_tokens,
    }
    if decoding.stop:
        out["stop"] = list(decoding.stop)
    if decoding.logprobs:
        out["logprobs"] = True if chat else 1
    return out


def seed_of(decoding: Decoding, number: int, sample: int) -> int:
    """The seed of an answer, 0 to 2^53 - 1 (exact in every JSON reader): of the run's seed, the row's place and the sample's."""
    text = f"{decoding.seed} {number} {sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def completion_of(content: dict[str, Any], decoding: Decoding, *, chat: bool) -> Completion:
    """The answer in a server's reply. Raises BrokenAnswerError for one without."""
    choice = first_choice(content)
    message = choice.get("message")
    text = _text((message.get("content") if isinstance(message, dict) else None) if chat else choice.get("text"))
    prompt_tokens, completion_tokens = usage(content)
    instead = None if text else _instead(message, choice)
    if instead or text is None:
        why = instead or f"the server's answer has no text (finish reason {str(choice.get('finish_reason'))[:40]})"
        return Completion("", "error", prompt_tokens, completion_tokens, error=why)
    stop = find_stop(text, decoding.stop)
    reason = "stop" if stop is not None else _reason(choice, decoding)
    return Completion(
        text if stop is None else text[:stop],
        reason,
        prompt_tokens,
        completion_tokens,
        _scores(choice, chat) if decoding.logprobs else None,
    )


class Streamed:
    """An answer that comes in events. chat: of the chat endpoint."""

    def __init__(self, *, chat: bool) -> None:
        self._chat, self._name = chat, "content" if chat else "text"
        self._choice: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._has_text = False

    def add(self, event: dict[str, Any]) -> str:
        """The text that an event brings, or an answer in one piece. Raises BrokenAnswerError for choices that are none, or have failed."""
        if not event.get("choices"):
            return ""
        choice = first_choice(event)
        if choice.get("index"):
            return ""  # of another answer, which nobody asked for
        self._choice |= {name: value for name, value in choice.items() if value is not None}
        delta = (choice.get("delta") or choice.get("message")) if self._chat else choice
        if not isinstance(delta, dict):
            return ""
        self._message |= {name: value for name, value in delta.items() if value}
        part = _text(delta.get(self._name))
        if part is None:
            return ""
        self._has_text = True
        return part

    def completion(self, text: str, decoding: Decoding) -> Completion:
        """What the events come to. text: theirs together; one whose every text was null has none."""
        whole = {self._name: text if self._has_text else None}
        choice = self._choice | ({"message": self._message | whole} if self._chat else whole)
        return completion_of({"choices": [choice]}, decoding, chat=self._chat)


def first_choice(content: dict[str, Any]) -> dict[str, Any]:
    """Raises BrokenAnswerError for an answer without a choice, and for one that the server broke off: part of it is no answer."""
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BrokenAnswerError("no choices")
    choice: dict[str, Any] = next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), choices[0])
    error, reason = choice.get("error"), choice.get("finish_reason")
    if error or reason in BROKEN:
        said = error.get("message") if isinstance(error, dict) else error
        raise BrokenAnswerError(f"the error {said}" if said else f"a part of an answer (finish reason {reason})")
    return choice


def _text(content: object) -> str | None:
    """The text of an answer: a text, or a list of parts, of which some are text and others reasoning. None for none."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str)) if parts else None
    return content if isinstance(content, str) else None


def usage(content: dict[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt and of the answer; 0 where the server does not say."""
    told = content.get("usage")
    counts = [told.get(name) if isinstance(told, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    return tuple(count if type(count) is int and 0 <= count <= _MOST_TOKENS else 0 for count in counts)  # type: ignore[return-value]


def _reason(choice: dict[str, Any], decoding: Decoding) -> str:
    """Our name for why an answer ended: 'eos', 'stop' or 'length'; else the server's own word, 'unknown' without one."""
    told = choice.get("finish_reason")
    if told != "stop":
        return str(told)[:40] if isinstance(told, str) else "unknown"
    if "stop_reason" in choice:  # vLLM and SGLang tell a stop string from an end token
        return "stop" if isinstance(choice["stop_reason"], str) else "eos"
    return "stop" if decoding.stop else "eos"


def _instead(message: Any, choice: dict[str, Any]) -> str | None:
    """What a reply without text has in its place, None for nothing that is known."""
    about = message if isinstance(message, dict) else {}
    if about.get("refusal"):
        return "the server refused to answer"
    if about.get("tool_calls"):
        return "the model called a tool instead of answering"
    if (about.get("reasoning_content") or about.get("reasoning")) and choice.get("finish_reason") in ("length", None):
        return "the model's reasoning took all tokens of the answer; raise `max_new_tokens`"
    return None


def _scores(choice: dict[str, Any], chat: bool) -> tuple[TokenScore, ...] | None:
    """The tokens of an answer with their log-probabilities, None where the server gives none. Raises BrokenAnswerError."""
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        return None
    if chat:
        listed = told.get("content")
        if not isinstance(listed, list):
            return None
        pairs = [(each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None) for each in listed]
        return tuple(TokenScore(str(token), _logprob(value)) for token, value in pairs)
    scores = echoed(told)
    return None if scores is None else tuple(TokenScore(token, value) for token, value in scores if value is not None)


def echoed(told: dict[str, Any]) -> Sequence[tuple[str, float | None]] | None:
    """Tokens and log-probabilities of a plain completion, None for a token that nothing stands before. Raises BrokenAnswerError."""
    tokens, values = told.get("tokens"), told.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    return [(str(token), None if value is None else _logprob(value)) for token, value in zip(tokens, values, strict=True)]


def _logprob(value: object) -> float:
    """Raises BrokenAnswerError for what is no log-probability; -inf is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= _ROUNDING:
        raise BrokenAnswerError("log-probabilities that are none")
    return float(value)


class Scores(NamedTuple):
    """A form in which servers give the log-probabilities of a given text. fields: that ask for it. read: an answer; None without them."""

    fields: dict[str, Any]
    read: Callable[[dict[str, Any]], list[tuple[str, float | None]] | None]


def _echoed_text(content: dict[str, Any]) -> list[tuple[str, float | None]] | None:
    """Those of a text that is echoed before the one new token, which is asked for since not every server takes none."""
    told = first_choice(content).get("logprobs")
    scores = echoed(told) if isinstance(told, dict) else None
    prompt, written = usage(content)
    kept = None if scores is None else list(scores[: prompt or len(scores) - (written or 1)])
    return kept if kept and (prompt == 0 or len(kept) == prompt) and len(scores or ()) > (written or 1) else None


def _prompt_text(content: dict[str, Any]) -> list[tuple[str, float | None]] | None:
    """Those of vLLM's own field: for each token of the prompt an object that holds it alone, None for one that nothing stands before."""
    told = first_choice(content).get("prompt_logprobs")
    if not isinstance(told, list) or len(told) != (usage(content)[0] or len(told)):
        return None
    scores: list[tuple[str, float | None]] = []
    for each in told:
        about = next(iter(each.values())) if isinstance(each, dict) and len(each) == 1 else None
        if each is not None and not isinstance(about, dict):
            return None
        scores.append(("", None) if not isinstance(about, dict) else (str(about.get("decoded_token")), _logprob(about.get("logprob"))))
    return scores or None


SCORES = (Scores({"echo": True, "logprobs": 1}, _echoed_text), Scores({"prompt_logprobs": 0}, _prompt_text))
