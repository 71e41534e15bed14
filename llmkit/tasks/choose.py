"""The task of choosing: of several answers to a question, the one that the model finds likeliest.

Knows rows and log-likelihoods; what share is right, the metric counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmkit.engines.base import Check, Engine, Pair, TextEngine, never_stop
from llmkit.errors import InputError, RowError, UsageError
from llmkit.jobs.batching import Work
from llmkit.jobs.outcome import Answer
from llmkit.metrics.base import digest, row_digest, signature
from llmkit.metrics.perplexity import Windows
from llmkit.rows import Row
from llmkit.rows.fields import CHOICES, RIGHT_CHOICES, Prompt, PromptFields, first_name
from llmkit.rows.values import from_json, to_json
from llmkit.tasks.generate import placed
from llmkit.tasks.score import score_pairs

DEFAULT_TEMPLATE = "Question: {question}\nAnswer:"


@dataclass(frozen=True)
class ChoiceFields:
    """Where question, choices and the right one stand.

    labels: the same choices for every row (classification); None where each row brings its `choices`.
    """

    prompt: PromptFields
    labels: tuple[str, ...] | None = None
    answer_field: str | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and not all(label.strip() for label in self.labels):
            raise UsageError("`labels`: one of the labels is empty", hint='for example `labels` "positive,negative"')
        if self.labels is not None and (len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)):
            raise UsageError("`labels` needs at least two different labels", hint='for example `labels` "positive,negative"')

    def choices(self, row: Row, file_name: str) -> tuple[tuple[str, ...], int]:
        """The choices of a row and the place of the right one. Raises RowError."""
        if row.error is not None:
            raise row.error
        choices, names = (self.labels, None) if self.labels is not None else _choices(row, file_name)
        known = [self.answer_field] if self.answer_field else [name for name in RIGHT_CHOICES if name in row.fields] or ["answer"]
        right = known[0]
        if right not in row.fields:
            there = ", ".join(list(row.fields)[:12]) or "none"
            raise RowError(f"no field '{right}' (fields: {there})", path=file_name, line=row.line, hint="name it with `answer_field`")
        if self.labels is not None and _label_or_place(row.fields[right], choices):
            what = f"field '{right}' is the number {row.fields[right]}, which could be that label or a place, counted from 0"
            raise RowError(what, path=file_name, line=row.line, hint='write labels as texts: "1"')
        places = {name: _place(row.fields[name], choices, names) for name in known}
        place = places[right]
        if place is None:
            hint = "a choice, its letter, or its number from 0"
            raise RowError(f"field '{right}' is not one of the choices", path=file_name, line=row.line, hint=hint)
        if other := next((name for name, other_place in places.items() if other_place not in (None, place)), None):
            hint = "name the right one with `answer_field`"
            raise RowError(f"fields '{right}' and '{other}' name different choices", path=file_name, line=row.line, hint=hint)
        return choices, place


def _choices(row: Row, file_name: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The texts of the choices, and their names where they have some: {"text": [...], "label": [...]}, or a list of such pairs.

    In a table, a cell with this as JSON.
    """
    field = first_name(row.fields, CHOICES) or "choices"
    value: Any = row.fields.get(field)
    names: Any = None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = from_json(value)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        value = {name: [each.get(name) for each in value] for name in ("text", "label")}
    if isinstance(value, dict):
        value, names = value.get("text"), value.get("label")
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(c, str) for c in value):
        raise RowError(f"field '{field}' is not a list of at least two texts", path=file_name, line=row.line, hint="or give `labels`")
    if blank := next((i for i, c in enumerate(value, 1) if not c.strip()), None):
        raise RowError(f"choice {blank} of field '{field}' is blank", path=file_name, line=row.line, hint="a choice is a text")
    if isinstance(names, list) and len(names) == len(value) and None not in names:
        return tuple(value), tuple(map(str, names))
    return tuple(value), None


def _place(right: Any, choices: Sequence[str], names: Sequence[str] | None) -> int | None:
    """The place of the right choice: a number is a name where the choices have such names, and else counts from 0."""
    if isinstance(right, bool):
        return None
    if names is not None and str(right) in names and not isinstance(right, str):
        return list(names).index(str(right))
    if isinstance(right, int):
        return right if 0 <= right < len(choices) else None
    text = str(right)
    for known in (choices, names or [chr(ord("A") + i) for i in range(len(choices))], [str(i) for i in range(len(choices))]):
        if text in known:
            return list(known).index(text)
    return None


def _label_or_place(right: Any, labels: Sequence[str]) -> bool:
    """Whether a number is one label and counts to another, as do stars from 1 to 5."""
    return isinstance(right, int) and not isinstance(right, bool) and str(right) in labels and labels.index(str(right)) != right


def begins_with_bos(engine: Engine) -> str:
    """Who begins a prompt: the chat template ('template'), the tokenizer with its BOS ('yes'), or nobody ('no')."""
    if "chat_template_sha256" in engine.identity.as_dict():
        return "template"
    pair = engine.encode_pair(Prompt(text="a"), " b")
    first = pair.encoder_tokens or pair.tokens
    return "yes" if engine.bos is not None and first[:1] == [engine.bos] else "no"


