"""The task of translating: rows become pieces, pieces translations, checked and put together again.

Knows pieces, checks and the engine's interface; not what a model calls a language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmkit.engines.base import Check, Completion, Request, TextEngine, never_stop
from llmkit.engines.decoding import Decoding
from llmkit.errors import InputError
from llmkit.jobs.batching import Work, batches
from llmkit.jobs.outcome import Answer
from llmkit.rows import Row
from llmkit.tasks.generate import Fields, placed
from llmkit.translation.checks import KEPT, problems
from llmkit.translation.documents.base import Marks
from llmkit.translation.families import Direction
from llmkit.translation.glossary import Glossary
from llmkit.translation.languages import Language
from llmkit.translation.markup import Marked, strip
from llmkit.translation.pieces import Pieces, around, clauses, split, without_stop
from llmkit.translation.placeholders import IN_TEXTS
from llmkit.translation.untranslatable import is_code, is_written_in

#: A piece's answer may have twice its tokens and `_SPARE`, in steps, so that pieces of like length share a batch.
_LIMITS = (32, 48, 64, 96, 128, 192, 256, 512, 1024)
#: Tokens beside a piece's own: special ones, and some more words where it is short.
_SPARE = 16
#: Lost pieces of a text that its error names.
_TOLD = 5


@dataclass(frozen=True)
class Translated:
    """A piece's translation. problems: the failed checks, also after another try in smaller pieces.

    others: the next best translations. score: the sum of the answer's log-probabilities, in nats, where it was asked for.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    problems: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class TranslationOptions:
    """How texts are translated. keep: markup inside them that stays. glossary: terms that the translation must hold.

    best: number of translations of each text; scored: with the mean log-probability of their tokens.
    """

    output_field: str = "translation"
    keep: Marks | None = None
    glossary: Glossary | None = None
    best: int = 1
    scored: bool = False


@dataclass(frozen=True)
class _Cut:
    """A row's text without its markup, and its pieces. keep: the markup."""

    marked: Marked
    pieces: Pieces
    keep: Marks | None = None


