"""What runs in a worker process: models, loaded once by their references, and copies of tasks that answer batches with them.

Tasks travel as pickles in which an engine stands as its number, so no model is ever pickled. Knows engines and tasks; not how
batches get here.
"""

from __future__ import annotations

import io
import os
import pickle
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MethodType
from typing import TYPE_CHECKING, Any

from llmkit.engines.elsewhere import Description, describe
from llmkit.errors import LlmkitError
from llmkit.jobs.batching import Work
from llmkit.jobs.executor import Task, Traveling
from llmkit.jobs.outcome import Answer
from llmkit.models.cores import share_cores
from llmkit.version import __version__

if TYPE_CHECKING:
    from llmkit.engines.base import TextEngine
    from llmkit.engines.registry import Model


@dataclass(frozen=True)
class Opened:
    """What a worker tells when its models are loaded. node: its machine's name; node_id: Ray's. identities: of its
    engines. lines: what they told, each with how."""

    node: str
    node_id: str
    pid: int
    llmkit: str
    python: str
    identities: tuple[dict[str, Any], ...]
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Failed:
    """Why a worker can't load a model. Returned: an error that is raised would reach the other side as a text."""

    node: str
    error: LlmkitError


@dataclass(frozen=True)
class Back:
    """A batch that is back: its answers, or the error that ended it. counts: what the task counted (see `Traveling`)."""

    answers: list[Answer] | None
    counts: Any = None
    error: LlmkitError | None = None


class Worker:
    """One worker. folder: where the run was started, so that relative paths mean the same, where there is such a folder."""

    def __init__(self, folder: str, *, hide_gpus: bool = False) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        if hide_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        share_cores()
        self._engines: list[TextEngine] = []
        self._task: Any = None

    def open(self, models: Sequence[Model]) -> Opened | Failed:
        """Loads the models."""
        lines: list[tuple[str, str]] = []
        kinds = {"report": "detail", "warn": "warn", "notice": "notice"}
        tell = {name: (lambda line, kind=kind: lines.append((kind, line))) for name, kind in kinds.items()}
        try:
            self._engines = [_opened(model, tell) for model in models]
            identities = tuple(engine.identity.as_dict() for engine in self._engines)
        except LlmkitError as exc:
            return Failed(platform.node(), exc)
        return Opened(platform.node(), _node_id(), os.getpid(), __version__, platform.python_version(), identities, tuple(lines))

    def describe(self) -> list[Description] | LlmkitError:
        """The loaded engines, for the one who plans."""
        try:
            return [describe(engine) for engine in self._engines]
        except LlmkitError as exc:
            return exc

    def take(self, task: bytes) -> None:
        """The task of the batches that follow."""
        try:
            self._task = task_from(task, self._engines)
        except Exception as exc:  # told by the first batch
            self._task = exc

    def answer(self, batch: Sequence[Work], lent: Any) -> Back:
        """lent: see `Traveling`."""
        if isinstance(self._task, Exception):
            raise self._task
        task: Task = self._task
        if isinstance(task, Traveling):
            task.borrow(lent)
        try:
            answers = task.answer(batch)
        except LlmkitError as exc:
            return Back(None, error=exc)
        return Back(answers, task.counts() if isinstance(task, Traveling) else None)


def task_bytes(task: Task, engines: Sequence[object]) -> bytes:
    """A task for `task_from`. engines: those it may hold, each of which is written as its number."""
    from ray.cloudpickle import CloudPickler

    class Pickler(CloudPickler):  # type: ignore[misc]
        def persistent_id(self, value: object) -> int | None:
            return next((number for number, engine in enumerate(engines) if engine is value), None)

        def reducer_override(self, value: Any) -> Any:
            # an engine's method by its name: there it is another engine's
            if isinstance(value, MethodType) and self.persistent_id(value.__self__) is not None:
                return getattr, (value.__self__, value.__name__)
            return super().reducer_override(value)

    out = io.BytesIO()
    Pickler(out).dump(task)
    return out.getvalue()


def task_from(data: bytes, engines: Sequence[object]) -> Any:
    """The task with `engines` in their places. data: of this run's own process, by the scheduler's own channel."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: Any) -> object:
            return engines[number]

    return Unpickler(io.BytesIO(data)).load()


def light(batch: Sequence[Work]) -> list[Work]:
    """A batch as it travels: without the rows' fields, which no answer is made of (see `Task.answer`)."""
    return [replace(work, row=replace(work.row, fields={})) for work in batch]


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _opened(model: Model, tell: dict[str, Any]) -> TextEngine:
    """The engine of a model."""
    from llmkit.engines.registry import open_engine

    return open_engine(model.settings, engine=model.engine, decoding=model.decoding, chat=model.chat, draft=model.draft, **tell)
