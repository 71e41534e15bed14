"""A long text becomes token ids in pieces, which are the ids of the whole text.

While a tokenizer reads a text it keeps some 200 bytes for each character. A piece begins inside the one before. Where the tokens of
both are the same over several words, neither the end of the one nor the beginning of the other reaches any more: tokenizers cut a text
into words, or merge what is near. There one goes on in the other. Knows tokens and their places in a text; not tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: Characters of a piece, and how many of them it has in common with the next.
SIZE, OVERLAP = 1_000_000, 20_000
#: How often a word has to begin or end where both pieces have the same tokens, before the place where they are joined and behind it.
_EDGES = 8

#: Token ids of a text, and where each begins and ends in it.
Encode = Callable[[str], tuple[Sequence[int], Sequence[tuple[int, int]]]]
#: A token of a piece: where it begins and ends in the whole text, and its id.
_Placed = tuple[int, int, int]


def encode_in_pieces(text: str, encode: Encode, *, size: int = SIZE, overlap: int = OVERLAP) -> list[int] | None:
    """The ids of a text; None where two pieces have nothing in common: a text without words, or a tokenizer that reads all of it at once.

    size and overlap: in characters.
    """
    ids: list[int] = []
    once: dict[int, int] = {}  # a number a token of the vocabulary, not one for each place
    start, piece = 0, _placed(encode, text, 0, size)
    while start + size < len(text):
        end, start = start + size, start + size - overlap
        following = _placed(encode, text, start, size)
        joint = _joint(piece, following, text, start, end)
        if joint is None:
            return None
        ids += [once.setdefault(token, token) for _, _, token in piece[: joint[0]]]
        piece = following[joint[1] :]
    ids += [once.setdefault(token, token) for _, _, token in piece]
    return ids


def _placed(encode: Encode, text: str, start: int, size: int) -> list[_Placed]:
    ids, spans = encode(text[start : start + size])
    return [(start + begin, start + end, token) for token, (begin, end) in zip(ids, spans, strict=True)]


def _joint(piece: Sequence[_Placed], following: Sequence[_Placed], text: str, start: int, end: int) -> tuple[int, int] | None:
    """Where in `piece` and in `following` the first token stands that is to be taken from `following`.

    start and end: of what they have in common, in the text.
    """
    first = next((i for i, (begin, _, _) in enumerate(piece) if begin >= start), len(piece))
    places = {token: i for i, token in enumerate(piece[first:], first)}
    at = 0
    while at < len(following) and following[at][0] < end:
        there = places.get(following[at])
        if there is None:
            at += 1
            continue
        length = 1
        while at + length < len(following) and there + length < len(piece) and following[at + length] == piece[there + length]:
            length += 1
        edges = [i for i in range(length) if _is_edge(text, following[at + i][0])]
        if len(edges) > 2 * _EDGES:
            middle = edges[len(edges) // 2]
            return there + middle, at + middle
        at += length
    return None


def _is_edge(text: str, at: int) -> bool:
    """Whether a word begins or ends there."""
    return at > 0 and text[at - 1].isalnum() != text[at].isalnum()
