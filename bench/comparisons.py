"""What is compared: each comparison names its job, who does it, and what the machine needs for it at least."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import synthetic
from bench.peers import Job, missing, plain_ctranslate2
from bench.running import Contender, Measured, alternate, alternate_each, commands
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
job = Job(folder, texts, new_tokens=int(new), options={"batch": 64})
generate(job)(job)
"""
BARE = """
import sys
from bench.peers import Job
from bench.peers.plain_transformers import generate
from llmkit.models.builtin import folder
job = Job(str(folder("stories")), ["Once upon a time"], new_tokens=40)
sys.stdout.write(generate(job)(job).about["first"])
"""
ONE_LINE = """
import sys
import ctranslate2
from tokenizers import Tokenizer
folder = sys.argv[1]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
model = ctranslate2.Generator(folder + "/ctranslate2", compute_type="float32", intra_threads=1)
tokens = tokenizer.encode("Once upon a time").tokens
(found,) = model.generate_batch([tokens], max_length=40, sampling_topk=1, include_prompt_in_result=False)
print(tokenizer.decode(found.sequences_ids[0]))
del model
"""
TRANSLATE = """
import sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
folder, lines, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype="float32").eval()
texts = open(lines).read().splitlines()
with open(out, "w") as file:
    for at in range(0, len(texts), 64):
        inputs = tokenizer(texts[at : at + 64], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        found = model.generate(**inputs, num_beams=4, do_sample=False, max_new_tokens=128)
        file.writelines(text.strip() + "\\n" for text in tokenizer.batch_decode(found, skip_special_tokens=True))
"""
TRANSLATE_CT2 = """
import sys
import ctranslate2
from tokenizers import Tokenizer
folder, lines, out, kind = sys.argv[1:]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
model = ctranslate2.Translator(folder + "/ctranslate2", compute_type=kind)
texts = open(lines).read().splitlines()
with open(out, "w") as file:
    for at in range(0, len(texts), 64):
        read = [encoding.tokens for encoding in tokenizer.encode_batch(texts[at : at + 64])]
        for result in model.translate_batch(read, beam_size=4, max_decoding_length=128):
            ids = [tokenizer.token_to_id(token) for token in result.hypotheses[0]]
            file.write(tokenizer.decode(ids).strip() + "\\n")
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
    sentences: int


QUICK = Size(rounds=3, layers=3, new_tokens=16, documents=8, words=(40, 200), steps=3, rows=32, sentences=40)
FULL = Size(rounds=5, layers=12, new_tokens=64, documents=12, words=(40, 1200), steps=8, rows=512, sentences=5000)


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
    pairs: Path | None = None

    @property
    def quick(self) -> bool:
        return self.size == QUICK


@dataclass(frozen=True)
class Result:
    """The first of `measured` is llmkit's. least: seconds that the machine needs at least, None where that is not known.

    by_tokens: contenders do unlike amounts, so tokens per second are compared, and not the time of the whole. remarks: lines to show
    below the table.
    """

    name: str
    measured: list[Measured]
    skipped: dict[str, str]
    least: Least
    by_tokens: bool = False
    remarks: Sequence[str] = ()


def prepare(folder: Path, scratch: Path, *, layers: int | None) -> Speed:
    """What takes torch and is done once: a model of so many layers where none is given, its forms for CTranslate2, the machine's speed."""
    from llmkit.engines.registry import open_engine
    from llmkit.engines.torch.speed import measure
    from llmkit.models.settings import ModelSettings

    if layers is not None:
        synthetic.model_folder(folder, layers=layers)
    if missing("plain_ctranslate2") is None:
        plain_ctranslate2.convert(str(folder), plain_ctranslate2.form(scratch))
        open_engine(ModelSettings(str(folder), offline=True), engine="ctranslate2")
    return measure("cpu")


def _unknown(_: Measured) -> float | None:
    return None


def _run(bench: Bench, name: str, task: str, job: Job, contenders: Sequence[Contender], least: Least) -> Result:
    (result,) = _run_each(bench, {name: job}, task, contenders, least)
    return result


def _run_each(bench: Bench, jobs: Mapping[str, Job], task: str, contenders: Sequence[Contender], least: Least) -> list[Result]:
    """Jobs by their names, which differ in their texts alone."""
    skipped = {c.name: f"{package} is not installed" for c in contenders if (package := missing(c.peer)) is not None}
    there = [c for c in contenders if c.name not in skipped]
    found = alternate_each(there, task, list(jobs.values()), 1 if task == "train" else bench.size.rounds, fork=bench.quick)
    return [Result(name, measured, skipped | failed, least) for name, (measured, failed) in zip(jobs, found, strict=True)]


