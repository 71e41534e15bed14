"""What a row trains: a text, a completion after a prompt, or the assistant's turns of a conversation.

The format is judged on all rows, never on the first alone. Knows field names; not tokens or chat templates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmkit.errors import InputError, RowError, UsageError, counted
from llmkit.rows.base import Row
from llmkit.rows.fields import TARGETS, Prompt, first_name, history, instruction, missing_field, pair, text_of
from llmkit.rows.messages import CONVERSATIONS, TEMPLATE_VALUES, Message, row_error
from llmkit.rows.spool import Spool
from llmkit.rows.template import Templated
from llmkit.rows.turns import ANSWERS, ASKED, EMPTY_COMPLETION, pair_parts, preference, prompt_of, talk_parts, training_conversation

_PAIRS = (("source", "target"), ("source", "tgt"), ("src", "tgt"), ("src", "target"), ("src", "ref"), ("src", "reference"))
#: Columns that a conversation uses beside its own.
_BESIDE = ("system", "tools", TEMPLATE_VALUES)
#: Names of a prompt and what completes it.
_COMPLETIONS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
#: Columns of a row that name its languages.
_LANGUAGES = (("source_lang", "target_lang"), ("src_lang", "tgt_lang"), ("source_language", "target_language"))
#: Names that are languages only when both are there: one alone may be the sender of a letter.
_FROM_TO = ("from", "to")
#: Columns that change what is asked, answered or trained elsewhere, and that a format may not use.
_TELLING = frozenset(
    (
        "weight", "loss_mask", "label", "labels", "train", "chosen", "rejected", "history", "system", "system_prompt", "tools", "functions",
        "images", "videos", "audios", "image", "video", "audio", "documents", "context", "input", "instruction", "choices", "options",
        "kto_tag", "rejected_response", "loss_scale", "loss_weight", "sample_weight", "reasoning", "reasoning_content", "thinking",
        "suffix", TEMPLATE_VALUES,
    )
)  # fmt: skip
#: The format of rows with a better and a worse answer.
PREFERENCE = "preference"
#: Bad rows that a message lists.
_LISTED = 10


@dataclass(frozen=True)
class Sample:
    """What one row trains. Either `text` alone, `completion` after `prompt`, or the assistant's `messages` from `first` on.

    digest: of the row's fields, the same for the same row anywhere. untrained: messages that are read and not trained.
    plain: what a model without a chat template is asked, where that is not `prompt`.
    tools and template_values: what else the chat template is shown. languages: of source and target, None for one that the row does not
    name.
    rejected: of a preference, the fields in which the sample of the worse answer differs.
    """

    format: str
    line: int | None
    digest: str
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    plain: str | None = None
    messages: tuple[Message, ...] | None = None
    first: int = 0
    untrained: tuple[int, ...] = ()
    tools: list[Any] | None = None
    template_values: dict[str, Any] | None = None
    languages: tuple[str | None, str | None] | None = None
    rejected: dict[str, Any] | None = None


@dataclass(frozen=True)
class SampleFields(Templated):
    """Which fields are trained: those named, else the names in use.

    preference: 'chosen' over 'rejected', whatever else a row has; only the prompt's field can then be named.
    """

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    template: str | None = None
    preference: bool = False

    def __post_init__(self) -> None:
        if self.preference and (self.text is not None or self.completion is not None):
            other = "`text_field`" if self.completion is None else "`completion_field`"
            raise UsageError(f"{other} and `dpo` cannot be combined: the answers are in 'chosen' and 'rejected'", hint="remove it")
        if self.template is not None:
            if self.text is not None or self.prompt is not None:
                other = "`text_field`" if self.prompt is None else "`prompt_field`"
                raise UsageError(f"`template` and {other} cannot be combined: both give the prompt", hint="use only one of them")
            _ = self.parsed_template  # a template that names no field is refused now
            return
        if (self.prompt is None) != (self.completion is None) and not self.preference:
            raise UsageError("`prompt_field` and `completion_field` must be used together", hint="name both, or `text_field`")
        if self.text is not None and self.prompt is not None:
            raise UsageError("`text_field` and `prompt_field` cannot be combined", hint="use only one of them")

    def sample(self, row: Row, file_name: str) -> Sample:
        """What `row` trains. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        format = self._format(row)
        if format is None:
            raise RowError(
                missing_field("text', 'messages', or 'prompt' and 'completion", row, file_name, None).reason,
                path=file_name, line=row.line, hint="name the fields: `prompt_field` and `completion_field`, or `text_field`",
            )  # fmt: skip
        sample = Sample(format, row.line, _digest(row.fields), **self._parts(format, row, file_name))
        if sample.completion is not None and not sample.completion.strip():
            raise row_error(EMPTY_COMPLETION, row, file_name)
        if sample.text is not None and not sample.text.strip():
            raise row_error("the text is empty; an example needs a text", row, file_name)
        return sample

    def used(self, format: str) -> frozenset[str]:
        """The columns that rows of a format use."""
        beside = (*ANSWERS, *_BESIDE) if format == PREFERENCE else _BESIDE
        if self.parsed_template is not None:
            return frozenset((*self.parsed_template.names, *([self.completion] if self.completion else TARGETS), *beside))
        if self.text is not None or self.prompt is not None:
            return frozenset(n for n in (self.text, self.prompt, self.completion, *beside) if n is not None)
        return _FORMATS[format].columns

    def _format(self, row: Row) -> str | None:
        if self.preference:
            return PREFERENCE
        if self.text is not None:
            return "text"
        if self.prompt is not None or self.template is not None:
            return "prompt and completion"
        return next((name for name, format in _FORMATS.items() if format.known(row.fields)), None)

    def _parts(self, format: str, row: Row, file_name: str) -> dict[str, Any]:
        return _FORMATS[format].parts(self, row, file_name)

    def compared(self, row: Row, file_name: str) -> dict[str, Any]:
        """The parts of a preference, whose prompt may come from a field or a template that is named. Raises RowError."""
        if self.parsed_template is not None:
            return preference(row, file_name, Prompt(text=self.parsed_template.fill(row, file_name)))
        return preference(row, file_name, None if self.prompt is None else prompt_of(self.prompt, row, file_name))

    def completed(self, row: Row, file_name: str) -> dict[str, Any]:
        """The parts of a prompt with its completion, by the fields or the template that are named. Raises RowError."""
        if self.parsed_template is not None:
            name = self.completion or first_name(row.fields.keys() - set(self.parsed_template.names), TARGETS) or "completion"
            question = self.parsed_template.fill(row, file_name)
            return pair_parts(question, text_of(row, name, file_name, "`completion_field`"), (), row, file_name)
        names = ((self.prompt or "prompt", self.completion or "completion"),) if self.prompt else _COMPLETIONS
        prompt, completion = next(((a, b) for a, b in names if a in row.fields and b in row.fields), names[0])
        before, after = row.fields.get(prompt), row.fields.get(completion)
        if isinstance(before, list) or isinstance(after, list):
            asked: Any = [{"role": "user", "content": before}] if isinstance(before, str) else before
            answered: Any = [{"role": "assistant", "content": after}] if isinstance(after, str) else after
            first = len(training_conversation(asked, prompt, row, file_name).messages)
            training_conversation(answered, completion, row, file_name)
            return talk_parts([*asked, *answered], prompt, first, row, file_name)
        question = text_of(row, prompt, file_name, "`prompt_field`")
        answer = text_of(row, completion, file_name, "`completion_field`")
        return pair_parts(question, answer, (), row, file_name)


