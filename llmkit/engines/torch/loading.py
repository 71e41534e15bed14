"""A checked folder becomes a model and a tokenizer in memory.

The one place where weights are read. Knows transformers; not what the model is used for.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmkit.engines.base import ModelFacts, Notify, notify_nobody
from llmkit.engines.chat import ChatSettings
from llmkit.engines.torch import quantization
from llmkit.engines.torch.architectures import look_at, not_made, refuse_encoder
from llmkit.engines.torch.device_map import DeviceMap, device_map, devices_of
from llmkit.engines.torch.devices import free_bytes, is_out_of_memory, select, slow_precision, torch_dtype
from llmkit.errors import ModelError, OutOfMemoryError, counted, one_line
from llmkit.models import configuration, memory
from llmkit.models.adapters import Adapter, resolve_adapter
from llmkit.models.checkpoint import Checkpoint
from llmkit.models.cores import default_threads
from llmkit.models.devices import Device
from llmkit.models.panics import panics
from llmkit.models.reference import Location, go_offline, resolve
from llmkit.models.settings import ModelSettings
from llmkit.models.tokenizer_growth import excess
from llmkit.models.view import View, model_view, tokenizer_view

#: Positions of which the memory plan makes sure before a model is loaded: one long answer.
_PLANNED_TOKENS = 2048


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer in memory, with where they came from."""

    model: Any
    tokenizer: Any
    location: Location
    checkpoint: Checkpoint
    adapter: Adapter | None
    device: Device
    quantize: str = "none"
    #: What the libraries were shown; they may read it again, so it lives as long as the model.
    views: tuple[View, ...] = ()
    #: Where the parts of the model lie, with the folder of those on disk; None for a model on one device.
    device_map: DeviceMap | None = None

    @property
    def vocabulary(self) -> int:
        """Tokens that the model has embeddings of."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def look_at(self, reason: str) -> str | None:
        """What is unusual in config.json, for what a library said of the model."""
        return look_at(self.checkpoint, reason)

    @property
    def context(self) -> int | None:
        """Tokens that fit the model at once: prompt and answer for a decoder, each side for an encoder-decoder."""
        return context_of(self.checkpoint.config, self.model.config)


def context_of(config: dict[str, Any], defaults: Any = None) -> int | None:
    """Positions of a model by its configuration; None for one without a limit. defaults: where config.json leaves names out."""
    config = configuration.text(config)
    if "relative_attention_num_buckets" in config:  # T5 and its kin have no limit of position
        return None
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length"):
        value = config.get(name) or getattr(defaults, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def tokenizer_sha256(tokenizer: Any) -> str:
    """Of all that decides how a tokenizer cuts a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def model_facts(location: Location, checkpoint: Checkpoint, tokenizer: Any, chat: ChatSettings) -> ModelFacts:
    """What distinguishes kinds of models; no weight is read."""
    from llmkit.models.card import read_card

    languages = read_card(location.folder)[0].get("language")
    described = checkpoint.config.get("task_specific_params")
    tasks = described.values() if isinstance(described, dict) else ()
    return ModelFacts(
        reference=location.reference,
        model_type=checkpoint.model_type,
        encoder_decoder=checkpoint.is_encoder_decoder,
        has_chat_template=chat.source(tokenizer) is not None,
        languages=tuple(map(str, languages)) if isinstance(languages, list) else (),
        task_prefixes=tuple(str(task.get("prefix", "")) for task in tasks if isinstance(task, dict)),
        tokens=tuple(tokenizer.get_vocab()),
        sides=(_side(tokenizer, "source_lang"), _side(tokenizer, "target_lang")),
    )


def _side(tokenizer: Any, name: str) -> str:
    value = getattr(tokenizer, "init_kwargs", {}).get(name)
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Located:
    """A model located and checked by its small files, with the adapter that is to be on it."""

    location: Location
    checkpoint: Checkpoint
    adapter: Adapter | None


@dataclass(frozen=True)
class Prepared:
    """A model located, checked and matched with a device; none of its weights is in memory yet."""

    settings: ModelSettings
    location: Location
    checkpoint: Checkpoint
    adapter: Adapter | None
    device: Device
    tokenizer: Any
    #: The model's folder as transformers is shown it, and the tokenizer's where it lies beside the adapter.
    views: tuple[View, ...]
    device_map: DeviceMap | None = None


def tokenizer_beside(prepared: Prepared) -> bool:
    """Whether the tokenizer is the one that lies beside the adapter."""
    return len(prepared.views) > 1


def locate(settings: ModelSettings, tell: Notify = notify_nobody) -> Located:
    """Resolves and checks a model and its adapter; imports no torch. tell: told in a line what takes time now.

    Raises ModelError, UnavailableError or UsageError.
    """
    if settings.offline:
        go_offline()
    location, checkpoint = resolve(settings.reference, offline=settings.offline, trust_remote_code=settings.trust_remote_code, tell=tell)
    adapter = None
    if not settings.adapter:
        configuration.refuse_adapter_beside(checkpoint.folder)
    else:
        adapter = resolve_adapter(settings.adapter, checkpoint, location, offline=settings.offline)
    return Located(location, checkpoint, adapter)


