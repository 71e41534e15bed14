"""Every private part of a library that llmkit leans on: what it is, what for, and with which versions it was seen.

A part that a new version renames would be switched off without notice. `require` says so before work starts;
pyproject.toml holds the upper bounds. Whatever is private and used goes through this list. Imports a library only when one of
its parts is asked for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llmkit.errors import UnavailableError


@dataclass(frozen=True)
class PrivatePart:
    """A part by its name `module:attribute.attribute`.

    purpose: the group that `require` is asked for. seen: versions that had it. why: what goes wrong without it.
    parameters: the names that a function's parameters begin with, `self` left out. find: finds a part that is no attribute
    of a class.
    """

    library: str
    purpose: str
    part: str
    seen: str
    why: str
    parameters: tuple[str, ...] = ()
    find: Callable[[], Any] | None = None

    def problem(self) -> str | None:
        """What is wrong with the part in the installed version; None when it is as it was seen."""
        try:
            target = self.find() if self.find is not None else _attribute(self.part)
        except (ImportError, AttributeError):
            return f"{self.library} {version(self.library)} has no {self.part}"
        if self.parameters:
            names = [name for name in inspect.signature(target).parameters if name != "self"]
            if tuple(names[: len(self.parameters)]) != self.parameters:
                return f"{self.part} of {self.library} {version(self.library)} takes ({', '.join(names)})"
        return None


def _attribute(part: str) -> Any:
    module, _, names = part.partition(":")
    target: Any = importlib.import_module(module)
    for name in names.split("."):
        target = getattr(target, name)
    return target


def _devices_of_arguments() -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir="unused", use_cpu=True, report_to="none")
    return arguments.n_gpu, arguments._n_gpu


def _rates_of_schedule() -> Any:
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    return torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([weight], lr=1.0), lambda step: 1.0)._last_lr


def _attribute_of_4bit_layer() -> Any:
    return importlib.import_module("bitsandbytes").nn.Linear4bit(1, 1).support_avx512bf16_for_cpu


def _of_trainer(part: str, why: str, *parameters: str, purpose: str = "training") -> PrivatePart:
    """A part of transformers' Trainer, all of which were seen in one version."""
    return PrivatePart("transformers", purpose, f"transformers:Trainer.{part}", "5.24", why, parameters)


PARTS = (
    _of_trainer("_get_grad_norm", "nothing would watch the gradients", "model", "grad_norm"),
    _of_trainer("_save_checkpoint", "checkpoints would not be written aside and renamed", "model", "trial"),
    _of_trainer("_get_output_dir", "checkpoints would be written to another place", "trial"),
    _of_trainer("_save", "all weights would be saved, not the trained ones", "output_dir", "state_dict"),
    _of_trainer("get_batch_samples", "the loss would be no mean over the tokens of a step", "epoch_iterator", "num_batches", "device"),
    _of_trainer("loss_is_scaled_for_ga", "the loss would be divided by the micro-batches once more"),
    _of_trainer(
        "_sync_replicated_trainable_parameters", "each process would train an adapter of its own", "model", purpose="sharded training"
    ),
    _of_trainer(
        "_defer_fsdp_gradient_reduction", "accumulated gradients would need a setting of transformers' own sharding",
        purpose="sharded training",
    ),
    PrivatePart(
        "transformers", "training", "transformers:TrainingArguments._n_gpu", "5.24",
        "one process would spread over all devices", find=_devices_of_arguments,
    ),
    PrivatePart(
        "torch", "training", "torch.optim.lr_scheduler:LRScheduler._last_lr", "2.13",
        "the rate of the first step would be logged as 0", find=_rates_of_schedule,
    ),
    PrivatePart(
        "transformers", "speculation", "transformers:PreTrainedModel._is_stateful", "5.24",
        "models that can't take tokens back would be asked to",
    ),
    PrivatePart("torch", "onednn", "torch:ops.mkldnn._linear_pointwise", "2.13", "linear layers would be slower on a CPU"),
    PrivatePart("torch", "onednn", "torch:ops.mkldnn._reorder_linear_weight", "2.13", "linear layers would be slower on a CPU"),
    *(
        PrivatePart("sacrebleu", "resampling", f"sacrebleu.metrics:{metric}.{part}", "2.6", "no test set could be resampled", names)
        for metric in ("BLEU", "CHRF", "TER")
        for part, names in (("_extract_corpus_statistics", ("hypotheses", "references")), ("_compute_score_from_stats", ("stats",)))
    ),
    *(
        PrivatePart("ray", "several clusters", f"ray._raylet:{part}", "2.60", "a process could sign in to one cluster only")
        for part in ("Config.initialize", "AuthenticationTokenLoader.instance")
    ),
    PrivatePart(
        "bitsandbytes", "4-bit training", "bitsandbytes.nn:Linear4bit.support_avx512bf16_for_cpu", "0.50",
        "4-bit layers could have no gradient on some CPUs", find=_attribute_of_4bit_layer,
    ),
)  # fmt: skip


def parts(purpose: str) -> list[PrivatePart]:
    """The parts that `purpose` leans on. Raises KeyError for a purpose of which no part is listed."""
    chosen = [part for part in PARTS if part.purpose == purpose]
    if not chosen:
        raise KeyError(purpose)
    return chosen


def require(purpose: str) -> None:
    """Raises UnavailableError when a part that `purpose` leans on is gone or has changed."""
    for part in parts(purpose):
        if (problem := part.problem()) is not None:
            raise UnavailableError(
                f"{problem}, which {purpose} needs: without it {part.why}",
                hint=f"install the version that llmkit was tested with: pip install '{part.library}=={part.seen}.*'",
            )


def available(purpose: str) -> bool:
    """Whether all parts that `purpose` leans on are as they were seen: for what has another, slower way."""
    return all(part.problem() is None for part in parts(purpose))
