"""A tokenizer from tokenizer.json and tokenizer_config.json by the tokenizers library alone, without transformers.

It has the attributes and calls of transformers' tokenizers that codec.py, chat.py and detokenize.py use. Knows tokenizers that
lie in one file and add nothing of their own in Python, as those of the built-in models do; not others. `settings_of` gives what
has to lie beside that file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmkit.errors import ModelError, one_line
from llmkit.models.panics import panics
from llmkit.models.small_files import read_bytes, read_object

#: Bytes of tokenizer.json; those of 260,000 tokens take 35 MB.
_MAX_TOKENIZER = 64_000_000
_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


class TokenizerFile:
    """The tokenizer of a folder. Raises ModelError for files that can't be read."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        with panics(lambda reason: ModelError(f"{path}: can't be loaded: {reason}")):
            try:
                self.backend_tokenizer: Any = Tokenizer.from_buffer(read_bytes(path, _MAX_TOKENIZER))
            except FileNotFoundError as exc:
                raise ModelError(f"{folder}: no tokenizer.json", hint="copy or download the model again") from exc
            except ModelError:
                raise
            except Exception as exc:
                # the tokenizers library raises bare Exception
                raise ModelError(f"{path}: can't be loaded: {one_line(exc)}") from exc
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        config = read_object(folder / "tokenizer_config.json")
        own = {name: _text(config[name]) for name in _NAMES if config.get(name) is not None}
        self.special_tokens_map: dict[str, Any] = config.get("special_tokens_map") or own
        self._special: list[int] | None = config.get("all_special_ids")
        self.chat_template = config.get("chat_template")
        self.unk_token = own.get("unk_token")
        self.bos_token_id, self.eos_token_id, self.unk_token_id, self.pad_token_id = (self._id_or_none(own.get(name)) for name in _NAMES)

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens, each once; tokens that the vocabulary lacks are left out."""
        if self._special is not None:
            return self._special
        ids = (self.backend_tokenizer.token_to_id(token) for token in self.special_tokens_map.values())
        return [number for number in dict.fromkeys(ids) if number is not None]

    def __call__(
        self,
        text: str | None = None,
        *,
        text_target: str | None = None,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Both sides of a translation share the one file."""
        whole = text if text is not None else text_target or ""
        encoded = self.backend_tokenizer.encode(whole, add_special_tokens=add_special_tokens)
        return {"input_ids": encoded.ids} | ({"offset_mapping": encoded.offsets} if return_offsets_mapping else {})

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False) -> str:
        """The text of `ids`. Spaces stay as they are: to clean them up is not offered."""
        if clean_up_tokenization_spaces:
            raise ValueError("spaces are not cleaned up")
        return str(self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of one token by its name; for an unknown name that of the unknown token, None where there is none."""
        number: int | None = self.backend_tokenizer.token_to_id(token)
        return self.unk_token_id if number is None else number

    def get_vocab(self) -> dict[str, int]:
        """Token → id, added tokens included."""
        return dict(self.backend_tokenizer.get_vocab(with_added_tokens=True))

    def _id_or_none(self, token: str | None) -> int | None:
        return None if token is None else self.backend_tokenizer.token_to_id(token)


def settings_of(tokenizer: Any) -> dict[str, Any]:
    """What of a tokenizer of transformers does not lie in tokenizer.json, as `TokenizerFile` reads it from tokenizer_config.json."""
    named = {name: getattr(tokenizer, name, None) for name in _NAMES}
    return {
        **{name: str(token) for name, token in named.items() if token is not None},
        "special_tokens_map": {
            name: [str(each) for each in token] if isinstance(token, list) else str(token)
            for name, token in tokenizer.special_tokens_map.items()
        },
        "all_special_ids": [int(number) for number in tokenizer.all_special_ids],
        "chat_template": getattr(tokenizer, "chat_template", None),
    }


def _text(token: Any) -> str:
    """A special token by its text; some files describe it as an object."""
    return str(token["content"] if isinstance(token, dict) else token)
