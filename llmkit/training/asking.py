"""The command that asks a trained model as it was trained, for its card and its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmkit.rows.samples import PREFERENCE

if TYPE_CHECKING:
    from llmkit.training.run import RunPlan

#: Options of `Asking`, each with a value.
_OPTIONS = {"--from", "--to", "--chat-template", "--chat-template-kwargs", "--template"}


@dataclass(frozen=True)
class Asking:
    """The command that asks a model as it was trained, and its options, but for the model and the prompt.

    fields: of the row that it is asked; empty where it is asked a text.
    """

    command: str
    options: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


def asking(plan: RunPlan) -> Asking:
    """What asks the model as it was trained."""
    languages = None if plan.encoder.directions is None else plan.encoder.directions.first
    plain = plan.encoder.template is None or plan.format == "text"
    shown = () if plain or not plan.data.chat_template_kwargs else ("--chat-template-kwargs", plan.data.chat_template_kwargs)
    if languages is not None:
        named = zip(("--from", "--to"), languages, strict=True)
        return Asking("translate", (*(word for option, name in named if name is not None for word in (option, name)), *shown))
    raw = ("--chat-template", "none") if plain and plan.prepared.tokenizer.chat_template is not None else shown
    fields = plan.data.fields
    if fields.template is not None and fields.parsed_template is not None:
        return Asking("generate", (*raw, "--template", fields.template), tuple(dict.fromkeys(fields.parsed_template.names)))
    # the layout of a row that a model without a chat template is asked
    instructed = plan.train.instructed and plan.format in ("alpaca", PREFERENCE)
    return Asking("generate", raw, ("instruction",) if plain and instructed else ())


def asking_of(record: dict[str, Any] | None) -> Asking:
    """What `asking` gave for the run of a record, which may be anybody's; a plain prompt without one."""
    asked = (record or {}).get("result", {}).get("ask")
    try:
        recorded = Asking(asked["command"], tuple(asked["options"]), tuple(asked["fields"]))
        known = recorded.command in ("generate", "translate") and {*recorded.options[::2]} <= _OPTIONS
        words = (*recorded.options, *recorded.fields)
        return recorded if known and all(isinstance(word, str) and "```" not in word for word in words) else Asking("generate")
    except (TypeError, KeyError):
        return Asking("generate")
