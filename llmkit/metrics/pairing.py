"""Two results are compared only if rows and signature are the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmkit.errors import InputError, counted
from llmkit.metrics.base import Result, Score, same_row

if TYPE_CHECKING:
    from llmkit.metrics.significance import Comparison
    from llmkit.metrics.statistics import Numbers


def comparisons(baseline: Result, system: Result, baseline_name: str, system_name: str, *, test: str = "auto") -> list[Comparison]:
    """The scores that both results hold, compared on the same rows.

    test: see `llmkit.metrics.significance.TESTS`. Raises InputError when the rows or a signature differ: such numbers may not be
    compared. Raises UsageError for a test that does not apply.
    """
    order = _pairing(baseline, system, baseline_name, system_name)
    out = []
    for score in system.scores:
        before = next((s for s in baseline.scores if s.name == score.name), None)
        if before is None or before.units is None or score.units is None:
            continue
        if _comparable(before.signature) != _comparable(score.signature):
            if _other_tokenizer(before.signature, score.signature):
                continue  # figures per token mean something else then; those per byte and word can be compared
            raise InputError(
                f"{score.name} has two different signatures: {before.signature} in {baseline_name}, {score.signature} in {system_name}",
                hint="measure both in the same way",
            )
        if other := _other_options(before, score):
            what = f"{score.name} was computed with another `{other}` in {baseline_name} than in {system_name}"
            raise InputError(what, hint="measure both in the same way")
        if before.units.shape != score.units.shape:
            raise InputError(f"{score.name} is made of other figures in {baseline_name} than in {system_name}", hint="measure both again")
        out.append(_compare(before, score, before.units[order], score.units, test))
    if not out:
        hint = "results of suites are compared by `evaluate run` with `baseline`" if baseline.parts and system.parts else None
        raise InputError(f"{baseline_name} and {system_name} have no score in common", hint=hint)
    return out


def _compare(before: Score, score: Score, one: Numbers, other: Numbers, test: str) -> Comparison:
    """By rows, or by the windows of a single document where both were cut alike."""
    from llmkit.metrics.significance import compare
    from llmkit.metrics.statistics import Statistic

    unit = "rows"
    if len(other) == 1 and before.blocks is not None and score.blocks is not None and _cut_alike(before.blocks, score.blocks):
        one, other, unit = before.blocks, score.blocks, "windows"
    return compare(
        score.name,
        one,
        other,
        score.statistic or Statistic("mean"),
        higher_is_better=score.higher_is_better,
        test=test,
        unit=unit,
        values=(before.value, score.value) if unit == "windows" else None,
    )


def _other_options(before: Score, score: Score) -> str | None:
    """An option of sacrebleu that differs between two scores; its signatures leave out chrF's beta, and round a smoothing value."""
    one, other = (s.statistic.all_options if s.statistic is not None else {} for s in (before, score))
    return next((f"{score.name}_{name}" if name == "beta" else name for name in other if one.get(name) != other[name]), None)


def _cut_alike(one: Numbers, other: Numbers) -> bool:
    """Whether two documents have windows of the same tokens: as many, and each as long."""
    return one.shape == other.shape and bool((one[:, 1] == other[:, 1]).all())


def _pairing(baseline: Result, system: Result, baseline_name: str, system_name: str) -> list[int]:
    """For each row of `system` the place of the same row in `baseline`."""
    places: dict[str, int] = {}
    for place, example in enumerate(baseline.examples):
        if example.id in places:
            raise InputError(f"id '{example.id}' occurs twice", path=baseline_name, hint="rows are paired by id")
        places[example.id] = place
    if len(system.examples) != len(baseline.examples):
        rows = counted(len(baseline.examples), "row")
        raise InputError(f"the rows are not the same: {baseline_name} has {rows}, {system_name} has {len(system.examples):,}")
    order: list[int] = []
    used: set[int] = set()
    for example in system.examples:
        place = places.get(example.id, -1)
        if place in used:
            raise InputError(f"id '{example.id}' occurs twice in {system_name}", hint="rows are paired by id")
        used.add(place)
        if place < 0 or not same_row(baseline.examples[place].digest, example.digest):
            what = "is not there" if place < 0 else "differs from the row with this id"
            raise InputError(f"row '{example.id}' of {system_name} {what} in {baseline_name}", hint="both must score the same rows")
        order.append(place)
    return order


def _comparable(signature: str) -> str:
    """A signature without the seed and number of bootstrap resamples, which decide the interval alone."""
    return re.sub(r"\|(bs|seed):[^|]*", "", signature)


def _other_tokenizer(one: str, other: str) -> bool:
    """Whether two signatures of perplexity differ in the model's tokenizer alone."""
    parts = one.split("|"), other.split("|")
    return one.startswith("target:") and [p for p in parts[0] if p[:4] != "tok:"] == [p for p in parts[1] if p[:4] != "tok:"]
