"""llmkit. options: `engine`, `quantize`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.peers import ON_TORCH, Done, Job, Work

NEEDS = ()
_TORCH = (ON_TORCH, "llmkit.engines.torch.engine")
#: The command sets how threads wait before it imports torch, so training does not begin with ON_TORCH.
IMPORTS = {"torch": _TORCH, "load": _TORCH, "train": ("llmkit.cli.app", "llmkit.training.trainer", "peft")}


def _engine(job: Job, decoding: Any = None) -> Any:
    from llmkit.engines.registry import open_engine
    from llmkit.models.settings import ModelSettings

    quantize = job.options.get("quantize", "none")
    settings = ModelSettings(job.folder, dtype=job.dtype, quantize=quantize, offline=True, device="cpu")
    return open_engine(settings, engine=job.options.get("engine", "auto"), decoding=decoding)


def generate(job: Job) -> Work:
    from llmkit.engines.decoding import Decoding
    from llmkit.rows.fields import Prompt

    decoding = Decoding(max_new_tokens=job.new_tokens, num_beams=job.options.get("beams", 1))
    engine = _engine(job, decoding)

    def work(job: Job) -> Done:
        requests = [engine.make_request(Prompt(text=text), decoding, number) for number, text in enumerate(job.texts)]
        if job.limits:
            requests = [replace(request, max_new_tokens=limit) for request, limit in zip(requests, job.limits, strict=True)]
        if len(requests) == 1 and decoding.num_beams == 1:  # as the command does it
            answers = [engine.stream(requests[0], decoding, lambda _: None)]
        else:
            answers = [answer for (answer,) in engine.generate(requests, decoding)]
        return Done(sum(a.completion_tokens for a in answers), about={"first": answers[0].text, "engine": engine.name})

    return work


def score(job: Job) -> Work:
    from llmkit.metrics.perplexity import Windows
    from llmkit.tasks.score import score_pairs

    engine = _engine(job)
    windows = Windows(engine.context, engine.context)

    def work(job: Job) -> Done:
        from llmkit.engines.base import Pair

        start, before = [] if engine.bos is None else [engine.bos], replace(engine.counters)
        pairs = [Pair([*start, *engine.encode(text)], 1) for text in job.texts]
        scored = [value for each in score_pairs(engine, windows, pairs, batch_tokens=16_384) for value in each]
        about = {"nats": sum(value for value, _ in scored)}
        if engine.cost is not None:  # all have the same windows, whose last ones read tokens again
            positions, pairs = engine.counters.positions - before.positions, engine.counters.pairs - before.pairs
            about["operations"] = engine.cost.position * positions + engine.cost.pair * pairs
        return Done(sum(tokens for _, tokens in scored), about=about)

    return work


def load(job: Job) -> Work:
    from llmkit.engines.torch.loading import load as load_model
    from llmkit.models.settings import ModelSettings

    def work(job: Job) -> Done:
        load_model(ModelSettings(job.folder, dtype=job.dtype, offline=True, device="cpu"))
        return Done(1)

    return work


def train(job: Job) -> Work:
    """The command as it is; its trainer tells when each step begins, which is when the one before has ended."""
    from llmkit.cli.app import run
    from llmkit.training.trainer import FineTuner

    samples, save = FineTuner.get_batch_samples, FineTuner._save_checkpoint
    ends: list[float] = []
    counts: list[int] = []

    def batch(self: Any, *rest: Any) -> Any:
        ends.append(time.monotonic())
        found = samples(self, *rest)
        counts.append(int(found[1]))
        return found

    def last(self: Any, *rest: Any) -> Any:
        ends.append(time.monotonic())
        return save(self, *rest)

    FineTuner.get_batch_samples, FineTuner._save_checkpoint = batch, last

    def work(job: Job) -> Done:
        ends.clear()
        counts.clear()
        steps = str(job.steps)
        command = ["finetune", job.options["rows"], "-m", job.folder, "-o", str(Path(job.scratch) / "llmkit"), "--max-steps", steps]
        command += ["--save-steps", steps, "--batch-size", str(job.options["batch"]), "--max-length", str(job.options["length"])]
        if run([*command, "--dtype", job.dtype, "--overwrite", "--offline", "-q"]):
            raise SystemExit("llmkit finetune failed")
        return Done(sum(counts[1 : job.steps]), ends[job.steps] - ends[1])

    return work


TASKS = {"generate": generate, "score": score, "load": load, "train": train}
