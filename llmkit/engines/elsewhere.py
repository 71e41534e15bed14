"""An engine whose model is in other processes: here prompts are made ready, batches planned, and answers given their names.

Knows codecs, and what a worker tells of its engine; not workers, and it loads no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from llmkit.engines.base import Check, Comparing, Completion, ModelFacts, ModelIdentity, Request, TextEngine, TokenComparison, never_stop
from llmkit.engines.chat import ChatSettings
from llmkit.engines.codec import Codec, CodecEngine
from llmkit.engines.decoding import Decoding
from llmkit.engines.utilization import WorkCounters
from llmkit.errors import EngineLimitError
from llmkit.rows.fields import Prompt


@dataclass(frozen=True)
class Description:
    """What is known of a loaded engine, without its model."""

    name: str
    codec: Codec
    identity: ModelIdentity
    facts: ModelFacts
    eos: frozenset[int]
    bos_remark: str | None
    compares: bool


def describe(engine: TextEngine) -> Description:
    """Raises EngineLimitError for an engine that shows no tokens."""
    if not isinstance(engine, CodecEngine):
        raise EngineLimitError(f"the engine {engine.name} can't be run by `workers`", hint="remove `workers`")
    opened: Any = engine
    return Description(
        opened.name, opened._codec, opened.identity, opened.facts(), opened.eos, opened.bos_remark(), isinstance(opened, Comparing)
    )


class Elsewhere(CodecEngine):
    """The engine of `description`, with the chat template and system message of `chat`. It answers nothing itself.

    crew: who answers, for the job's executor; it has a `label` for the closing line, and `measured` for the run record.
    """

    cost = None

    def __init__(self, description: Description, chat: ChatSettings, crew: Any) -> None:
        self._known, self.chat, self.counters = description, chat, WorkCounters()
        self.name, self.crew = description.name, crew
        self._codec = replace(description.codec, chat=chat)
        self.encoder_decoder, self.bos, self.eos = self._codec.encoder_decoder, self._codec.bos, description.eos

    def chat_remarks(self) -> list[str]:
        """What is to be said of the chat template's values. Raises UsageError as `ChatSettings.check`."""
        return self.chat.check(self._codec.tokenizer)

    @property
    def context(self) -> int | None:
        """As `Engine.context`, of the workers' model."""
        return self._codec.context

    @property
    def identity(self) -> ModelIdentity:
        """As `Engine.identity`: that of the workers' model, with the chat template that is used here."""
        return replace(self._known.identity, chat_template_sha256=self.chat.sha256(self._codec.tokenizer))

    def measured(self) -> dict[str, Any]:
        """What the run record says of those who answer."""
        return dict(self.crew.measured())

    def facts(self) -> ModelFacts:
        """As `Engine.facts`, of the workers' model."""
        return replace(self._known.facts, has_chat_template=self.chat.source(self._codec.tokenizer) is not None)

    def bos_remark(self) -> str | None:
        """As `Engine.bos_remark`, of the workers' model."""
        return self._known.bos_remark

    def make_request(self, prompt: Prompt, decoding: Decoding, number: int = 0) -> Request:
        """As `TextEngine.make_request`, with the tokenizer that the first worker sent."""
        return self._codec.make_request(prompt, decoding, number)

    def generate(self, requests: Sequence[Request], decoding: Decoding, *, check: Check = never_stop) -> list[list[Completion]]:
        """Never called: workers answer."""
        _nobody()

    def stream(self, request: Request, decoding: Decoding, write: Callable[[str], None]) -> Completion:
        """Never called: workers answer."""
        _nobody()

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """Never called: workers answer."""
        _nobody()


class ComparingElsewhere(Elsewhere):
    """One whose workers compare distributions, too."""

    def compare(
        self, reference: Any, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[TokenComparison]]:
        """Never called: workers answer."""
        _nobody()


def elsewhere(description: Description, chat: ChatSettings, crew: Any) -> Elsewhere:
    """The engine that stands for the one described."""
    return (ComparingElsewhere if description.compares else Elsewhere)(description, chat, crew)


def _nobody() -> NoReturn:
    raise RuntimeError("this engine's model is in other processes, and a job's executor sends batches to them")
