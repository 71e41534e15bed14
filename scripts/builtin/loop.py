"""The training loop of both built-in models: Muon and AdamW, warm-up / constant / linear decay, checkpoints.

Knows parameters, steps and a loss; not what is trained. A run may end at any moment: the same call goes on
from the newest checkpoint, and a batch is a function of the step number alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from muon import Muon
from transformers import PreTrainedModel

from llmkit.engines.torch.devices import training_dtype


@dataclass(frozen=True)
class Schedule:
    """Learning rates and their course. `decay_from` is the step at which the linear fall to zero begins."""

    steps: int
    decay_from: int
    warmup: int = 100
    matrix_lr: float = 0.02
    other_lr: float = 3e-3
    weight_decay: float = 0.05

    def factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        if step < self.decay_from:
            return 1.0
        return max(0.0, (self.steps - step) / (self.steps - self.decay_from))


def arguments(description: str | None, planned: Schedule, *, every: int) -> argparse.ArgumentParser:
    """The options of a training script; `planned` and `every` are their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--from", dest="begin", type=Path, help="begin with the weights and the tokenizer of this model folder")
    parser.add_argument("--seed", type=int, default=2024, help="of the batches")
    parser.add_argument("--steps", type=int, default=planned.steps)
    parser.add_argument("--decay-from", type=int, default=planned.decay_from)
    parser.add_argument("--matrix-lr", type=float, default=planned.matrix_lr)
    parser.add_argument("--other-lr", type=float, default=planned.other_lr)
    parser.add_argument("--every", type=int, default=every, help="steps between checkpoints, each with a figure of the validation side")
    parser.add_argument("--no-compile", action="store_true", help="begin at once, with slower steps")
    parser.add_argument("--export", action="store_true", help="write WORK/model from the newest checkpoint and end")
    return parser


def scheduled(planned: Schedule, args: argparse.Namespace) -> Schedule:
    """`planned` with what the options say."""
    return dataclasses.replace(planned, steps=args.steps, decay_from=args.decay_from, matrix_lr=args.matrix_lr, other_lr=args.other_lr)


def prepare(args: argparse.Namespace) -> Path:
    """The work folder of a run, with the tokenizer of the model that it begins from."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    if args.begin and not (work / "tokenizer.json").exists():
        shutil.copy(args.begin / "tokenizer.json", work / "tokenizer.json")
    return work


def place(model: PreTrainedModel, args: argparse.Namespace) -> None:
    """Gives `model` the weights it begins from and moves it to the device."""
    if args.export:
        model.load_state_dict(torch.load(args.work / "checkpoint.pt", weights_only=True, map_location="cpu")["model"])
    elif args.begin:
        model.load_state_dict(type(model).from_pretrained(args.begin, dtype=torch.float32).state_dict())
    model.to(args.device)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}", flush=True)


def mixed_precision(device: str) -> torch.autocast:
    """Where a loss is computed: in bfloat16 on processors that have it, in float32 on those that would emulate it."""
    dtype = training_dtype(device)
    return torch.autocast(device, dtype, enabled=dtype is not torch.float32)


def optimizers(model: torch.nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.ndim == 2 and ".layers." in n]
    others = [p for n, p in named if not (p.ndim == 2 and ".layers." in n)]
    return [
        Muon(
            matrices,
            lr=schedule.matrix_lr,
            weight_decay=schedule.weight_decay,
            momentum=0.95,
            dtype=training_dtype(matrices[0].device.type),
        ),
        torch.optim.AdamW(others, lr=schedule.other_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def run(
    model: torch.nn.Module,
    schedule: Schedule,
    folder: Path,
    losses: Callable[[int], Any],
    validate: Callable[[], dict[str, float]],
    *,
    every: int,
) -> None:
    """Trains `model` in place up to `schedule.steps`.

    `losses(step)` yields the losses of the step's micro-batches, already divided by their number; each is
    differentiated as it comes. `validate()` gives the figures that are logged every `every` steps beside a checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opts = optimizers(model, schedule)
    base = [[g["lr"] for g in o.param_groups] for o in opts]
    step = _resume(folder, model, opts)
    started, since, seen = time.monotonic(), step, 0.0
    while step < schedule.steps:
        torch.manual_seed(step)
        for opt, rates in zip(opts, base, strict=True):
            for group, rate in zip(opt.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.factor(step)
        for loss in losses(step):
            loss.backward()
            seen += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        step += 1
        if step % 25 == 0:
            _log(folder, {"step": step, "loss": seen / 25, "seconds_per_step": (time.monotonic() - started) / (step - since)})
            seen = 0.0
        if step % every == 0 or step == schedule.steps:
            _save(folder, model, opts, step)
            _log(folder, {"step": step, **validate()})


def _log(folder: Path, row: dict[str, Any]) -> None:
    line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    print(line, flush=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(line + "\n")


def _save(folder: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer], step: int) -> None:
    state = {"step": step, "model": model.state_dict(), "optimizers": [o.state_dict() for o in opts]}
    torch.save(state, folder / "checkpoint.tmp")
    os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")


def _resume(folder: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer]) -> int:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=next(model.parameters()).device)
    model.load_state_dict(state["model"])
    for opt, saved in zip(opts, state["optimizers"], strict=True):
        rates = [g["lr"] for g in opt.param_groups]
        opt.load_state_dict(saved)
        for group, rate in zip(opt.param_groups, rates, strict=True):
            group["lr"] = rate
    return int(state["step"])
