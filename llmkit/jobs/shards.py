"""One job on many machines without a scheduler of its own: each shard answers its part of the one plan, `gather` joins them.

Shard I of N of OUT lies in OUT.shard-I-of-N: a line per row with its place, beside it its own run record and, until it is
finished, its own journal. Knows outputs and outcomes; not tasks.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.errors import InputError, OutputError, UsageError
from llmkit.jobs import earlier
from llmkit.jobs.outcome import Outcome, RowsDigest, Tally, answer_field
from llmkit.jobs.output import Output, writer_of
from llmkit.records import differences, read_record, run_record
from llmkit.rows.base import form_of
from llmkit.rows.values import MAX_DEPTH, from_json, to_json

_NAME = re.compile(r"\.shard-(\d{1,9})-of-(\d{1,9})")


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `of`. Raises UsageError for one that can't be."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"`shard` {self}: the first number must be between 1 and the second", hint="for example `shard` 1/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has_row(self, index: int) -> bool:
        """Whether a row that is in no batch is the shard's."""
        return index % self.of == self.number - 1

    def has_batch(self, window: int, place: int) -> bool:
        """Whether the batch at this place of a window's plan, both from 0, is the shard's.

        The longest batches of a window come first. So its batches go to the shards back and forth, and begin at another shard in each
        window: every Nth batch would give one shard the longest of all windows.
        """
        turn, at = divmod(place, self.of)
        at = at if turn % 2 == 0 else self.of - 1 - at
        return (at + window * self._step) % self.of == self.number - 1

    @cached_property
    def _step(self) -> int:
        """From one window's first shard to the next one's: near the golden ratio, which spreads few windows, too; each has its turn."""
        step = max(1, round(self.of * 0.618))
        while math.gcd(step, self.of) > 1:
            step += 1
        return step

    def path(self, output: str) -> str:
        """Where the shard of an output lies. Raises OutputError for a name that would be too long."""
        path = Path(output)
        files.check_name(path.with_name(f"{path.name}.shard-{self.of}-of-{self.of}.journal"), output)
        return str(path.with_name(f"{path.name}.shard-{self.number}-of-{self.of}"))


def parse_shard(text: str) -> Shard:
    """A shard written as I/N. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if match is None:
        raise UsageError(f"`shard` '{text}' is not I/N", hint="for example `shard` 1/8, which is the first of eight")
    return Shard(int(match[1]), int(match[2]))


def shard_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The bytes of a shard, of what `earlier.JournalOutcomes` gives."""
    for row in rows:
        yield (to_json(dict(row)) + "\n").encode("utf-8")


def gather(path: str, *, overwrite: bool = False) -> tuple[Tally, list[str]]:
    """Joins the shards beside `path` into the file and the run record that one process would have written there.

    Returns the counts and the names of the shards, which stay. Raises InputError for shards that are missing, unfinished, damaged,
    of another run, or that overlap, each by its name; OutputError for an output that is there.
    """
    paths = _complete_set(Path(path))
    records = [_record(shard) for shard in paths]
    _check_one_run(paths, records)
    merged = _Merged(paths)
    tally = merged.counted(str(records[0]["identity"].get("rows_sha256")))
    identity = {name: value for name, value in records[0]["identity"].items() if name != "shard"}
    options = {name: value for name, value in records[0]["options"].items() if name != "shard"}
    results = [record["result"] for record in records]
    tally.seconds = sum(float(result.get("seconds") or 0.0) for result in results)
    several = records[0].get("command") == "generate" and int(identity.get("num_samples") or 1) > 1
    answer = answer_field(str(identity.get("output_field", "text")), several=several)
    table = form_of(results[0].get("input_table"))
    write = writer_of(Path(path), answer, identity.get("output_format"), str(identity.get("model.model")))
    with Output(path, overwrite=overwrite, write=write) as output:
        if output.path.exists() and not overwrite:
            raise OutputError(f"{path} exists", hint="`overwrite` replaces it")

        def record(sha256: str) -> dict[str, Any]:
            memory = max((int(r.get("peak_memory_bytes") or 0) for r in results), default=0)
            name, digest = str(results[0].get("input")), results[0].get("input_sha256")
            result = earlier.result_of(tally, name, digest, output.name, sha256, peak_memory=memory or None, table=table)
            return run_record(str(records[0].get("command")), options, identity, result)

        output.commit(merged, record, table)
    return tally, [shard.name for shard in paths]