def prepare(settings: ModelSettings, located: Located) -> Prepared:
    """Chooses the device and reads the tokenizer. Raises ModelError, UnavailableError or UsageError."""
    location, checkpoint, adapter = located.location, located.checkpoint, located.adapter
    layout = device_map(settings.device_map)
    _set_up_libraries()
    import torch

    torch.set_num_threads(settings.threads or default_threads())
    device = select(settings.device, settings.dtype)
    if settings.quantize != "none":
        quantization.check(settings.quantize, device, checkpoint)
    views = [model_view(checkpoint)]
    _check_configuration(views[0], checkpoint)
    beside = tokenizer_view(adapter.folder, checkpoint) if adapter is not None else None
    if beside is not None and adapter is not None:
        tokenizer = _tokenizer(beside, adapter.folder, checkpoint.trusted)
        views.append(beside)
    else:
        tokenizer = _tokenizer(views[0], checkpoint.folder, checkpoint.trusted)
    if adapter is not None and (template := adapter.chat_template()) is not None:
        tokenizer.chat_template = template  # that of the training goes before the base's
    return Prepared(settings, location, checkpoint, adapter, device, tokenizer, tuple(views), layout)


def load(
    settings: ModelSettings, report: Notify = notify_nobody, warn: Notify = notify_nobody, notice: Notify = notify_nobody
) -> LoadedModel:
    """Resolves, checks and loads a model; nothing is read into memory that does not fit.

    report: gets one line on the choice of device and precision and the memory needed. warn: gets what will be slow. notice: gets
    what takes time now.
    Raises ModelError, UnavailableError, UsageError or OutOfMemoryError.
    """
    prepared = prepare(settings, locate(settings, notice))
    import torch

    device = prepared.device
    needed = memory.estimate(
        prepared.checkpoint, dtype=device.dtype, quantize=settings.quantize, tokens=_PLANNED_TOKENS, free=free_bytes(device.name)
    )
    if (slow := slow_precision(device)) is not None:
        warn(f"`dtype` {device.dtype}: {slow}")
    if settings.quantize != "none" and device.kind == "cpu":
        warn(f"`quantize` {settings.quantize} on torch saves memory, not time: on most CPUs it takes about twice as long as float32")
    about = f"{device.dtype} ({device.reason}), {counted(torch.get_num_threads(), 'thread')}"
    if prepared.device_map is None:
        needed.check(f"{settings.reference} in {device.dtype} on {device.name}")
        report(f"{settings.reference}: {needed}; {device.name}, {about}")
        return read_weights(prepared)
    loaded = read_weights(prepared)
    report(f"{settings.reference}: spread over {', '.join(devices_of(loaded.model))}; {about}")
    return loaded


def read_weights(prepared: Prepared, *, trained: bool = False) -> LoadedModel:
    """The model in memory, its adapter on it. trained: the adapter is to be trained. Raises ModelError or OutOfMemoryError."""
    if trained or prepared.adapter is not None or prepared.settings.quantize != "none":
        quantization.import_library()
    model = _model(prepared)
    views = prepared.views
    if prepared.adapter is not None:
        shown = prepared.adapter.view()
        if trained and prepared.settings.quantize != "none":
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        model = _with_adapter(model, prepared.adapter, shown, prepared.device, trained=trained)
        views = (*views, shown)
    _check_vocabulary(model, prepared.tokenizer, prepared.checkpoint)
    model.eval()
    return LoadedModel(
        model,
        prepared.tokenizer,
        prepared.location,
        prepared.checkpoint,
        prepared.adapter,
        prepared.device,
        prepared.settings.quantize,
        views,
        prepared.device_map,
    )


