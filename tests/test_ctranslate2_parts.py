"""Which prompts CTranslate2 answers together: it reads a longer prompt beside a shorter one step by step."""

from __future__ import annotations

import random

import pytest

from llmkit.engines.ctranslate2.parts import parts


def lengths_of(
    lengths: list[int],
    limits: list[int] | int,
    most: int = 32,
    *,
    same_limit: bool = False,
    encoded: bool = False,
    context: int | None = None,
) -> list[list[int]]:
    """The lengths of the prompts in each part; each prompt is in one of them."""
    each = limits if isinstance(limits, list) else [limits] * len(lengths)
    found = list(parts([[0] * length for length in lengths], each, most, same_limit=same_limit, encoded=encoded, context=context))
    assert sorted(i for part in found for i in part) == list(range(len(lengths)))
    return [[lengths[i] for i in part] for part in found]


def steps(found: list[list[int]], limit: int) -> int:
    """Of the library's calls: what is longer than the shortest prompt of a call is read step by step."""
    return sum(max(part) - min(part) + limit for part in found)


def test_like_prompts_run_together_from_short_to_long() -> None:
    assert lengths_of([20, 12, 30, 16], 64) == [[12, 16, 20, 30]]


def test_a_long_prompt_does_not_run_beside_a_short_one() -> None:
    assert lengths_of([10, 1000], 64) == [[10], [1000]]
    assert lengths_of([10, 1000, 12, 1010], 64) == [[10, 12], [1000, 1010]]


def test_a_long_answer_pays_for_unlike_prompts() -> None:
    assert lengths_of([10, 200], 20) == [[10], [200]]
    assert lengths_of([10, 200], 400) == [[10, 200]]


def test_ragged_prompts_take_fewer_steps_than_in_one_call() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(100, 2000) for _ in range(16)]
    assert steps(lengths_of(lengths, 64), 64) < steps([lengths], 64) * 0.7


def test_a_part_has_at_most_so_many_prompts() -> None:
    assert [len(part) for part in lengths_of([20] * 32, 8, most=16)] == [16, 16]
    assert [len(part) for part in lengths_of([20 + i for i in range(70)], 100, most=16)] == [14] * 5


def test_an_encoder_reads_unlike_prompts_at_once() -> None:
    assert lengths_of([10, 1000], 64, encoded=True) == [[10, 1000]]


def test_prompts_of_one_token_have_parts_of_their_own() -> None:
    assert lengths_of([1, 3, 1, 2], 64) == [[1, 1], [2, 3]]
    assert lengths_of([1, 3], 64, encoded=True) == [[1], [3]]


def test_a_limit_that_decides_more_than_the_end_divides_prompts() -> None:
    assert lengths_of([5, 6, 7], [8, 9, 8], same_limit=True) == [[5, 7], [6]]
    assert lengths_of([5, 6, 7], [8, 9, 8]) == [[5, 6, 7]]


def test_no_row_goes_on_beyond_the_context() -> None:
    assert lengths_of([40, 45], [60, 20], context=100) == [[40], [45]]
    assert lengths_of([40, 45], [60, 20], context=105) == [[40, 45]]


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count: int) -> None:
    assert lengths_of([7] * count, 5) == [[7]] * count
