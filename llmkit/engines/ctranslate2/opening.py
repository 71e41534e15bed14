"""Opening a model: its form is in the package or in the cache, or is made now, and what it costs and saves is told.

Knows references, settings and the cache; not how a form is made (convert.py) or run (model.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmkit import files
from llmkit.engines.base import Notify, notify_nobody
from llmkit.engines.chat import ChatSettings
from llmkit.engines.ctranslate2 import ENGINE, cache, families
from llmkit.engines.ctranslate2.converted_model import ConvertedModel, cached, packaged
from llmkit.engines.ctranslate2.engine import CTranslate2Engine
from llmkit.errors import EngineLimitError, EngineUnavailableError, ModelError, counted, one_line
from llmkit.models import configuration, memory
from llmkit.models.adapters import Adapter, resolve_adapter
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.cores import default_threads
from llmkit.models.reference import go_offline, resolve
from llmkit.models.settings import ModelSettings
from llmkit.models.shelf import CacheEntry


@dataclass(frozen=True)
class _Notices:
    """Who is told: details, warnings, and what a user should see."""

    report: Notify
    warn: Notify
    notice: Notify


def open_engine(
    settings: ModelSettings, *, chat: ChatSettings | None = None, draft: str | None = None, report: Notify = notify_nobody,
    warn: Notify = notify_nobody, notice: Notify = notify_nobody,
) -> CTranslate2Engine:  # fmt: skip
    """Loads a model, which is converted first where it has not been.

    notice: told in a line what takes time now, and what weights in 8 bits cost and gain.
    Raises EngineLimitError for a model that the library does not run as torch does, ModelError, UnavailableError or OutOfMemoryError.
    """
    if draft is not None:
        raise EngineLimitError(f"the engine {ENGINE.name} has no speculation", hint="`engine` torch")
    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    form = _form(settings, _Notices(report, warn, notice))
    precision = "int8" if settings.quantize == "int8" else dtype
    threads = settings.threads or default_threads()
    alone = " (1 for one text)" if form.files.small and threads > 1 else ""
    report(f"{settings.reference}: CTranslate2; cpu, {precision}, {counted(threads, 'thread')}{alone}")
    engine = CTranslate2Engine(form, dtype=dtype, quantize=settings.quantize, threads=settings.threads, chat=chat)
    for remark in engine.chat.check(form.tokenizer):
        warn(remark)
    return engine


def _form(settings: ModelSettings, tell: _Notices) -> ConvertedModel:
    if settings.reference.startswith("builtin:") and settings.adapter is None:
        return packaged(settings.reference.removeprefix("builtin:"))
    if settings.offline:
        go_offline()
    location, checkpoint = resolve(settings.reference, offline=settings.offline, tell=tell.notice)
    adapter = resolve_adapter(settings.adapter, checkpoint, location, offline=settings.offline) if settings.adapter else None
    if adapter is None:
        configuration.refuse_adapter_beside(checkpoint.folder)
    generation = configuration.optional(checkpoint.folder, "generation_config.json")
    try:
        reason = families.reason(checkpoint.config, generation)
    except (TypeError, ValueError, AttributeError, LookupError) as exc:  # values of types that no model has
        raise ModelError(f"{checkpoint.folder / 'config.json'}: {one_line(exc)}", hint="copy or download the model again") from exc
    _refuse(settings, reason)
    if checkpoint.bytes > (free := memory.free_bytes()):  # before its hash is taken, which reads all of it
        _refuse(settings, f"its weights take {checkpoint.bytes / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free")
    entry = _converted(settings, checkpoint, adapter, tell)
    _refuse(settings, entry.refused)
    if settings.quantize == "int8":
        int8 = entry.manifest["model"]["int8"]
        tell.notice(
            f"{settings.reference}: int8 is {int8['speed']:.1f} times as fast as float32 here, in a quarter of the memory; "
            f"scores of random tokens differ by {int8['nats']:.3f} nats (measured when it was converted)"
        )
    return cached(entry, checkpoint, settings.reference, location.revision, adapter.reference if adapter else None)


def _refuse(settings: ModelSettings, reason: str | None) -> None:
    if reason is not None:
        raise EngineLimitError(f"{settings.reference} can't run on the engine {ENGINE.name}: {reason}", hint="`engine` torch")


def _converted(settings: ModelSettings, checkpoint: Checkpoint, adapter: Adapter | None, tell: _Notices) -> CacheEntry:
    """The model's folder of the cache, written now where there is none or where it is damaged."""
    name = cache.key(checkpoint, adapter)
    if (entry := _intact(name, tell.warn)) is not None:
        return entry
    try:
        with cache.SHELF.writing(name) as part:
            if (entry := _intact(name, notify_nobody)) is not None:  # another process was faster
                return entry
            return cache.SHELF.commit(name, part, _made(settings, checkpoint, part, tell))
    except OSError as exc:
        raise EngineUnavailableError(
            f"{settings.reference} can't be converted: {files.home()} cannot be written: {exc.strerror or exc}",
            hint="name another folder in LLMKIT_HOME, or `engine` torch",
        ) from exc


def _intact(name: str, warn: Notify) -> CacheEntry | None:
    entry = cache.SHELF.find(name)
    if entry is not None and (file := entry.damaged()) is not None:
        warn(f"{entry.folder / file} has changed since it was written; the model is converted again")
        return None
    return entry


def _made(settings: ModelSettings, checkpoint: Checkpoint, part: Path, tell: _Notices) -> dict[str, object]:
    """Converts into `part`, and returns the manifest's facts; of a model that can't be converted, with the reason."""
    from llmkit.engines.ctranslate2.convert import convert

    _check_room(settings, checkpoint)
    tell.notice(f"{settings.reference} is converted for CTranslate2, once, into {files.home()} (llmkit models clear removes it)")
    about: dict[str, object] = {"reference": settings.reference, "adapter": settings.adapter}
    try:
        return about | {"model": convert(settings, part, tell.report)}
    except EngineLimitError as exc:
        for path in part.iterdir():
            path.unlink()
        return about | {"refused": exc.message}


def _check_room(settings: ModelSettings, checkpoint: Checkpoint) -> None:
    """Raises EngineUnavailableError where there is no memory for the model twice over, or no room for it on the disk."""
    most = checkpoint.parameters * memory.bytes_of("float32")
    free, room = memory.free_bytes(), cache.SHELF.free_bytes()
    reason = None
    if 2 * most > free:
        reason = f"converting it takes {2 * most / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free"
    elif most > room:
        reason = f"the converted model takes {most / 2**30:.1f} GiB in {files.home()}, and {room / 2**30:.1f} are free"
    if reason is not None:
        raise EngineUnavailableError(f"{settings.reference} can't run on the engine {ENGINE.name}: {reason}", hint="`engine` torch")
