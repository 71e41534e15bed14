"""The task of answering: rows become prompts, prompts answers.

Knows the engine's interface; not which engine it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llmkit.engines.base import Check, Completion, TextEngine, never_stop
from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer, answer_field
from llmkit.rows import Row
from llmkit.rows.fields import Prompt


class Fields(Protocol):
    """Where a row's prompt comes from."""

    def prompt(self, row: Row, file_name: str) -> Prompt:
        """The prompt of a row. file_name: for its error. Raises RowError."""
        ...


class Answering:
    """Gives each row the field `output_field` with what is known of the answer.

    verify: the number of rows that are answered a second time, alone; `verified` counts them, `unlike` holds the numbers
    (from 1) of those that gave a different answer.
    """

    def __init__(
        self, engine: TextEngine, decoding: Decoding, fields: Fields, output_field: str, file_name: str, *, verify: int = 0
    ) -> None:
        self.verify, self.verified = verify, 0
        self._lent = 0  # of `verify`, to copies that answer elsewhere
        self.unlike: list[int] = []
        self.engine, self.decoding, self.fields, self.file_name = engine, decoding, fields, file_name
        self.output_field = output_field
        self.width = decoding.num_samples if decoding.samples else decoding.num_beams
        self.truncated = 0
        #: Settings that rows carry (of the OpenAI batch format) and that have no effect here.
        self.unused: set[str] = set()

    def prepare(self, row: Row) -> Work:
        """As `Task.prepare`; counts prompts that were cut, and keeps the names of settings without effect."""
        try:
            prompt = self.fields.prompt(row, self.file_name)
            request = self.engine.make_request(prompt, self.decoding, row.index)
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        self.truncated += bool(request.truncated)
        self.unused.update(prompt.unused)
        return Work(row, request, len(request.tokens), request.max_new_tokens)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`; where `verify` asks for it, the shortest rows are answered again, each alone."""
        answers = self.engine.generate([work.payload for work in batch], self.decoding, check=check)
        if self.verify > self.verified and len(batch) > 1:
            self._verify(batch, answers, check)
        return [answer_of(each, self.output_field, self.decoding) for each in answers]

    def lend(self, batch: Sequence[Work]) -> int:
        """How many rows of the batch a copy is to verify (see `llmkit.jobs.executor.Traveling`)."""
        rows = min(self.verify - self._lent, len(batch)) if len(batch) > 1 else 0
        self._lent += rows
        return rows

    def borrow(self, lent: int) -> None:
        """As `Traveling.borrow`. lent: rows that may be verified."""
        self.verify, self.verified, self.unlike = lent, 0, []

    def counts(self) -> tuple[int, list[int]]:
        """As `Traveling.counts`: rows verified, and the numbers of those with another answer."""
        return self.verified, self.unlike

    def collect(self, counts: tuple[int, list[int]]) -> None:
        """As `Traveling.collect`."""
        self.verified += counts[0]
        self.unlike += counts[1]

    def _verify(self, batch: Sequence[Work], answers: Sequence[Sequence[Completion]], check: Check) -> None:
        # The last rows of a batch are its shortest, with the most padding.
        for work, together in reversed(list(zip(batch, answers, strict=True))[-(self.verify - self.verified) :]):
            (alone,) = self.engine.generate([work.payload], self.decoding, check=check)
            self.verified += 1
            if [(a.text, a.finish_reason) for a in alone] != [(a.text, a.finish_reason) for a in together]:
                self.unlike.append(work.row.index + 1)


def answer_of(answers: Sequence[Completion], name: str, decoding: Decoding) -> Answer:
    """What a row receives: the field of `answer_field` (a list with several samples) and what is known of the answer."""
    if failed := next((a.error for a in answers if a.error), None):
        return Answer(error=failed)
    many = decoding.num_samples > 1
    first = answers[0]

    def each(values: list[Any]) -> Any:
        return values if many else values[0]

    out: dict[str, Any] = {answer_field(name, several=many): each([a.text for a in answers])}
    out["finish_reason"] = each([a.finish_reason for a in answers])
    out["prompt_tokens"] = first.prompt_tokens
    out["completion_tokens"] = each([a.completion_tokens for a in answers])
    if decoding.logprobs:
        out["logprobs"] = each([[{"token": t.token, "logprob": round(t.logprob, 6)} for t in a.logprobs or ()] for a in answers])
    return Answer(out, None, first.prompt_tokens, sum(a.completion_tokens for a in answers))


def placed(exc: InputError, row: Row, file_name: str) -> InputError:
    """The error with its file and line, when it does not name them itself."""
    if exc.message.startswith(file_name):
        return exc
    return InputError(exc.message, path=file_name, line=row.line or row.index + 1, hint=exc.hint)
