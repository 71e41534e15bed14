"""A model of the cache: found there, or converted now. What that takes, costs and saves is told.

Knows references, settings and the cache; not how a form is made (convert.py) or run (model.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmkit import files
from llmkit.engines.base import ModelIdentity, Notify, notify_nobody
from llmkit.engines.ctranslate2 import ENGINE, cache, families
from llmkit.engines.ctranslate2.converted_model import ConvertedModel, tokenizer_sha256
from llmkit.engines.ctranslate2.model import Files
from llmkit.engines.tokenizer_file import TokenizerFile
from llmkit.errors import EngineLimitError, EngineUnavailableError, ModelError, one_line
from llmkit.models import configuration, memory
from llmkit.models.adapters import Adapter, resolve_adapter
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.reference import go_offline, resolve
from llmkit.models.settings import ModelSettings
from llmkit.models.shelf import CacheEntry

#: A model below it (in bytes of float32) answers one text on one core as fast as on all.
_SMALL = 1 << 26


@dataclass(frozen=True)
class Notices:
    """Who is told: details, warnings, and what a user should see."""

    report: Notify
    warn: Notify
    notice: Notify


def cached(settings: ModelSettings, tell: Notices) -> ConvertedModel:
    """The model in the engine's form, converted first where it has not been.

    Raises EngineLimitError for a model that the library does not run as torch does, ModelError, UnavailableError or OutOfMemoryError.
    """
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
    return _described(entry, checkpoint, settings.reference, location.revision, adapter.reference if adapter else None)


def _refuse(settings: ModelSettings, reason: str | None) -> None:
    if reason is not None:
        raise EngineLimitError(f"{settings.reference} can't run on the engine {ENGINE.name}: {reason}", hint="`engine` torch")


def _converted(settings: ModelSettings, checkpoint: Checkpoint, adapter: Adapter | None, tell: Notices) -> CacheEntry:
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


def _made(settings: ModelSettings, checkpoint: Checkpoint, part: Path, tell: Notices) -> dict[str, object]:
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


def _described(entry: CacheEntry, checkpoint: Checkpoint, reference: str, revision: str | None, adapter: str | None) -> ConvertedModel:
    """A converted model, under the names by which it was asked for. checkpoint: what it was made of. Raises ModelError."""
    known = entry.manifest["model"]
    tokenizer = TokenizerFile(entry.folder)
    vocabulary = tuple(map(str, range(known["tokens"])))
    context, translates = known["context"], known["encoder_decoder"]
    return ConvertedModel(
        files=Files(
            entry.folder, vocabulary, translates, None if translates else context,
            small=4 * known["parameters"] < _SMALL,
        ),
        tokenizer=tokenizer,
        model_type=known["model_type"],
        context=context,
        ends=tuple(known["ends"]),
        bos=known["bos"],
        start=known["start"],
        first=known["first"],
        configured_bos=known["configured_bos"],
        languages=tuple(known["languages"]),
        task_prefixes=tuple(known["task_prefixes"]),
        about=ModelIdentity(
            engine="",
            model=reference,
            revision=revision,
            parameters=known["parameters"],
            weights_sha256=known["weights_sha256"],
            tokenizer_sha256=tokenizer_sha256(tokenizer),
            device="cpu",
            adapter=adapter,
            adapter_sha256=known["adapter_sha256"],
        ),
        checkpoint=checkpoint,
    )  # fmt: skip