class Samples(Spool[Sample]):
    """Samples in their order, on disk."""

    def __init__(self) -> None:
        super().__init__(_to_bytes, _from_bytes)
        self._digest = hashlib.sha256()

    def append(self, item: Sample) -> None:
        """As `Spool.append`; the row's digest goes into `sha256`."""
        super().append(item)
        self._digest.update(item.digest.encode())

    @property
    def sha256(self) -> str:
        """Of the rows in their order."""
        return self._digest.hexdigest()


def _to_bytes(sample: Sample) -> bytes:
    return json.dumps(vars(sample)).encode()


def _from_bytes(data: bytes) -> Sample:
    fields = json.loads(data)
    for part in (fields, fields["rejected"] or {}):
        for name in ("messages", "untrained", "languages"):
            if part.get(name) is not None:
                part[name] = tuple(part[name])
    return Sample(**fields)


@dataclass
class CheckedRows:
    """All rows of a file, checked. held_out: samples that are held out of training.

    formats: rows by format; bad: the rows that can't be used and why; unused: rows by column that no format uses.
    """

    samples: Samples = field(default_factory=Samples)
    held_out: Samples = field(default_factory=Samples)
    formats: dict[str, int] = field(default_factory=dict)
    first_lines: dict[str, int | None] = field(default_factory=dict)
    bad: list[RowError] = field(default_factory=list)
    unused: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    @property
    def format(self) -> str:
        """The format that all rows have; of several files that differ, all of theirs."""
        return " and ".join(self.formats)

    @property
    def telling(self) -> list[str]:
        """Columns that are not used here and change what other programs train."""
        return [name for name in self.unused if name in _TELLING]

    def count(self, other: CheckedRows) -> None:
        """Adds what is counted of another file's rows; its samples stay its own."""
        self.rows += other.rows
        self.bad += other.bad
        for own, more in ((self.formats, other.formats), (self.unused, other.unused)):
            for name, number in more.items():
                own[name] = own.get(name, 0) + number