def _set_up_libraries() -> None:
    """No progress bars and no advice of the libraries on stderr; no thread pool of the tokenizer beside torch's."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\.")
    # what an adapter with a last matrix of its own is for
    warnings.filterwarnings("ignore", category=UserWarning, message="Input and output embeddings are no longer tied after merging")
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _check_configuration(view: View, checkpoint: Checkpoint) -> None:
    """Raises ModelError naming config.json and what transformers says of it: the tokenizer would be blamed otherwise."""
    from transformers import CONFIG_MAPPING, AutoConfig

    if checkpoint.model_type not in CONFIG_MAPPING:
        return  # code of the model's own, or an architecture that is not known; loading says which
    try:
        AutoConfig.from_pretrained(view.folder, local_files_only=True, trust_remote_code=checkpoint.trusted)
    except Exception as exc:
        # a configuration of a stranger can make it raise anything
        raise ModelError(f"{checkpoint.folder / 'config.json'}: {one_line(exc)}", hint=look_at(checkpoint, str(exc))) from exc


def _tokenizer(view: View, folder: Path, trusted: bool) -> Any:
    from transformers import AutoTokenizer

    with panics(lambda reason: ModelError(f"{folder}: its tokenizer can't be loaded: {reason}")):
        try:
            tokenizer = AutoTokenizer.from_pretrained(view.folder, local_files_only=True, trust_remote_code=trusted)
        except Exception as exc:
            # the tokenizers library raises bare Exception
            raise ModelError(f"{folder}: its tokenizer can't be loaded: {one_line(exc)}") from exc
        if (reason := excess(getattr(tokenizer, "backend_tokenizer", None))) is not None:
            raise ModelError(f"{folder / 'tokenizer.json'}: {reason}", hint="copy or download the model again")
        tokenizer.name_or_path = tokenizer.init_kwargs["name_or_path"] = str(folder)
        return tokenizer


def _model(prepared: Prepared) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from llmkit.engines.torch.activations import use_fused

    checkpoint, device, settings = prepared.checkpoint, prepared.device, prepared.settings
    refuse_encoder(checkpoint)
    auto = AutoModelForSeq2SeqLM if checkpoint.is_encoder_decoder else AutoModelForCausalLM
    read = partial(
        auto.from_pretrained, prepared.views[0].folder, dtype=torch_dtype(device), use_safetensors=True, local_files_only=True,
        trust_remote_code=checkpoint.trusted, output_loading_info=True,
        **quantization.arguments(settings.quantize, device),
        **(prepared.device_map.arguments if prepared.device_map else {}),
    )  # fmt: skip
    damaged = panics(lambda reason: ModelError(f"{checkpoint.folder}: its weights can't be read: {reason}"))
    with damaged, _loading(settings, device, checkpoint, read):
        model, info = read()
        if settings.quantize == "none" and prepared.device_map is None:
            model = model.to(device.name)
    model.name_or_path = model.config.name_or_path = str(checkpoint.folder)
    missing = sorted(info["missing_keys"])
    if missing:
        reason = f"{counted(len(missing), 'weight is', 'weights are')} missing from the file, such as {missing[0]}"
        hint = look_at(checkpoint, reason) or "copy or download the model again"
        raise ModelError(f"{checkpoint.folder}: {reason}", hint=hint)
    _check_finite(model, str(checkpoint.folder))
    use_fused(model)
    return model


@contextmanager
def _loading(settings: ModelSettings, device: Device, checkpoint: Checkpoint, read: Callable[..., Any]) -> Iterator[None]:
    """What transformers raises while it makes a model of a checkpoint, as ModelError or OutOfMemoryError. read: how it makes one."""
    try:
        yield
    except Exception as exc:
        # a configuration of a stranger can make it raise anything
        if is_out_of_memory(exc):
            raise OutOfMemoryError(
                f"{settings.reference} does not fit on {device.name}: {one_line(exc)}",
                hint="a smaller model, or `dtype` bfloat16" + ("" if device.kind == "cpu" else ", or `device` cpu"),
            ) from exc
        raise not_made(checkpoint, exc, read) from exc


def _check_finite(model: Any, folder: str, part: str = "") -> None:
    """Raises ModelError for NaN or infinite values in the weights whose names hold `part`; folder: where they were read."""
    import torch

    for name, parameter in model.named_parameters():
        if part not in name or parameter.is_meta:  # on disk, and read when its layer runs
            continue
        if parameter.is_floating_point() and not torch.isfinite(parameter.sum(dtype=torch.float32)):
            raise ModelError(f"{folder}: the weights '{name}' hold NaN or infinite values", hint="copy or download it again")


def _check_vocabulary(model: Any, tokenizer: Any, checkpoint: Checkpoint) -> None:
    embeddings = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest < 0:
        raise ModelError(f"{checkpoint.folder}: the tokenizer has no vocabulary")
    if largest >= embeddings:
        raise ModelError(
            f"{checkpoint.folder}: the tokenizer has ids up to {largest}, the model {counted(embeddings, 'embedding')}",
            hint="the tokenizer belongs to another model",
        )


def _with_adapter(model: Any, adapter: Adapter, view: View, device: Device, *, trained: bool) -> Any:
    from peft import PeftModel

    with _peft(adapter):
        if adapter.vocabulary is not None:
            model.resize_token_embeddings(adapter.vocabulary, mean_resizing=False)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            loaded = PeftModel.from_pretrained(
                model, str(view.folder), torch_device=device.name, is_trainable=trained, local_files_only=True
            )
        # peft fills in what is not there, and says so in a warning
        missing = next((text for item in told if "missing adapter keys" in (text := str(item.message))), None)
        if missing is not None:
            raise ModelError(
                f"the adapter {adapter.reference} is incomplete: {one_line(missing)}", hint="copy or download the adapter again"
            )
        _check_finite(loaded, str(adapter.folder), ".default")  # peft's name of the only adapter, in all its weights
        return loaded


@contextmanager
def _peft(adapter: Adapter) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as exc:
        # a configuration of a stranger can make it raise anything
        base = adapter.config.get("base_model_name_or_path")
        hint = f"the adapter says that its base is {one_line(base, 200)}" if isinstance(base, str) and base else None
        raise ModelError(f"the adapter {adapter.reference} does not fit the model: {one_line(exc)}", hint=hint) from exc