def chat_signature(engine: Engine) -> str:
    """What of a chat template decides a log-likelihood: its hash, with that of the values it is shown; 'none' without a template."""
    template = str(engine.identity.as_dict().get("chat_template_sha256", "none"))[:8]
    return template if not engine.chat.values else f"{template}+{digest(to_json(engine.chat.values))[:8]}"


class Choosing:
    """Gives each row `choice` (the likeliest), `choice_normalized` (the likeliest per character), whether each is right, all
    log-likelihoods (nats), and `digest`, of the prompt, the choices and the right one.
    """

    width = 1

    def __init__(self, engine: Engine, windows: Windows, fields: ChoiceFields, file_name: str, *, batch_tokens: int) -> None:
        self.engine, self.windows, self.fields, self.file_name, self.batch_tokens = engine, windows, fields, file_name, batch_tokens

    @property
    def delimiter(self) -> str:
        """What stands between prompt and choice: a space, as before a word; nothing after a chat template's own header."""
        return "" if "chat_template_sha256" in self.engine.identity.as_dict() else " "

    def protocol(self, template: str) -> str:
        """The part of the signature that says how choices are fed: all that changes a log-likelihood besides model and row."""
        return signature(
            template=digest(template)[:8], shots=0, bos=begins_with_bos(self.engine), chat=chat_signature(self.engine),
            delimiter="space" if self.delimiter else "none", context=self.windows.context,
        )  # fmt: skip

    def prepare(self, row: Row) -> Work:
        """As `Task.prepare`, each choice as a pair of ids. The length is of all choices together, at most `batch_tokens`."""
        try:
            choices, right = self.fields.choices(row, self.file_name)
            prompt = self.fields.prompt.prompt(row, self.file_name)
            pairs = [self.engine.encode_pair(prompt, self.delimiter + choice.strip(), split="white space") for choice in choices]
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        return Work(
            row,
            (choices, right, pairs, row_digest([*choices, str(right)], asdict(prompt))),
            min(sum(len(p.tokens) for p in pairs), self.batch_tokens),
        )

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`; the choices of all rows are scored together, in batches of like length."""
        pairs: list[Pair] = [pair for work in batch for pair in work.payload[2]]
        scored = iter(score_pairs(self.engine, self.windows, pairs, batch_tokens=self.batch_tokens, check=check))
        out = []
        for work in batch:
            choices, right, own, own_digest = work.payload
            values = [sum(value for value, _ in next(scored)) for _ in own]
            tokens = sum(len(pair.tokens) - pair.begin for pair in own)
            out.append(_chosen(choices, right, values, own_digest, tokens))
        return out


class TextChoosing:
    """As `Choosing`, by an engine that takes text alone. Prompts are plain text, and how one begins is the engine's affair."""

    width = 1

    def __init__(self, engine: TextEngine, fields: ChoiceFields, file_name: str) -> None:
        self.engine, self.fields, self.file_name = engine, fields, file_name

    def protocol(self, template: str) -> str:
        """As `Choosing.protocol`."""
        return signature(template=digest(template)[:8], shots=0, bos="server", chat="none", delimiter="space", context="server")

    def prepare(self, row: Row) -> Work:
        """As `Choosing.prepare`, with the lengths that the engine tells or estimates."""
        try:
            choices, right = self.fields.choices(row, self.file_name)
            prompt = self.fields.prompt.prompt(row, self.file_name)
        except InputError as exc:
            return Work(row, error=placed(exc, row, self.file_name))
        text = prompt.text or ""
        kept = text.rstrip()
        items = [(Prompt(text=kept), f"{text[len(kept) :]} {choice.strip()}") for choice in choices]
        length = sum(self.engine.length(kept + answer) for _, answer in items)
        return Work(row, (choices, right, items, row_digest([*choices, str(right)], asdict(prompt))), length)

    def answer(self, batch: Sequence[Work], check: Check = never_stop) -> list[Answer]:
        """As `Task.answer`, a call of the engine a row; a row that it can't score gets an error."""
        return [self._answer(work, check) for work in batch]

    def _answer(self, work: Work, check: Check) -> Answer:
        choices, right, items, own_digest = work.payload
        try:
            scores = self.engine.score_answers(items, check=check)
        except InputError as exc:
            return Answer(error=placed(exc, work.row, self.file_name).message)
        values = [sum(token.logprob for token in tokens) for tokens in scores]
        return _chosen(choices, right, values, own_digest, sum(map(len, scores)))


def _chosen(choices: Sequence[str], right: int, values: list[float], own_digest: str, tokens: int) -> Answer:
    """The answer to a row whose choices have these log-likelihoods. tokens: that were scored."""
    normalized = [value / len(choice.strip()) for value, choice in zip(values, choices, strict=True)]
    first, second = values.index(max(values)), normalized.index(max(normalized))
    fields = {
        "choice": choices[first],
        "choice_normalized": choices[second],
        "right": choices[right],
        "correct": first == right,
        "correct_normalized": second == right,
        "log_likelihoods": values,
        "digest": own_digest,
    }
    return Answer(fields, scored_tokens=tokens)
