"""What a run is refused for by its settings, its rows and the small files of its model: before a heavy library is imported.

Knows what goes together; not tokenizers, devices or weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmkit.engines.torch.loading import context_of
from llmkit.errors import UsageError, counted
from llmkit.training.file_mixture import FileMixture
from llmkit.translation.families import TOLD_BY_TOKENS

if TYPE_CHECKING:
    from llmkit.engines.torch.loading import Located
    from llmkit.training.data import TrainingRows
    from llmkit.training.distributed import Processes
    from llmkit.training.settings import FinetuneSettings


def check(settings: FinetuneSettings, located: Located, rows: TrainingRows, processes: Processes) -> None:
    """Raises UsageError for settings that do not go with each other, with the model, the rows or the processes."""
    FileMixture(tuple(len(file.samples) for file in rows.train), settings.data.weights)
    quantized = settings.model.quantize != "none"
    if settings.lora is None and quantized:
        raise UsageError("quantized weights can't be trained", hint="use only one of `full` and `quantize`")
    if settings.fsdp or processes.fsdp:
        _check_sharding(settings, processes)
    own = None if located.adapter is None else located.adapter.config.get("target_parameters")
    if quantized and (own or (settings.lora is not None and settings.lora.parameters)):
        raise UsageError("quantized experts cannot have an adapter", hint="use only one of `target_parameters` and `quantize`")
    context, asked = context_of(located.checkpoint.config), settings.loss.max_length
    if asked is not None and context is not None and asked > context:
        raise UsageError(f"`max_length` {asked}: the model reads at most {counted(context, 'token')} at once")
    if located.checkpoint.model_type not in TOLD_BY_TOKENS:
        check_languages(settings, rows.checked.format)


def ignored(settings: FinetuneSettings, rows: TrainingRows) -> str | None:
    """What is said of a chat template that these rows do not get; None where they get it. It may be there for other runs."""
    chat = settings.data.chat
    if rows.checked.format != "text" or settings.answers.prompts is not None or chat.template in ("auto", "none"):
        return None
    return f"`chat_template` {chat.template} has no effect: it is for prompts and conversations, and these rows are text"


def check_languages(settings: FinetuneSettings, format: str) -> None:
    """Raises UsageError for languages of rows that have none. Not for a model that is told languages whatever it writes."""
    languages = {"from": settings.data.languages.source, "to": settings.data.languages.target}
    asked = any(language is not None and name not in settings.shared for name, language in languages.items())
    if asked and format != "source and target":
        raise UsageError(f"`from` and `to` apply to rows with a source and a target; these rows are {format}", hint="remove them")


def _check_sharding(settings: FinetuneSettings, processes: Processes) -> None:
    """Raises UsageError for a run whose weights can't be sharded."""
    if processes.count == 1:
        raise UsageError("`fsdp` needs several processes", hint="start the run with torchrun, or several with accelerate launch")
    hint = "start accelerate launch without FSDP" if processes.fsdp else "use only one of them"
    if settings.lora is None:
        raise UsageError("`full` and `fsdp` cannot be combined: only frozen weights are sharded", hint=hint)
    if settings.model.quantize != "none":
        raise UsageError("`quantize` and `fsdp` cannot be combined: quantized weights can't be sharded", hint=hint)