def _complete_set(path: Path) -> list[Path]:
    """The shards 1 to N beside an output. Raises InputError for those that are missing, or for parts of two different sets."""
    pattern = re.compile(re.escape(path.name) + _NAME.pattern + r"(\.journal)?")
    there = [match for entry in _siblings(path) if (match := pattern.fullmatch(entry.name))]
    sizes = sorted({int(match[2]) for match in there})
    if not sizes:
        raise InputError("there are no shards beside it", path=path, hint="run with `shard` 1/N to N/N first, each with this output")
    if len(sizes) > 1:
        kinds = " and ".join(f"{path.name}.shard-*-of-{size}" for size in sizes)
        raise InputError(f"shards of {len(sizes)} different plans overlap: {kinds}", path=path, hint="remove those of other runs")
    numbers = {str(number) for number in range(1, sizes[0] + 1)}
    if foreign := [match[0] for match in there if match[1] not in numbers or match[2] != str(sizes[0])]:
        message = f"no run writes a shard of that name: {_join_first(foreign)}"
        raise InputError(message, path=path, hint="remove it, or give it its old name")
    names = [Path(Shard(number, sizes[0]).path(str(path))) for number in range(1, sizes[0] + 1)]
    if missing := [shard.name for shard in names if not shard.exists()]:
        begun = [match[0] for match in there if match[3]]
        unfinished = f"; unfinished: {_join_first([name.removesuffix('.journal') for name in begun])}" if begun else ""
        hint = "run the shards that are missing, then gather again"
        raise InputError(f"{len(missing)} of {sizes[0]} shards are missing: {_join_first(missing)}{unfinished}", path=path, hint=hint)
    return names


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.iterdir())
    except OSError as exc:
        raise InputError(f"its folder cannot be read: {exc.strerror}", path=path) from exc


def _join_first(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _record(shard: Path) -> dict[str, Any]:
    """The record of a shard, which is the file that its run wrote. Raises InputError."""
    record = read_record(files.companion(shard, "run.json"))
    if record is None:
        raise InputError("there is no record of the run that wrote it", path=shard, hint="run this shard again with `overwrite`")
    if files.file_sha256(shard) != record["result"].get("output_sha256"):
        raise InputError("its content has changed since the run wrote it", path=shard, hint="run this shard again with `overwrite`")
    return record


def _check_one_run(paths: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError for a shard of another run than the first, or of another number than its name says."""
    first = {name: value for name, value in records[0]["identity"].items() if name != "shard"}
    for number, (path, record) in enumerate(zip(paths, records, strict=True), 1):
        own = dict(record["identity"])
        said = own.pop("shard", None)
        if said != f"{number}/{len(paths)}":
            raise InputError(f"its record says that it is shard {said}", path=path, hint="give it its old name again")
        if changes := differences(first, own):
            hint = "run it again with the options, the model and the input of the others"
            raise InputError(f"it belongs to another run than {paths[0].name}: {'; '.join(changes)}", path=path, hint=hint)


class _Merged:
    """The output rows of all shards in input order; can be iterated again. Holds a row of each shard in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (outcome.line() for outcome, _ in self._rows())

    def counted(self, rows_sha256: str) -> Tally:
        """The counts of all rows. Raises InputError when they are not the rows that have this hash."""
        tally, digests = Tally(), RowsDigest()
        for outcome, digest in self._rows():
            tally.add(outcome)
            digests.add(digest)
        if digests.state != rows_sha256:
            raise InputError(
                "the shards do not hold all rows of their input", path=self._paths[0], hint="run the shards again with `overwrite`"
            )
        return tally

    def _rows(self) -> Iterator[tuple[Outcome, str]]:
        """Raises InputError for a row that is in two shards or in none."""
        expected, before = 0, self._paths[0]
        for index, number, outcome, digest in heapq.merge(*(self._of(n) for n in range(len(self._paths)))):
            path = self._paths[number]
            if index < expected:
                raise InputError(f"row {index + 1} is also in {before.name}", path=path, hint="run one of the two again with `overwrite`")
            if index > expected:
                raise InputError(f"row {expected + 1} is in no shard", path=path, hint="run the shards again with `overwrite`")
            expected, before = index + 1, path
            yield outcome, digest

    def _of(self, number: int) -> Iterator[tuple[int, int, Outcome, str]]:
        path = self._paths[number]
        with path.open("rb") as file:
            for line in file:
                try:
                    outcome, digest = earlier.read_saved(from_json(line.decode("utf-8"), max_depth=MAX_DEPTH + 8)["row"])
                except (ValueError, TypeError, KeyError, RecursionError) as exc:
                    raise InputError("is not a shard of llmkit", path=path) from exc
                yield outcome.index, number, outcome, digest
