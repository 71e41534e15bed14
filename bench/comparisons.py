"""What is compared: each comparison names its job, who does it, and what the machine needs for it at least."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import synthetic
from bench.peers import Job, missing
from bench.running import Contender, Measured, alternate, commands
from llmkit.models import speed
from llmkit.models.speed import Cost, Speed

#: Peers of texts that a model goes on with.
_OURS = Contender("llmkit", "llmkit_itself", {"engine": "ctranslate2"})
_OURS_TORCH = Contender("llmkit, torch", "llmkit_itself", {"engine": "torch"})
_OURS_INT8 = Contender("llmkit, int8", "llmkit_itself", {"engine": "ctranslate2", "quantize": "int8"})
_TRANSFORMERS = Contender("transformers", "plain_transformers")
_CT2 = Contender("CTranslate2", "plain_ctranslate2")
_CT2_INT8 = Contender("CTranslate2, int8", "plain_ctranslate2", {"quantize": "int8"})

LOOP = """
import json, sys
from bench.peers import Job
from bench.peers.plain_transformers import generate
folder, prompts, out, new = sys.argv[1:]
texts = [json.loads(line)["prompt"] for line in open(prompts)]
generate(Job(folder, texts, new_tokens=int(new), options={"batch": 64}))()
"""
BARE = """
import sys
from bench.peers import Job
from bench.peers.plain_transformers import generate
from llmkit.models.builtin import folder
sys.stdout.write(generate(Job(str(folder("stories")), ["Once upon a time"], new_tokens=40))().about["first"])
"""


#: Seconds that the machine needs at least for what was measured, None where that is not known.
Least = Callable[[Measured], float | None]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    layers: int
    new_tokens: int
    documents: int
    words: tuple[int, int]
    steps: int
    rows: int


QUICK = Size(rounds=5, layers=4, new_tokens=24, documents=8, words=(40, 200), steps=3, rows=48)
FULL = Size(rounds=7, layers=12, new_tokens=64, documents=48, words=(40, 1200), steps=8, rows=512)


@dataclass(frozen=True)
class Bench:
    """Where and on what is measured."""

    size: Size
    folder: str
    scratch: Path
    machine: Speed
    cost: Cost | None
    double: bool = False
    texts: Path | None = None


@dataclass(frozen=True)
class Result:
    """The first of `measured` is llmkit's. least: seconds that the machine needs at least, None where that is not known.

    by_tokens: contenders do unlike amounts, so tokens per second are compared, and not the time of the whole.
    """

    name: str
    measured: list[Measured]
    skipped: dict[str, str]
    least: Least
    by_tokens: bool = False


def _unknown(_: Measured) -> float | None:
    return None


def _run(
    bench: Bench, name: str, task: str, job: Job, contenders: Sequence[Contender], least: Callable[[Measured], float | None]
) -> Result:
    skipped = {c.name: f"{package} is not installed" for c in contenders if (package := missing(c.peer)) is not None}
    rounds = 1 if task == "train" else bench.size.rounds
    measured, failed = alternate([c for c in contenders if c.name not in skipped], task, job, rounds)
    return Result(name, measured, skipped | failed, least)


def _decoding(bench: Bench, steps: int) -> Least:
    """For answers of `steps` steps, in the contender's own precision. What reading the prompts takes is left out."""

    def least(measured: Measured) -> float | None:
        if bench.cost is None:
            return None
        cost = replace(bench.cost, step=bench.cost.step / 4, dtype=None) if "int8" in measured.name else bench.cost
        return speed.limit(cost, bench.machine, steps=steps, positions=measured.tokens).seconds

    return least


def decode(bench: Bench) -> list[Result]:
    """Tokens per second of greedy answers: to one prompt, and to 16 ragged ones at once."""
    out = []
    for count in (1, 16):
        job = Job(bench.folder, synthetic.texts(count, (4, 48)), new_tokens=bench.size.new_tokens, scratch=str(bench.scratch))
        contenders = (_OURS, _OURS_TORCH, _TRANSFORMERS, _CT2, _OURS_INT8, _CT2_INT8)
        name = "decode, one prompt" if count == 1 else f"decode, {count} ragged prompts"
        out.append(_run(bench, name, "generate", job, contenders, _decoding(bench, bench.size.new_tokens)))
    return out


def score(bench: Bench) -> list[Result]:
    """Log-likelihood of every token of ragged documents, once after BOS, in windows of the model's context without overlap."""
    job = Job(bench.folder, synthetic.texts(bench.size.documents, bench.size.words), scratch=str(bench.scratch))
    contenders = [
        Contender("llmkit", "llmkit_itself", {"engine": "torch"}),
        Contender("llmkit, CTranslate2", "llmkit_itself", {"engine": "ctranslate2"}),
        Contender("lm-evaluation-harness", "lm_eval_harness", {"batch": 8}), _TRANSFORMERS, _CT2,
    ]  # fmt: skip

    def least(measured: Measured) -> float | None:
        rate = bench.machine.rates.get("float32")
        return None if bench.cost is None or rate is None else bench.cost.position * measured.tokens / rate

    found = _run(bench, "score documents", "score", job, contenders, least)
    if bench.double:
        wide = Job(**{**vars(job), "dtype": "float64"})
        exact = _run(bench, "score documents in double precision", "score", wide, [_TRANSFORMERS], _unknown)
        return [found, exact]
    return [found]


