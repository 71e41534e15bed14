"""The task of translating: rows become pieces, pieces translations, checked and put together again.

Knows pieces, checks and the engine's interface; not languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmkit.engines.base import Completion, Engine, Request
from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError
from llmkit.jobs.answering import Fields, placed
from llmkit.jobs.plan import Work, batches
from llmkit.rows import Row
from llmkit.translation.checks import problems
from llmkit.translation.families import Direction
from llmkit.translation.pieces import Pieces, clauses, split

#: A piece's answer may have twice its tokens and some, in steps, so that pieces of like length share a batch.
_LIMITS = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Translated:
    """A piece's translation. problems: what the checks found, also after another try in smaller pieces."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    problems: tuple[str, ...] = ()


class Translating:
    """Gives each row `output_field`, `finish_reason` and token counts, and `error` where a check found something lost."""

    def __init__(
        self,
        engine: Engine,
        decoding: Decoding,
        direction: Direction,
        fields: Fields,
        output_field: str,
        source: str,
        *,
        batch_size: int | None = None,
        batch_tokens: int = 16_384,
    ) -> None:
        self.engine, self.direction, self.fields, self.output_field, self.source = engine, direction, fields, output_field, source
        stops = (*decoding.stop, *direction.stop)
        self.decoding = replace(decoding, first_token=direction.target_token, stop=stops)
        self.width = self.decoding.num_beams
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.tried_again = 0

    def prepare(self, row: Row) -> Work:
        try:
            if self.output_field in row.fields:
                raise InputError(
                    f"has a field '{self.output_field}' already",
                    path=self.source,
                    line=row.line,
                    hint="name another one with --output-field",
                )
            pieces = self.pieces(self.fields.prompt(row, self.source).text or "")
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.source))
        return Work(row, pieces, min(sum(len(self.engine.encode(p.text)) for p in pieces.pieces), self.batch_tokens))

    def answer(self, batch: Sequence[Work]) -> list[dict[str, Any]]:
        done = iter(self.translate([piece.text for work in batch for piece in work.payload.pieces]))
        return [self._fields(work.payload, [next(done) for _ in work.payload.pieces]) for work in batch]

    def pieces(self, text: str) -> Pieces:
        tag = self.direction.source.tag if self.direction.source else "en"
        return split(text, tag, self._fits)

    def translate(self, texts: Sequence[str]) -> list[Translated]:
        """Each text's translation; one that a check objects to is tried again in smaller pieces."""
        out = self._once(texts)
        for place, (text, found) in enumerate(zip(texts, out, strict=True)):
            if found.problems:
                out[place] = self._again(text, found)
        return out

    def _again(self, text: str, first: Translated) -> Translated:
        smaller = clauses(text, self._fits)
        if len(smaller.pieces) < 2:
            return first
        self.tried_again += 1
        parts = self._once([piece.text for piece in smaller.pieces])
        joined = smaller.joined([part.text for part in parts])
        reason = "length" if any(part.finish_reason == "length" for part in parts) else parts[-1].finish_reason
        found = tuple(problems(text, joined, reason))
        if len(found) >= len(first.problems):
            return first
        return Translated(joined, reason, sum(p.prompt_tokens for p in parts), sum(p.completion_tokens for p in parts), found)

    def _once(self, texts: Sequence[str]) -> list[Translated]:
        works = [self._work(number, text) for number, text in enumerate(texts)]
        out: dict[int, Translated] = {}
        for batch in batches(works, rows=self.batch_size, tokens=self.batch_tokens, width=self.width):
            answers = self.engine.generate([work.payload for work in batch], self.decoding)
            for work, (answer, *_) in zip(batch, answers, strict=True):
                out[work.row.index] = _translated(texts[work.row.index], answer)
        return [out[number] for number in range(len(texts))]

    def _work(self, number: int, text: str) -> Work:
        request: Request = self.engine.prepare(self.direction.prompt(text), self.decoding, number)
        wanted = 2 * len(self.engine.encode(text)) + 16
        limit = min(request.max_new_tokens, next((n for n in _LIMITS if n >= wanted), _LIMITS[-1]))
        return Work(Row(number, None, {}), replace(request, max_new_tokens=limit), len(request.tokens), limit)

    def _fits(self, text: str) -> bool:
        """Whether a piece leaves room: half the context of an encoder, a third of a shared one."""
        context = self.engine.context
        return context is None or len(self.engine.encode(text)) + 16 <= context // (2 if self.engine.encoder_decoder else 3)

    def _fields(self, pieces: Pieces, parts: Sequence[Translated]) -> dict[str, Any]:
        out: dict[str, Any] = {self.output_field: pieces.joined([part.text for part in parts])}
        cut = any(part.finish_reason == "length" for part in parts)
        out["finish_reason"] = "length" if cut else parts[-1].finish_reason if parts else "eos"
        out["prompt_tokens"] = sum(part.prompt_tokens for part in parts)
        out["completion_tokens"] = sum(part.completion_tokens for part in parts)
        found = [
            f"'{piece.text[:60]}': {'; '.join(part.problems)}"
            for piece, part in zip(pieces.pieces, parts, strict=True)
            if part.problems
        ]  # fmt: skip
        return out | ({"error": " / ".join(found)} if found else {})


def _translated(source: str, answer: Completion) -> Translated:
    if answer.error:
        return Translated("", "error", answer.prompt_tokens, 0, (answer.error,))
    text = answer.text.strip()
    found = tuple(problems(source, text, answer.finish_reason))
    return Translated(text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, found)
