"""The prompts that a run answers at each evaluation, as its model gets them.

Knows rows and directions; not models.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmkit.errors import InputError, RowError, UsageError
from llmkit.rows import Row, open_rows
from llmkit.rows.fields import Prompt, PromptFields, SourceFields
from llmkit.rows.samples import Sample, SampleFields, row_languages
from llmkit.training.examples import row_errors

if TYPE_CHECKING:
    from llmkit.training.examples import Encoder
    from llmkit.training.settings import AnswerSettings

#: Prompts of a run: each is answered at every evaluation.
_MOST = 50


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt as the model gets it, and as people are shown it.

    first_token: that every answer begins with; start_token: that the decoder reads first; stop: texts that end an answer.
    """

    shown: str
    prompt: Prompt
    first_token: str | None = None
    start_token: str | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalPrompts:
    """The prompts of a run. sha256: of their rows."""

    asked: tuple[EvalPrompt, ...]
    max_new_tokens: int
    sha256: str


@dataclass(frozen=True)
class PromptRows:
    """The rows of a file of prompts, as they were read."""

    rows: tuple[Row, ...]
    file_name: str
    max_new_tokens: int


def read_prompts(settings: AnswerSettings, *, offline: bool) -> PromptRows | None:
    """None where there are none. Raises InputError for a file that can't be read or is empty, UsageError for too many."""
    if settings.prompts is None:
        return None
    rows: list[Row] = []
    file = open_rows(settings.prompts, text_field="prompt", offline=offline)
    for row in file:
        if len(rows) == _MOST:
            raise UsageError(f"`eval_prompts` {settings.prompts}: more than {_MOST} prompts", hint="each is answered at every evaluation")
        rows.append(row)
    if not rows:
        raise InputError("no prompts", path=file.name)
    return PromptRows(tuple(rows), file.name, settings.max_new_tokens)


def encode_prompts(read: PromptRows, encoder: Encoder, format: str, named: SampleFields) -> EvalPrompts:
    """The prompts as the model gets them. format: of the training rows; for a translator, prompts are asked as `translate` would.

    named: the fields that are trained; a row that has those of the prompt is asked as they are. Raises RowError for a row that holds no
    prompt.
    """
    translates = encoder.directions is not None and (format == "source and target" or encoder.directions.by_tokens)
    asked: list[EvalPrompt] = []
    digest = hashlib.sha256()
    for row in read.rows:
        digest.update(row.digest)
        prompt = _prompt(row, SourceFields() if translates else _fields(row, named), read.file_name)
        shown = prompt.text if prompt.text is not None else (prompt.messages or ({"content": ""},))[-1]["content"]
        direction = None
        if translates and encoder.directions is not None and prompt.text is not None:
            sample = Sample("source and target", row.line, "", prompt=prompt.text, languages=row_languages(row, read.file_name))
            with row_errors(sample, read.file_name):
                direction = encoder.directions.of(sample)
        if direction is None:
            asked.append(EvalPrompt(str(shown), prompt))
        else:
            made = direction.prompt(prompt.text or "")
            asked.append(EvalPrompt(str(shown), made, direction.target_token, direction.start_token, direction.stop))
    return EvalPrompts(tuple(asked), read.max_new_tokens, digest.hexdigest())


def _fields(row: Row, named: SampleFields) -> PromptFields:
    if named.parsed_template is not None and row.fields.keys() >= set(named.parsed_template.names):
        return PromptFields(template=named.template)
    return PromptFields(field=named.prompt if named.prompt in row.fields else None)


def _prompt(row: Row, fields: PromptFields | SourceFields, file_name: str) -> Prompt:
    """The prompt of a row. Raises RowError; the options that name fields are of the training rows."""
    try:
        return fields.prompt(row, file_name)
    except RowError as exc:
        if row.error is not None:
            raise
        hint = "a row of prompts has a field 'prompt' or 'messages', for a translator 'source'"
        raise RowError(exc.reason, path=file_name, line=row.line, hint=hint) from exc
