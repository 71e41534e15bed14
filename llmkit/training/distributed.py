"""The processes of one run (`torchrun`, `accelerate launch`): who writes, and whether all see the same.

Knows the environment that the launchers set; accelerate does the talking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from llmkit.errors import UnavailableError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """rank: this one's number of `count`; local: its number on this machine, which is also its CUDA device.

    fsdp: whether the launcher was told to shard weights (`accelerate launch --use_fsdp`).
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    fsdp: bool = False

    @property
    def writes(self) -> bool:
        """Whether this process writes files (rank 0)."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """The device of this process: one each where a launcher started several."""
        if self.count == 1 or asked not in ("auto", "cuda"):
            return asked
        import torch

        return f"cuda:{self.local}" if torch.cuda.is_available() else asked

    def join(self, *, cpu: bool) -> None:
        """Meets the other processes. Raises UnavailableError when the launcher asks for DeepSpeed."""
        if _is_on("ACCELERATE_USE_DEEPSPEED"):
            raise UnavailableError("DeepSpeed is not supported", hint="`fsdp` shards the frozen weights over the processes")
        if self.fsdp:
            os.environ["ACCELERATE_USE_FSDP"] = "false"  # the model is sharded before accelerate sees it
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=cpu, backend="gloo") if cpu else PartialState()

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """A block that goes through with the other processes. Raises UnavailableError when one of them is gone."""
        try:
            yield
        except RuntimeError as exc:
            if self.count == 1 or not _is_lost(exc):
                raise
            hint = "its own message says why; the same command continues from the last checkpoint"
            raise UnavailableError("another process of this run has ended or can't be reached", hint=hint) from exc

    @contextmanager
    def first_one_first(self) -> Iterator[None]:
        """The process that writes goes through the block before the others."""
        if self.count == 1:
            yield
            return
        from accelerate import PartialState

        with PartialState().main_process_first():
            yield

    def agree(self, value: str, what: str) -> None:
        """Raises UnavailableError when the processes have different values."""
        if self.count == 1:
            return
        from accelerate.utils import gather_object

        values = gather_object([value])
        if len(set(values)) > 1:
            other = next(i for i, v in enumerate(values) if v != values[0])
            raise UnavailableError(f"process {other} sees another {what} than process 0", hint="give all machines the same files")

    def first_value(self, value: T) -> T:
        """What the process that writes has for `value`."""
        if self.count == 1:
            return value
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values[0]


#: torchrun's names first, then those of MPI libraries, by which `accelerate launch` starts several processes on CPUs.
_NAMES = {
    "rank": ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"),
    "count": ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"),
    "local": ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


def from_environment() -> Processes:
    """What torchrun and accelerate set; one process without them.

    Raises UnavailableError where accelerate was told to start several and has started one.
    """
    values = {field: next((int(os.environ[n]) for n in names if n in os.environ), None) for field, names in _NAMES.items()}
    numbers = {field: number for field, number in values.items() if number is not None}
    # `accelerate launch --cpu --num_processes 2` names a place to meet, and then starts one process unless it may use mpirun
    if "count" not in numbers and _is_on("ACCELERATE_USE_CPU") and "MASTER_ADDR" in os.environ:
        raise UnavailableError(
            "accelerate launch started a single process: several on CPUs need mpirun",
            hint="start them with torchrun, or give accelerate launch a host file for mpirun",
        )
    return Processes(**numbers, fsdp=_is_on("ACCELERATE_USE_FSDP"))


def _is_lost(exc: RuntimeError) -> bool:
    """Whether a process could not talk to another; gloo (torch 2.13) has no error class of its own."""
    from torch.distributed import DistError

    return isinstance(exc, DistError) or "gloo/transport" in str(exc)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1")
