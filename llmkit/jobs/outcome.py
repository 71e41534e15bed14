"""What becomes of a row: the row as it was read, its answer, and its error are three things until a line is written.

So a field of the input is never read as a signal, whatever its name. Knows fields; not files or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmkit.errors import counted
from llmkit.rows import Row


@dataclass(frozen=True)
class Answer:
    """What a task made of one row.

    fields: what the output row receives. error: why the row failed, None when it did not; a row can have both (a translation
    that lost something). hint: what to do about the error; said at the end of a run, and not kept. The counts are of tokens.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    hint: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens that were written, or scored."""
        return self.completion_tokens or self.scored_tokens


def answer_field(name: str, *, several: bool) -> str:
    """The field of the output that a generated answer is in: `name`, or its plural for the list of several."""
    return f"{name}s" if several else name


class Line(dict[str, Any]):
    """An output row. answer: what of it the task said; a failed row may have an input field of the answer's name."""

    __slots__ = ("answer",)

    def __init__(self, fields: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.answer = answer


def answer_in(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of an output row that are its answer; all of one that was read from a file."""
    return row.answer if isinstance(row, Line) else row


@dataclass(frozen=True)
class Outcome:
    """A row and its answer. index: the row's place in the input, from 0. fields: of the input row."""

    index: int
    fields: Mapping[str, Any]
    answer: Answer

    def line(self) -> Line:
        """The output row: the input's fields, then the answer's in the place of any of the same name, then the error of a row that failed.

        A field `error` of the input stays as it is on a row that was answered.
        """
        failed = {} if self.answer.error is None else {"error": self.answer.error}
        return Line({**self.fields, **self.answer.fields, **failed}, self.answer.fields)


@dataclass
class Tally:
    """What a job has done.

    resumed: rows of an earlier run. seconds: of all runs together. failed_rows: places of failed rows, as [first, last] spans. replaced:
    input fields that an answer replaced. complete_before: there was nothing to do.
    """

    rows: int = 0
    failed: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    first_error: str | None = None
    first_hint: str | None = None
    failed_rows: list[list[int]] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    complete_before: bool = False

    @property
    def tokens_by_kind(self) -> tuple[int, int, int]:
        """Tokens of prompts, of answers, and those that were scored."""
        return self.prompt_tokens, self.completion_tokens, self.scored_tokens

    def add(self, outcome: Outcome) -> None:
        """Counts one row. Rows come in any order; failed ones in input order make the shortest spans."""
        answer = outcome.answer
        self.rows += 1
        if answer.error is not None:
            self.failed += 1
            self.note_error(answer)
            if self.failed_rows and self.failed_rows[-1][1] == outcome.index - 1:
                self.failed_rows[-1][1] = outcome.index
            else:
                self.failed_rows.append([outcome.index, outcome.index])
        self.replaced |= outcome.fields.keys() & answer.fields.keys()
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        self.scored_tokens += answer.scored_tokens

    def merge(self, later: Tally) -> None:
        """Adds the counts of rows that come after these."""
        for name in ("rows", "failed", "prompt_tokens", "completion_tokens", "scored_tokens"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for first, last in later.failed_rows:
            if self.failed_rows and self.failed_rows[-1][1] == first - 1:
                self.failed_rows[-1][1] = last
            else:
                self.failed_rows.append([first, last])
        self.replaced |= later.replaced
        if self.first_error is None:
            self.first_error, self.first_hint = later.first_error, later.first_hint

    def note_error(self, answer: Answer) -> None:
        """Keeps the first error, with its hint."""
        if answer.error is not None and self.first_error is None:
            self.first_error, self.first_hint = answer.error, answer.hint

    def refuse(self, refused: Mapping[int, str]) -> None:
        """Counts rows as failed whose answers the output could not take, by their places."""
        if not refused:
            return
        failed = {index for first, last in self.failed_rows for index in range(first, last + 1)}
        self.failed += len(refused.keys() - failed)
        self.first_error = self.first_error or next(iter(refused.values()), None)
        spans: list[list[int]] = []
        for index in sorted(failed | refused.keys()):
            if spans and spans[-1][1] == index - 1:
                spans[-1][1] = index
            else:
                spans.append([index, index])
        self.failed_rows = spans

    @property
    def tokens(self) -> int:
        """Tokens that were written, or else scored: what a rate counts."""
        return self.completion_tokens or self.scored_tokens

    @property
    def exit_code(self) -> int:
        """0, or 3 when rows failed."""
        return 3 if self.failed else 0

    def __str__(self) -> str:
        rate = f", {self.tokens / self.seconds:,.0f} tokens/s" if self.seconds > 0 and self.tokens else ""
        failed = f", {self.failed:,} failed" if self.failed else ""
        resumed = f" ({self.resumed:,} from before)" if self.resumed else ""
        return f"{counted(self.rows, 'row')}{resumed}{failed}, {counted(self.tokens, 'token')} in {self.seconds:.1f} s{rate}"


class RowsDigest:
    """The hash of rows in their order, of their digests: a chain, which can be continued from any of its states."""

    def __init__(self, state: str | None = None) -> None:
        self.state = state or hashlib.sha256().hexdigest()

    def add(self, digest: str) -> None:
        """The digest of the next row, see `row_digest`."""
        self.state = hashlib.sha256((self.state + digest).encode("ascii")).hexdigest()


def row_digest(row: Row) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a row's content (and of its error, for one that can't be read)."""
    return row.digest.hex()[:16]
