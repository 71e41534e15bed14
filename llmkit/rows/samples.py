"""What a row teaches: a text, a completion after a prompt, or the assistant's turns of a conversation.

The format is judged on all rows, never on the first alone. Knows field names; not tokens or chat templates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llmkit.errors import InputError, RowError, UsageError
from llmkit.rows.fields import Message, messages_of, missing_field, pair, text_of
from llmkit.rows.reading import Row
from llmkit.rows.spool import Spool

_PAIRS = (("source", "target"), ("source", "tgt"), ("src", "tgt"), ("src", "target"), ("src", "ref"), ("src", "reference"))
#: Bad rows that a message lists.
_LISTED = 10


@dataclass(frozen=True)
class Sample:
    """One row's lesson. Either `text` alone, `completion` after `prompt`, or `messages` of which those from `first` on teach.

    digest: of the row's fields, the same for the same row anywhere.
    """

    format: str
    line: int | None
    digest: str
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] | None = None
    first: int = 0


@dataclass(frozen=True)
class SampleFields:
    """Which fields teach: those named, else the names in use."""

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) != (self.completion is None):
            raise UsageError("--prompt-field and --completion-field go together", hint="name both, or --text-field")
        if self.text is not None and self.prompt is not None:
            raise UsageError("--text-field and --prompt-field both say what is learnt", hint="name one of them")

    def sample(self, row: Row, source: str) -> Sample:
        """What `row` teaches. Raises RowError with the line and the fields that are there."""
        if row.error is not None:
            raise row.error
        format = self._format(row)
        if format is None:
            raise missing_field("text', 'messages', or 'prompt' and 'completion", row, source, "--text-field")
        found = Sample(format, row.line, _digest(row.fields), **self._parts(format, row, source))
        if found.completion is not None and not found.completion.strip():
            raise RowError("the completion is empty, so there is nothing to learn", path=source, line=row.line)
        if found.text is not None and not found.text.strip():
            raise RowError("the text is empty, so there is nothing to learn", path=source, line=row.line)
        return found

    def _format(self, row: Row) -> str | None:
        fields = row.fields
        if self.text is not None:
            return "text"
        if self.prompt is not None:
            return "prompt and completion"
        if "messages" in fields:
            return "messages"
        if "conversations" in fields:
            return "sharegpt"
        if "prompt" in fields and "completion" in fields:
            return "prompt and completion"
        if "instruction" in fields and "output" in fields:
            return "alpaca"
        if isinstance(fields.get("translation"), dict) or any(a in fields and b in fields for a, b in _PAIRS):
            return "source and target"
        return "text" if "text" in fields else None

    def _parts(self, format: str, row: Row, source: str) -> dict[str, Any]:
        if format == "text":
            return {"text": text_of(row, self.text or "text", source, "--text-field")}
        if format in ("messages", "sharegpt"):
            name = "messages" if format == "messages" else "conversations"
            return {"messages": _conversation(row, name, source)}
        if format == "prompt and completion":
            return self._completion(row, source)
        if format == "alpaca":
            return _alpaca(row, source)
        before, after = pair(row, source)
        return {"prompt": before, "completion": after}

    def _completion(self, row: Row, source: str) -> dict[str, Any]:
        prompt, completion = self.prompt or "prompt", self.completion or "completion"
        if isinstance(row.fields.get(prompt), list) and isinstance(row.fields.get(completion), list):
            before = messages_of(row.fields[prompt], prompt, row, source)
            whole = (*before, *messages_of(row.fields[completion], completion, row, source))
            _check_roles(whole, len(before), row, source)
            return {"messages": whole, "first": len(before)}
        return {
            "prompt": text_of(row, prompt, source, "--prompt-field"),
            "completion": text_of(row, completion, source, "--completion-field"),
        }


class Samples(Spool[Sample]):
    """Samples in their order, on disk."""

    def __init__(self) -> None:
        super().__init__(_packed, _unpacked)
        self._digest = hashlib.sha256()

    def append(self, item: Sample) -> None:
        super().append(item)
        self._digest.update(item.digest.encode())

    @property
    def sha256(self) -> str:
        """Of the rows in their order."""
        return self._digest.hexdigest()


def _packed(sample: Sample) -> bytes:
    return json.dumps(vars(sample)).encode()


def _unpacked(data: bytes) -> Sample:
    fields = json.loads(data)
    if fields["messages"] is not None:
        fields["messages"] = tuple(fields["messages"])
    return Sample(**fields)


@dataclass
class CheckedRows:
    """All rows of a file, judged. held: samples that are held out of training.

    formats: rows by format; bad: the rows that teach nothing and why.
    """

    samples: Samples = field(default_factory=Samples)
    held: Samples = field(default_factory=Samples)
    formats: dict[str, int] = field(default_factory=dict)
    first_lines: dict[str, int | None] = field(default_factory=dict)
    bad: list[RowError] = field(default_factory=list)
    rows: int = 0

    @property
    def format(self) -> str:
        return next(iter(self.formats), "")


def check_rows(rows: Iterable[Row], fields: SampleFields, source: str, *, max_errors: int = 0, share: float = 0.0) -> CheckedRows:
    """Every row's sample; about `share` of them are held out by their content's hash, so equal rows never stand on both sides.

    Raises InputError for a file without a usable row, of mixed formats, or with more bad rows than allowed."""
    out = CheckedRows()
    bound = int(share * (1 << 32))
    for row in rows:
        out.rows += 1
        try:
            sample = fields.sample(row, source)
        except RowError as exc:
            out.bad.append(exc)
            continue
        out.formats[sample.format] = out.formats.get(sample.format, 0) + 1
        out.first_lines.setdefault(sample.format, sample.line or out.rows)
        (out.held if int(sample.digest[:8], 16) < bound else out.samples).append(sample)
    if len(out.bad) > max_errors:
        raise InputError(_listed(out), hint=f"mend them, or leave up to N out with --max-errors N; {out.bad[0].hint or ''}".rstrip("; "))
    if not (out.samples or out.held):
        raise InputError("no rows to learn from", path=source)
    if len(out.formats) > 1:
        parts = ", ".join(f"{count:,} of {name} (first at line {out.first_lines[name]})" for name, count in out.formats.items())
        raise InputError(f"rows of several formats: {parts}", path=source, hint="one format a file; or name a field")
    return out


def _listed(found: CheckedRows) -> str:
    shown = "; ".join(exc.message for exc in found.bad[:_LISTED])
    more = f"; and {len(found.bad) - _LISTED:,} more" if len(found.bad) > _LISTED else ""
    return f"{len(found.bad):,} of {found.rows:,} rows can't be used: {shown}{more}"


def _conversation(row: Row, name: str, source: str) -> tuple[Message, ...]:
    value = row.fields[name]
    if not isinstance(value, list):
        raise RowError(f"field '{name}' is not a list of messages", path=source, line=row.line)
    messages = messages_of(value, name, row, source)
    _check_roles(messages, 0, row, source)
    return messages


def _check_roles(messages: tuple[Message, ...], first: int, row: Row, source: str) -> None:
    """An assistant's turn to learn, after something; a system message only at the beginning; nobody speaks twice in a row."""
    for number, message in enumerate(messages, 1):
        if message["role"] == "system" and number > 1:
            raise RowError(f"message {number} is of the system, which may only come first", path=source, line=row.line)
        if message["role"] == "assistant" and number > 1 and messages[number - 2]["role"] == "assistant":
            raise RowError(f"messages {number - 1} and {number} are both of the assistant", path=source, line=row.line)
    if not any(m["role"] == "assistant" and m["content"].strip() and i > 0 for i, m in enumerate(messages) if i >= first):
        raise RowError("no turn of the assistant after another, so there is nothing to learn", path=source, line=row.line)


def _alpaca(row: Row, source: str) -> dict[str, Any]:
    before = text_of(row, "instruction", source)
    if row.fields.get("input"):
        before += "\n\n" + text_of(row, "input", source)
    after = text_of(row, "output", source, "--completion-field")
    system = row.fields.get("system")
    if isinstance(system, str) and system.strip():
        turns = (("system", system), ("user", before), ("assistant", after))
        return {"messages": tuple({"role": role, "content": content} for role, content in turns)}
    return {"prompt": before, "completion": after}


def _digest(fields: dict[str, Any]) -> str:
    content = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("ascii", "backslashreplace")).hexdigest()[:16]
