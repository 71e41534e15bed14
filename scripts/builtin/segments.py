"""BPE-dropout: other segmentations of a text for training, so that few sentences are not memorized.

At every merge each candidate is left out with a probability; see Provilkov, Emelianenko and Voita, "BPE-Dropout:
Simple and Effective Subword Regularization", ACL 2020. The tokenizers library has it too, but takes no seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

#: Segmentations drawn beforehand for a word; a text takes one of them for each.
DRAWN = 16


class Segments:
    """Segmentations of `texts` by a byte-level BPE `tokenizer`; text i is asked for by its index.

    The merges and the vocabulary are the tokenizer's own; special tokens are the caller's.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Iterable[str], *, dropout: float, seed: int) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
        self._ids: dict[str, int] = model["vocab"]
        words: dict[str, int] = {}
        self._texts = [
            np.array([words.setdefault(w, len(words)) for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)], dtype=np.int32)
            for text in texts
        ]
        rng = np.random.default_rng(seed)
        self._drawn = [tuple(self._segment(word, dropout, rng) for _ in range(DRAWN if dropout else 1)) for word in words]

    def __len__(self) -> int:
        return len(self._texts)

    def draw(self, index: int, rng: np.random.Generator) -> list[int]:
        """Token ids of one segmentation of text `index`."""
        words = self._texts[index]
        choices = rng.integers(0, DRAWN, size=len(words))
        drawn = (self._drawn[word] for word in words)
        return [token for options, choice in zip(drawn, choices, strict=True) for token in options[choice % len(options)]]

    def _segment(self, word: str, dropout: float, rng: np.random.Generator) -> tuple[int, ...]:
        symbols = list(word)
        while True:
            found = ((self._ranks.get(pair), at) for at, pair in enumerate(pairwise(symbols)))
            candidates = [(rank, at) for rank, at in found if rank is not None and not (dropout and rng.random() < dropout)]
            if not candidates:
                return tuple(self._ids[symbol] for symbol in symbols)
            _, at = min(candidates)
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