def _decoding(bench: Bench, steps: int) -> Least:
    """For answers of `steps` steps, in the contender's own precision. What reading the prompts takes is left out."""

    def least(measured: Measured) -> float | None:
        if bench.cost is None:
            return None
        cost = replace(bench.cost, step=bench.cost.step / 4, dtype=None) if "int8" in measured.name else bench.cost
        return speed.limit(cost, bench.machine, steps=steps, positions=measured.tokens).seconds

    return least


def decode(bench: Bench) -> list[Result]:
    """Tokens per second of greedy answers: to one prompt, to 16 ragged ones, to 8 of very unlike lengths, and to ragged answers."""
    new, least = bench.size.new_tokens, _decoding(bench, bench.size.new_tokens)

    def job(count: int, *, words: tuple[int, int] = (4, 48), ragged: bool = False) -> Job:
        limits = [max(1, new * (number % 8 + 1) // 8) for number in range(count)] if ragged else []
        return Job(bench.folder, synthetic.texts(count, words), new_tokens=new, limits=limits, scratch=str(bench.scratch))

    jobs = {"decode, one prompt": job(1), "decode, 16 ragged prompts": job(16)}
    if not bench.quick:
        jobs["decode, 8 prompts of 20 to 300 words"] = job(8, words=(20, 300))
    out = _run_each(bench, jobs, "generate", (_OURS, _OURS_TORCH, _TRANSFORMERS, _CT2, _OURS_INT8, _CT2_INT8), least)
    if not bench.quick:
        jobs = {f"decode, {count} ragged prompts and answers": job(count, ragged=True) for count in (16, 32)}
        out += _run_each(bench, jobs, "generate", (_OURS_TORCH, _TRANSFORMERS, _OURS, _CT2), least)
    return out


def score(bench: Bench) -> list[Result]:
    """Log-likelihood of every token of ragged documents, once after BOS, in windows of the model's context without overlap."""
    job = Job(bench.folder, synthetic.texts(bench.size.documents, bench.size.words), scratch=str(bench.scratch))
    contenders = [
        Contender("llmkit", "llmkit_itself", {"engine": "torch"}),
        Contender("llmkit, CTranslate2", "llmkit_itself", {"engine": "ctranslate2"}),
        Contender("lm-evaluation-harness", "lm_eval_harness", {"batch": 8}), _TRANSFORMERS, _CT2,
    ]  # fmt: skip

    found = _run(bench, "score documents", "score", job, contenders, _unknown)
    rate, operations = bench.machine.rates.get("float32"), [m.about["operations"] for m in found.measured if "operations" in m.about]
    if rate is not None and operations:
        seconds = operations[0] / rate
        found = replace(found, least=lambda _: seconds)
    if bench.double:
        wide = Job(**{**vars(job), "dtype": "float64"})
        exact = _run(bench, "score documents in double precision", "score", wide, [_TRANSFORMERS], _unknown)
        return [found, exact]
    return [found]


def train(bench: Bench) -> list[Result]:
    """LoRA of rank 16 on every linear layer: trained tokens per second, from the end of the first step to the end of the last.

    On texts as long as paragraphs of books, or on the user's; and on texts that are all of one length, where no padding can be saved.
    """
    ragged = bench.texts or synthetic.rows(bench.scratch / "texts.jsonl", synthetic.paragraphs(200, seed=1), "text")
    even = synthetic.rows(bench.scratch / "even.jsonl", synthetic.texts(200, (90, 90), seed=1), "text")
    contenders = (Contender("llmkit", "llmkit_itself"), Contender("peft + Trainer", "peft_trainer"), Contender("TRL", "trl_sft"))

    def least(measured: Measured) -> float | None:
        rate = bench.machine.rates.get("float32")
        if bench.cost is None or rate is None:
            return None
        # all but the adapter, which is small, is frozen
        return speed.training_operations(round(bench.cost.position / 2), 0, measured.tokens) / rate

    out = []
    for name, texts in [("LoRA, ragged texts", ragged)] if bench.quick else [("LoRA, ragged texts", ragged), ("LoRA, even texts", even)]:
        options = {"rows": str(texts), "batch": 8, "length": 512}
        job = Job(bench.folder, [], steps=bench.size.steps, scratch=str(bench.scratch), options=options)
        out.append(replace(_run(bench, name, "train", job, contenders, least), by_tokens=True))
    return out


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
    """Whole processes: help against the imports that it needs; one line against torch's import, on torch against the bare script."""
    from llmkit.models.builtin import folder

    llmkit = [sys.executable, "-m", "llmkit"]
    least = Contender("import typer, rich", command=[sys.executable, "-c", "import typer, rich"])
    pages = [Contender(f"llmkit {page}", command=[*llmkit, page]) for page in ("--help", "--version")]
    prompt = ["generate", "Once upon a time", "--max-new-tokens", "40", "-q", "--offline"]
    words = [
        Contender("llmkit generate", command=[*llmkit, *prompt]),
        Contender("llmkit translate", command=[*llmkit, "translate", "Good morning", "--to", "fr", "-q", "--offline"]),
        Contender("CTranslate2 script", command=[sys.executable, "-c", ONE_LINE, str(folder("stories"))]),
        Contender("import torch", command=[sys.executable, "-c", "import torch"]),
    ]
    heavy = [
        Contender("llmkit generate --engine torch", command=[*llmkit, *prompt, "--engine", "torch"]),
        Contender("bare transformers script", command=[sys.executable, "-c", BARE]),
    ]
    compared = [("start: help", [*pages, least], 3), ("start: one line, built-in models", words, 9)]
    if not bench.quick:
        compared.append(("start: one line on torch", heavy, 3))
    return [_processes(name, contenders, 1 if bench.quick else rounds, warm=not bench.quick) for name, contenders, rounds in compared]


def _processes(name: str, contenders: Sequence[Contender], rounds: int, *, warm: bool) -> Result:
    measured, failed = commands(contenders, rounds, warm=warm)
    last = measured[-1].about["processor"] if measured else 0
    each = ", ".join(f"{m.name} {m.about['processor']:.3f} s ({m.about['processor'] / last:.2f} ×)" for m in measured)
    return Result(name, measured, failed, _unknown, remarks=[f"Processor time of {name}: {each}"])


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
    """A file of sentences on the built-in translator, beams of 4, as whole processes: with BLEU where there are references.

    The scripts of the peers take 64 lines at a time in the order of the file, without journal, record, and checks of what they wrote.
    """
    from llmkit.models.builtin import folder

    pairs = [] if bench.pairs is None else [line.split("\t") for line in bench.pairs.read_text("utf-8").splitlines()]
    pairs = pairs[: bench.size.sentences]
    sources = [pair[0] for pair in pairs] or synthetic.sentences(bench.size.sentences, seed=3)
    lines, model = bench.scratch / "sentences.txt", str(folder("en-fr"))
    lines.write_text("".join(f"{text}\n" for text in sources))
    written = {name: bench.scratch / f"{name.replace(' ', '-')}.fr.txt" for name in _TRANSLATORS}
    contenders = [Contender(name, command=make(model, str(lines), str(written[name]))) for name, make in _TRANSLATORS.items()]
    measured, failed = commands(contenders, 1 if bench.quick else 3, warm=False)
    remarks = [_bleu(name, written[name], [pair[1] for pair in pairs]) for name in written if pairs and name not in failed]
    return [Result(f"translate {len(sources)} sentences, beam 4", measured, failed, _unknown, remarks=remarks)]


def _ours(*more: str) -> Callable[[str, str, str], list[str]]:
    options = ["--to", "fr", "--num-beams", "4", "--engine", "ctranslate2", "--overwrite", "-q", "--offline", *more]
    return lambda _, lines, out: [sys.executable, "-m", "llmkit", "translate", "-m", "builtin:en-fr", "-i", lines, "-o", out, *options]


def _script(source: str, *more: str) -> Callable[[str, str, str], list[str]]:
    return lambda model, lines, out: [sys.executable, "-c", source, model, lines, out, *more]


_TRANSLATORS: dict[str, Callable[[str, str, str], list[str]]] = {
    "llmkit": _ours(),
    "CTranslate2": _script(TRANSLATE_CT2, "float32"),
    "llmkit, int8": _ours("--quantize", "int8"),
    "CTranslate2, int8": _script(TRANSLATE_CT2, "int8"),
    "transformers": _script(TRANSLATE),
}


def _bleu(name: str, written: Path, references: list[str]) -> str:
    from sacrebleu import BLEU

    return f"BLEU of {name}: {BLEU().corpus_score(written.read_text('utf-8').splitlines(), [references]).score:.2f}"


COMPARISONS: dict[str, Callable[[Bench], list[Result]]] = {
    "decode": decode, "score": score, "train": train, "translate": translate, "start": start, "load": load, "job": job,
}  # fmt: skip
#: What a quick run leaves out: others show it, too.
LONG = ("load", "job")


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