def check_rows(rows: Iterable[Row], fields: SampleFields, file_name: str, *, max_errors: int = 0, share: float = 0.0) -> CheckedRows:
    """Every row's sample; about `share` of them are held out by their content's hash, so equal rows never stand on both sides.

    Raises InputError for a file without a usable row, of mixed formats, or with more bad rows than allowed.
    """
    out = CheckedRows()
    bound = int(share * (1 << 32))
    for row in rows:
        out.rows += 1
        try:
            sample = fields.sample(row, file_name)
        except RowError as exc:
            out.bad.append(exc)
            continue
        out.formats[sample.format] = out.formats.get(sample.format, 0) + 1
        for name in row.fields.keys() - fields.used(sample.format):
            if row.fields[name] not in (None, "", [], {}):
                out.unused[name] = out.unused.get(name, 0) + 1
        out.first_lines.setdefault(sample.format, sample.line or out.rows)
        (out.held_out if int(sample.digest[:8], 16) < bound else out.samples).append(sample)
    if len(out.bad) > max_errors:
        raise InputError(
            f"{len(out.bad):,} of {counted(out.rows, 'row')} can't be used: {listed(out.bad)}",
            hint=f"fix them, or skip up to N of them with `max_errors` N; {out.bad[0].hint or ''}".rstrip("; "),
        )
    if not (out.samples or out.held_out):
        raise InputError("no usable rows", path=file_name)
    if len(out.formats) > 1:
        parts = ", ".join(f"{count:,} of {name} (first at line {out.first_lines[name]})" for name, count in out.formats.items())
        raise InputError(f"rows of several formats: {parts}", path=file_name, hint="use one format per file, or name a field")
    return out


def listed(errors: Sequence[RowError]) -> str:
    """The errors of rows in a line, the first ones of many."""
    more = f"; and {len(errors) - _LISTED:,} more" if len(errors) > _LISTED else ""
    return "; ".join(exc.message for exc in errors[:_LISTED]) + more