class Translating:
    """Gives each row its translation, `finish_reason` and token counts, and `error` where a check failed.

    onward: the second step of a pivot, which translates the translations. tells_languages: a sentence that is in the target language
    already is left as it is (there_already: how many).
    """

    def __init__(
        self,
        engine: TextEngine,
        decoding: Decoding,
        direction: Direction,
        fields: Fields,
        options: TranslationOptions,
        file_name: str,
        *,
        batch_size: int | None = None,
        batch_tokens: int = 16_384,
        onward: Translating | None = None,
        tells_languages: bool = True,
    ) -> None:
        self.engine, self.direction, self.fields, self.options, self.file_name = engine, direction, fields, options, file_name
        self.decoding = replace(decoding, first_token=direction.target_token, start_token=direction.start_token)
        self.width = self.decoding.num_beams
        self.batch_size, self.batch_tokens, self.onward = batch_size, batch_tokens, onward
        self.tells_languages = tells_languages
        self.tried_again = self.there_already = 0
        self._terms: dict[str, list[str]] = {}
        source, target = self.ends
        self.glossary = None if options.glossary is None else options.glossary.between(source.tag if source else None, target.tag)

    def prepare(self, row: Row) -> Work:
        """As `Task.prepare`: the text without its markup, in pieces. The length is of all pieces, at most `batch_tokens`."""
        try:
            text = self.fields.prompt(row, self.file_name).text or ""
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        keep = None if self.options.keep is None else self.options.keep.of(row.index)
        marked = strip(text, IN_TEXTS if keep is None else keep)
        pieces = self.pieces(marked.plain)
        size = min(sum(self.engine.length(p.text) for p in pieces.pieces), self.batch_tokens)
        return Work(row, _Cut(marked, pieces, keep), size)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`; the pieces of all rows are translated together."""
        done = iter(self.translate([piece.text for work in batch for piece in work.payload.pieces.pieces], check))
        return [self._answer(work.payload, [next(done) for _ in work.payload.pieces.pieces]) for work in batch]

    def lend(self, batch: Sequence[Work]) -> None:
        """Nothing: see `llmkit.jobs.executor.Traveling`."""

    def borrow(self, lent: None) -> None:
        """As `Traveling.borrow`; nothing is lent."""
        self.tried_again = self.there_already = 0

    def counts(self) -> tuple[int, int]:
        """As `Traveling.counts`: pieces translated again, and sentences that were in the target language already."""
        return self.tried_again, self.there_already

    def collect(self, counts: tuple[int, int]) -> None:
        """As `Traveling.collect`."""
        self.tried_again += counts[0]
        self.there_already += counts[1]

    @property
    def ends(self) -> tuple[Language | None, Language]:
        """The languages of the texts and of their translations, a pivot's second step included. None: the model need not be told."""
        return self.direction.source, (self.onward or self).direction.target

    def facts(self) -> dict[str, Any]:
        """What tells this translation from another beside options and model.

        Languages that were detected or are a model's own, and a pivot with its model.
        """
        source, target = self.ends
        facts = {"resolved.from": source.tag if source else None, "resolved.to": target.tag}
        if self.onward is not None:
            about = self.onward.engine.identity.as_dict()
            facts |= {"resolved.pivot": self.direction.target.tag, **{f"model.pivot.{name}": value for name, value in about.items()}}
        return {name: value for name, value in facts.items() if value is not None}

    def pieces(self, text: str) -> Pieces:
        """The sentences of a text, those that are too long in smaller pieces."""
        return split(text, self.direction.source.tag if self.direction.source else "en", self._fits)

    def translate(self, texts: Sequence[str], check: Check = never_stop) -> list[Translated]:
        """Each text's translation; one that fails a check is tried again around what was lost, and in smaller pieces."""
        out = self._once(texts, check)
        for place, (text, first) in enumerate(zip(texts, out, strict=True)):
            if first.problems:
                out[place] = self._again(text, first, check)
        return out

    def _again(self, text: str, first: Translated, check: Check) -> Translated:
        self.tried_again += 1
        best = self._with_terms(text, first, check)
        for smaller in (around(text, KEPT, self.pieces), clauses(text, self._fits)):
            if best.problems and [piece.text for piece in smaller.pieces] != [text]:
                other = self._with_terms(text, self._joined(text, smaller, check), check)
                best = other if len(other.problems) < len(best.problems) else best
        return best

    def _with_terms(self, text: str, first: Translated, check: Check) -> Translated:
        """The translation, and the next best, with the glossary's terms in the places of what the model writes for them."""
        if self.glossary is None or not self.glossary.violations(text, first.text):
            return first
        answers = [self.glossary.placed(text, answer, lambda term: self._alone(term, check)) for answer in (first.text, *first.others)]
        kept = [answer for answer in dict.fromkeys(answers) if not self.glossary.violations(text, answer)] or [first.text]
        return replace(first, text=kept[0], others=tuple(kept[1:]), problems=self._problems(text, kept[0], first.finish_reason))

    def _alone(self, term: str, check: Check) -> list[str]:
        """What the model may write for a term, best first."""
        if term not in self._terms:
            made = self._once([term], check)
            self._terms[term] = [answer for each in made for answer in (each.text, *each.others)]
        return self._terms[term]

    def _joined(self, text: str, smaller: Pieces, check: Check) -> Translated:
        parts = self._once([piece.text for piece in smaller.pieces], check)
        joined = smaller.joined([part.text for part in parts])
        reason = "length" if any(part.finish_reason == "length" for part in parts) else parts[-1].finish_reason if parts else "eos"
        prompt, completion = sum(p.prompt_tokens for p in parts), sum(p.completion_tokens for p in parts)
        score = sum(p.score or 0.0 for p in parts) if self.options.scored else None
        return Translated(joined, reason, prompt, completion, self._problems(text, joined, reason), score=score)

    def _problems(self, text: str, translation: str, reason: str) -> tuple[str, ...]:
        terms = self.glossary.violations(text, translation) if self.glossary else ()
        return (*problems(text, translation, reason), *terms)

    def _once(self, texts: Sequence[str], check: Check) -> list[Translated]:
        out = {number: Translated(text, "eos", 0, 0) for number, text in enumerate(texts) if self._stays(text)}
        works = [self._work(number, text) for number, text in enumerate(texts) if number not in out]
        for batch in batches(works, rows=self.batch_size, tokens=self.batch_tokens, width=self.width):
            answers = self.engine.generate([work.payload for work in batch], self.decoding, check=check)
            for work, answer in zip(batch, answers, strict=True):
                out[work.row.index] = self._translated(texts[work.row.index], answer)
        halfway = [out[number] for number in range(len(texts))]
        return halfway if self.onward is None else self._onward(self.onward, texts, halfway, check)

    def _stays(self, text: str) -> bool:
        """Whether there is nothing to translate."""
        if is_code(text):
            return True
        there = self.tells_languages and is_written_in(text, self.ends[1], self.ends[0])
        self.there_already += there
        return there

    def _onward(self, second: Translating, texts: Sequence[str], halfway: Sequence[Translated], check: Check) -> list[Translated]:
        """The second step, from the translations of the first. Its checks compare the original with the final text."""
        cut = [second.pieces(half.text) for half in halfway]
        done = iter(second.translate([piece.text for pieces in cut for piece in pieces.pieces], check))
        out = []
        for text, half, pieces in zip(texts, halfway, cut, strict=True):
            parts = [next(done) for _ in pieces.pieces]
            joined = pieces.joined([part.text for part in parts])
            reason = "length" if "length" in (half.finish_reason, *(p.finish_reason for p in parts)) else half.finish_reason
            prompt = half.prompt_tokens + sum(p.prompt_tokens for p in parts)
            completion = half.completion_tokens + sum(p.completion_tokens for p in parts)
            out.append(Translated(joined, reason, prompt, completion, self._problems(text, joined, reason)))
        return out

    def _work(self, number: int, text: str) -> Work:
        request: Request = self.engine.make_request(self.direction.prompt(text), self.decoding, number)
        wanted = 2 * self.engine.length(text) + _SPARE
        limit = min(request.max_new_tokens, next((n for n in _LIMITS if n >= wanted), _LIMITS[-1]))
        return Work(Row(number, None, {}), replace(request, max_new_tokens=limit), len(request.tokens), limit)

    def _fits(self, text: str) -> bool:
        """Whether a piece leaves room: half the context of an encoder, a third of a shared one."""
        context = self.engine.context
        return context is None or self.engine.length(text) + _SPARE <= context // (2 if self.engine.encoder_decoder else 3)

    def _answer(self, cut: _Cut, parts: Sequence[Translated]) -> Answer:
        pieces = cut.pieces
        texts = [part.text for part in parts]
        if cut.keep is not None:  # of a document, where titles and cells end no sentence
            texts = [without_stop(piece.text, text) for piece, text in zip(pieces.pieces, texts, strict=True)]
        out: dict[str, Any] = {self.options.output_field: cut.marked.joined(pieces, texts)}
        if self.options.best > 1:
            out["translations"] = self._ranked(cut, parts)
        ended = any(part.finish_reason == "length" for part in parts)
        out["finish_reason"] = "length" if ended else parts[-1].finish_reason if parts else "eos"
        out["prompt_tokens"] = sum(part.prompt_tokens for part in parts)
        out["completion_tokens"] = sum(part.completion_tokens for part in parts)
        if self.options.scored:
            out["score"] = sum(part.score or 0.0 for part in parts) / max(out["completion_tokens"], 1)
        lost = [
            f"'{piece.text[:60]}': {'; '.join(part.problems)}"
            for piece, part in zip(pieces.pieces, parts, strict=True)
            if part.problems
        ]  # fmt: skip
        if len(out.get("translations", ())) < self.options.best and self.options.best > 1 and any(part.prompt_tokens for part in parts):
            lost.append(f"'{cut.marked.text[:60]}': only {len(out['translations'])} different translations")
        problem = None if cut.keep is None else cut.keep.problem(cut.marked.text, out[self.options.output_field])
        if problem is not None:
            lost.append(f"'{cut.marked.text[:60]}': {problem}, so it was left unchanged")
            out[self.options.output_field] = cut.marked.text
        more = [f"{len(lost) - _TOLD} more"] if len(lost) > _TOLD else []
        return Answer(out, " / ".join([*lost[:_TOLD], *more]) or None, out["prompt_tokens"], out["completion_tokens"])

    def _ranked(self, cut: _Cut, parts: Sequence[Translated]) -> list[str]:
        """The best translations of a row, each another one."""
        ranks = range(self.options.best)
        texts = [[(part.text, *part.others)[min(rank, len(part.others))] for part in parts] for rank in ranks]
        return list(dict.fromkeys(cut.marked.joined(cut.pieces, each) for each in texts))

    def _translated(self, source_text: str, answers: Sequence[Completion]) -> Translated:
        answer, *others = answers
        if answer.error:
            return Translated("", "error", answer.prompt_tokens, 0, (answer.error,))
        text = answer.text.strip()
        score = sum(token.logprob for token in answer.logprobs) if answer.logprobs is not None else None
        # what the first step of a pivot has lost is seen after the second
        lost = () if self.onward is not None else self._problems(source_text, text, answer.finish_reason)
        rest = tuple(other.text.strip() for other in others)
        return Translated(text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, lost, rest, score)
