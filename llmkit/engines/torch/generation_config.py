"""What of a model's generation_config.json is in force: special, forced and suppressed tokens, and nothing else.

transformers fills every setting that is None from the model's own configuration when `generate` is called (release 5.24,
`_prepare_generation_config`), so that a model's sampling, penalties, limits and stop strings can't be switched off by leaving
them unset. Its configuration is therefore replaced by a clean one, once.
"""

from __future__ import annotations

from typing import Any

from llmkit.errors import ModelError

#: Settings that name one token. Without a padding or begin token some models write -1.
_TOKEN = ("decoder_start_token_id", "forced_bos_token_id")
_TOKEN_OR_NONE = ("bos_token_id", "pad_token_id")
#: Settings that name a list of tokens.
_TOKENS = ("suppress_tokens", "begin_suppress_tokens")


def clean(config: Any, *, vocabulary: int | None = None) -> Any:
    """A transformers GenerationConfig with what llmkit uses of `config`.

    vocabulary: number of the model's embeddings, which every token has to be below. A forced end is not kept: an answer
    that is cut off must not look as if it had ended. Raises ModelError naming the setting.
    """
    from transformers import GenerationConfig

    kept: dict[str, Any] = {}
    for name in _TOKEN:
        value = getattr(config, name, None)
        if value is not None:
            _check(name, value, _token(value, vocabulary))
            kept[name] = value
    kept |= {name: value for name in _TOKEN_OR_NONE if _token(value := getattr(config, name, None), vocabulary)}
    for name in _TOKENS:
        value = getattr(config, name, None)
        if value is not None:
            _check(name, value, _list(value, vocabulary))
            kept[name] = list(value)
    words = getattr(config, "bad_words_ids", None)
    if words:
        _check("bad_words_ids", words, isinstance(words, list) and all(word and _list(word, vocabulary) for word in words))
        kept["bad_words_ids"] = [list(word) for word in words]
    ends = end_tokens(None, config)
    return GenerationConfig(**kept, eos_token_id=list(ends) or None)


def end_tokens(tokenizer: Any, config: Any) -> tuple[int, ...]:
    """All tokens at which an answer ends: the tokenizer's first, then those of the configuration, which often is the older one.

    The first is what a text is trained to end with. Raises ModelError for a setting that names no tokens.
    """
    configured = getattr(config, "eos_token_id", None)
    listed = [] if configured is None else configured if isinstance(configured, list | tuple) else [configured]
    _check("eos_token_id", configured, all(type(token) is int for token in listed))
    listed = [token for token in listed if token >= 0]
    own = getattr(tokenizer, "eos_token_id", None)
    return tuple(dict.fromkeys([*([own] if own is not None else []), *listed]))


def _token(value: Any, vocabulary: int | None) -> bool:
    return type(value) is int and value >= 0 and (vocabulary is None or value < vocabulary)


def _list(value: Any, vocabulary: int | None) -> bool:
    return isinstance(value, list | tuple) and all(_token(token, vocabulary) for token in value)


def _check(name: str, value: Any, good: bool) -> None:
    if not good:
        raise ModelError(f"generation_config.json: '{name}' is {str(value)[:60]}; ids of the model's tokens are expected")