def _alpaca(row: Row, file_name: str) -> dict[str, Any]:
    asked, turns = instruction(row, file_name), history(row, file_name)
    question = asked.text if asked.messages is None else asked.messages[-1]["content"]
    parts = pair_parts(question or "", text_of(row, "output", file_name, "`completion_field`"), turns, row, file_name)
    return parts | ({"plain": asked.plain} if "prompt" in parts else {})


def row_languages(row: Row, file_name: str) -> tuple[str | None, str | None] | None:
    """The languages that a row names: the keys of 'translation', or columns; None for a row that names none. Raises RowError."""
    both = row.fields.get("translation")
    if isinstance(both, dict) and len(both) == 2:
        first, second = both
        return str(first), str(second)
    names = [*_LANGUAGES, *([_FROM_TO] if all(row.fields.get(name) for name in _FROM_TO) else [])]
    source, target = (next((name for pair in names if row.fields.get(name := pair[side])), None) for side in (0, 1))
    if source is None and target is None:
        return None
    return (
        None if source is None else text_of(row, source, file_name, "`from`"),
        None if target is None else text_of(row, target, file_name, "`to`"),
    )


def _digest(fields: dict[str, Any]) -> str:
    content = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("ascii", "backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True)
class _Format:
    """A format of training rows. known: whether a row's fields are of it; columns: those it uses; parts: fields of the row's `Sample`."""

    known: Callable[[Mapping[str, Any]], bool]
    columns: frozenset[str]
    parts: Callable[[SampleFields, Row, str], dict[str, Any]]


def _either(fields: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> bool:
    return any(a in fields and b in fields for a, b in pairs)


def _columns(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(name for both in pairs for name in both)


def _answers_a_talk(fields: Mapping[str, Any]) -> bool:
    """Whether a conversation is the prompt of two answers, each a message (LLaMA-Factory's preferences)."""
    return all(isinstance(fields.get(name), dict) for name in ANSWERS)


def _translation(_: SampleFields, row: Row, file_name: str) -> dict[str, Any]:
    before, after = pair(row, file_name)
    return {"prompt": before, "completion": after, "languages": row_languages(row, file_name)}


#: By name; the first that knows a row has it.
_FORMATS: dict[str, _Format] = {
    "messages": _Format(
        lambda fields: "messages" in fields and not _answers_a_talk(fields),
        frozenset(("messages", *_BESIDE)),
        lambda _, row, name: talk_parts(row.fields["messages"], "messages", 0, row, name),
    ),
    "sharegpt": _Format(
        lambda fields: "conversations" in fields and not _answers_a_talk(fields),
        frozenset(("conversations", *_BESIDE)),
        lambda _, row, name: talk_parts(row.fields["conversations"], "conversations", 0, row, name),
    ),
    "prompt and completion": _Format(
        lambda fields: _either(fields, _COMPLETIONS),
        frozenset((*_columns(_COMPLETIONS), *_BESIDE)),
        lambda named, row, name: named.completed(row, name),
    ),
    "alpaca": _Format(
        lambda fields: "instruction" in fields and "output" in fields,
        frozenset(("instruction", "input", "output", "history", *_BESIDE)),
        lambda _, row, name: _alpaca(row, name),
    ),
    "source and target": _Format(
        lambda fields: isinstance(fields.get("translation"), dict) or _either(fields, _PAIRS),
        frozenset(("translation", *_columns((*_PAIRS, *_LANGUAGES, _FROM_TO)))),
        _translation,
    ),
    PREFERENCE: _Format(
        lambda fields: all(name in fields for name in ANSWERS),
        frozenset((*ANSWERS, *ASKED, *CONVERSATIONS, "input", "history", *_BESIDE)),
        lambda named, row, name: named.compared(row, name),
    ),
    "text": _Format(
        lambda fields: "text" in fields,
        frozenset(("text",)),
        lambda named, row, name: {"text": text_of(row, named.text or "text", name, "`text_field`")},
    ),
}