def train(bench: Bench) -> list[Result]:
    """LoRA of rank 16 on every linear layer: trained tokens per second, from the end of the first step to the end of the last."""
    texts = bench.texts or synthetic.rows(bench.scratch / "texts.jsonl", synthetic.texts(200, (20, 160), seed=1), "text")
    options = {"rows": str(texts), "batch": 8, "length": 512}
    job = Job(bench.folder, [], steps=bench.size.steps, scratch=str(bench.scratch), options=options)
    contenders = (Contender("llmkit", "llmkit_itself"), Contender("peft + Trainer", "peft_trainer"), Contender("TRL", "trl_sft"))

    def least(measured: Measured) -> float | None:
        rate = bench.machine.rates.get("float32")
        if bench.cost is None or rate is None:
            return None
        # all but the adapter, which is small, is frozen
        return speed.training_operations(round(bench.cost.position / 2), 0, measured.tokens) / rate

    return [replace(_run(bench, "LoRA", "train", job, contenders, least), by_tokens=True)]


def load(bench: Bench) -> list[Result]:
    """Loading the built-in models, beyond the imports: llmkit also checks hashes, headers, memory and weights."""
    from llmkit.models.builtin import folder

    out = []
    for name in ("stories", "en-fr"):
        theirs = replace(_TRANSFORMERS, folder=str(folder(name)), options={"seq2seq": name == "en-fr"})
        job = Job(f"builtin:{name}", [], scratch=str(bench.scratch))
        measured, failed = alternate([_OURS, theirs], "load", job, bench.size.rounds)
        out.append(Result(f"load builtin:{name}", measured, failed, _unknown))
    return out


def start(bench: Bench) -> list[Result]:
    """Whole processes: help against the imports that it needs; one prompt against the bare script and torch's import."""
    llmkit = [sys.executable, "-m", "llmkit"]
    least = Contender("import typer, rich", command=[sys.executable, "-c", "import typer, rich"])
    pages = [Contender(f"llmkit {page}", command=[*llmkit, page]) for page in ("--help", "--version")]
    prompt = ["generate", "Once upon a time", "--max-new-tokens", "40", "-q", "--offline"]
    words = [
        Contender("llmkit generate", command=[*llmkit, *prompt]),
        Contender("bare transformers script", command=[sys.executable, "-c", BARE]),
        Contender("import torch", command=[sys.executable, "-c", "import torch"]),
    ]
    return [
        Result(name, *commands(contenders, min(3, bench.size.rounds)), _unknown)
        for name, contenders in (("start: help", [*pages, least]), ("start: one prompt, built-in model", words))
    ]


def job(bench: Bench) -> list[Result]:
    """A file of ragged prompts as a job, with its journal and record, against a loop over 64 padded prompts at a time; whole processes."""
    prompts = synthetic.rows(bench.scratch / "prompts.jsonl", synthetic.texts(bench.size.rows, (4, 64), seed=2), "prompt")
    out, new = bench.scratch / "out.jsonl", str(min(16, bench.size.new_tokens))
    ours = [sys.executable, "-m", "llmkit", "generate", "-m", bench.folder, "-i", str(prompts), "-o", str(out), "--max-new-tokens", new]
    contenders = [
        Contender("llmkit generate -i -o", command=[*ours, "--overwrite", "-q", "--offline"]),
        Contender("loop, 64 padded prompts", command=[sys.executable, "-c", LOOP, bench.folder, str(prompts), str(out) + ".loop", new]),
    ]
    measured, failed = commands(contenders, 1)
    return [Result(f"job of {bench.size.rows} rows, whole process", measured, failed, _unknown)]


def translate(bench: Bench) -> list[Result]:
    """Sentences on the built-in translator, beams of 4."""
    from llmkit.models.builtin import folder

    sentences = ["The old man lives by the sea.", "She reads a book.", "Where is the station?", "We have a house and a garden."] * 8
    theirs = replace(_TRANSFORMERS, folder=str(folder("en-fr")))
    job = Job("builtin:en-fr", sentences, new_tokens=40, scratch=str(bench.scratch), options={"beams": 4, "seq2seq": True})
    measured, failed = alternate([_OURS, theirs], "generate", job, bench.size.rounds)
    return [Result("translate 32 sentences, beam 4", measured, failed, _unknown)]


COMPARISONS: dict[str, Callable[[Bench], list[Result]]] = {
    "decode": decode, "score": score, "train": train, "translate": translate, "start": start, "load": load, "job": job,
}  # fmt: skip


def as_json(results: Sequence[Result]) -> str:
    """All that was measured."""
    return json.dumps(
        [
            {
                "comparison": result.name,
                "skipped": result.skipped,
                "contenders": [{**vars(m), "median": m.median, "least": result.least(m)} for m in result.measured],
            }
            for result in results
        ],
        indent=1,
    )
