"""Holds llmkit's numbers against the tools that they are compared with, on inputs made here, and writes the table of docs/agreement.md.

    python scripts/peers.py [--model FOLDER] [--write docs/agreement.md]

Nothing is fetched and nothing of a peer is copied: inputs come from a seed, and expected values from running the peer that is
installed (sacreBLEU, jiwer, rouge-score; lm-evaluation-harness where it is: pip install "lm-eval[hf]"). A case agrees when the number is
the peer's within the stated bound, and for sacreBLEU when the signature is, too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Sentences' words by script: what tokenizers treat differently.
_TEXTS = {
    "latin": "the cat sat on a mat , and it rained all day ! in 1976 we paid $3.50 , didn't we ? well-known U.S. e.g. &amp; <b> 50%",
    "accents": "où est la gare ? c’est ici « vraiment » naïve œuvre Straße ÄÖÜ ¿qué? niño coração łódź",
    "chinese": "从前 有 一个 小男孩 ， 他 住在 海边 。 天气 很好 ！ 2024年 “ 你好 ”",
    "other": "привет мир मौसम अच्छा है سلام دنیا 👍🏽 日本語 テスト です 안녕",
}
WORDS = {name: text.split(" ") for name, text in _TEXTS.items()}
WORDS["other"] += ["x\u00a0y", "a\u2028b"]


@dataclass(frozen=True)
class Case:
    """One comparison: what it is, our number (or text) and the peer's."""

    name: str
    ours: Any
    theirs: Any


@dataclass(frozen=True)
class Agreement:
    """What of a peer was compared, in how many cases, how many of them agree, and the largest difference of numbers."""

    peer: str
    what: str
    cases: int
    agree: int
    largest: float
    bound: float
    failed: tuple[str, ...]


def agreement(peer: str, what: str, bound: float, cases: Iterable[Case]) -> Agreement:
    """Counts the cases whose numbers lie within `bound` of each other, and whose texts are equal."""
    count, largest, failed = 0, 0.0, []
    for case in cases:
        count += 1
        if isinstance(case.ours, (int, float)):
            off = abs(case.ours - case.theirs)
            largest = max(largest, off)
            equal = off <= bound
        else:
            equal = case.ours == case.theirs
        if not equal:
            failed.append(f"{what}, {case.name}: {case.ours!r} here, {case.theirs!r} there")
    return Agreement(f"{peer} {importlib.metadata.version(peer)}", what, count, count - len(failed), largest, bound, tuple(failed))


def corpus(seed: int, rows: int, most_references: int) -> tuple[list[str], list[list[str]]]:
    """Hypotheses and references: sentences of one script or several, some hypotheses empty, some equal, some with case changed."""
    rng = random.Random(seed)
    kinds = [*WORDS, "mixed"]
    hypotheses, references = [], []
    for _ in range(rows):
        kind = rng.choice(kinds)
        words = [w for each in WORDS.values() for w in each] if kind == "mixed" else WORDS[kind]
        base = rng.choices(words, k=rng.randint(1, 20))

        def changed(base: list[str] = base, words: list[str] = words) -> str:
            out = [w if rng.random() < 0.8 else rng.choice(words) for w in base]
            if rng.random() < 0.3:
                rng.shuffle(out)
            text = ("" if "从前" in words else " ").join(out)
            return text.upper() if rng.random() < 0.1 else text

        references.append([changed() for _ in range(rng.randint(1, most_references))])
        hypotheses.append(rng.choice([changed(), changed(), changed(), references[-1][0], ""]))
    return hypotheses, references


def streams(references: list[list[str]]) -> list[list[str | None]]:
    """References as sacreBLEU takes them: one list per reference number, None where a row has fewer."""
    return [[refs[i] if i < len(refs) else None for refs in references] for i in range(max(map(len, references)))]


def offline_tokenizers() -> list[str]:
    """BLEU's tokenizers that need neither a download nor a library that is missing."""
    from llmkit.errors import LlmkitError
    from llmkit.metrics.overlap import TOKENIZERS, OverlapSettings, bleu

    out = []
    for name in TOKENIZERS:
        try:
            bleu(["a"], [["a"]], OverlapSettings(tokenize=name))
        except LlmkitError:
            continue
        out.append(name)
    return out


def sacrebleu_scores(corpora: int) -> Iterator[tuple[str, list[Case]]]:
    """BLEU over tokenizers, cases and smoothings; chrF over its orders; TER: score and signature."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    from llmkit.metrics.overlap import OverlapSettings, bleu, chrf, ter

    made = [corpus(seed, 12 + 5 * (seed % 4), 1 + seed % 4) for seed in range(corpora)]
    smoothings: list[dict[str, Any]] = [
        {}, {"smooth_method": "none"}, {"smooth_method": "floor"}, {"smooth_method": "floor", "smooth_value": 0.3},
        {"smooth_method": "add-k"}, {"smooth_method": "add-k", "smooth_value": 2},
    ]  # fmt: skip
    out: list[Case] = []

    def add(name: str, score: Any, metric: Any, hypotheses: list[str], references: list[list[str]]) -> None:
        expected = metric.corpus_score(hypotheses, streams(references)).score
        out.append(Case(name, score.value, expected))
        out.append(Case(f"{name}, signature", score.signature, str(metric.get_signature())))

    for tokenizer, lowercase, smooth in itertools.product(offline_tokenizers(), (False, True), smoothings):
        for number, (h, r) in enumerate(made):
            chosen = {"tokenize": tokenizer, "lowercase": lowercase, **smooth}
            add(f"{chosen}, corpus {number}", bleu(h, r, OverlapSettings(**chosen)), BLEU(**chosen), h, r)
    yield f"BLEU and its signature: {', '.join(offline_tokenizers())}; case; 6 smoothings; 1 to 4 references", out
    out = []
    for smooth, (number, (h, r)) in itertools.product(smoothings, enumerate(made)):
        options: dict[str, Any] = {"effective_order": True, **smooth}
        add(f"{options}, corpus {number}", bleu(h, r, OverlapSettings(**options)), BLEU(**options), h, r)
        for row, (text, refs) in enumerate(zip(h, r, strict=True)):
            name = f"{options}, corpus {number}, sentence {row}"
            ours_alone = bleu([text], [refs], OverlapSettings(**options)).value
            out.append(Case(name, ours_alone, BLEU(**options).sentence_score(text, refs).score))
    yield "BLEU with effective order and its signature: corpora and single sentences, 6 smoothings", out
    out = []
    for characters, words, beta, lowercase in itertools.product((6, 4), (0, 2), (2, 1), (False, True)):
        for number, (h, r) in enumerate(made):
            ours = OverlapSettings(chrf_char_order=characters, chrf_word_order=words, chrf_beta=beta, lowercase=lowercase)
            theirs = CHRF(char_order=characters, word_order=words, beta=beta, lowercase=lowercase)
            add(f"{characters}, {words}, {beta}, {lowercase}, corpus {number}", chrf(h, r, ours), theirs, h, r)
    for whitespace, smoothed, (number, (h, r)) in itertools.product((False, True), (False, True), enumerate(made)):
        ours = OverlapSettings(chrf_whitespace=whitespace, chrf_eps_smoothing=smoothed)
        theirs = CHRF(whitespace=whitespace, eps_smoothing=smoothed)
        add(f"whitespace {whitespace}, smoothed {smoothed}, corpus {number}", chrf(h, r, ours), theirs, h, r)
    yield "chrF and its signature: orders of characters and words, beta, case, spaces, smoothing", out
    out = []
    for own in ter_options():
        for number, (h, r) in enumerate(made):
            ours = OverlapSettings(**{f"ter_{name}": value for name, value in own.items()})
            add(f"{own}, corpus {number}", ter(h, r, ours), TER(**own), h, r)
    yield "TER and its signature: normalized, without punctuation, Asian support, case", out


def ter_options() -> list[dict[str, Any]]:
    """All combinations of TER's options that differ: Asian support extends the two before it."""
    names = ("normalized", "no_punct", "asian_support", "case_sensitive")
    every: list[dict[str, Any]] = [dict(zip(names, values, strict=True)) for values in itertools.product((False, True), repeat=4)]
    return [options for options in every if options["normalized"] or options["no_punct"] or not options["asian_support"]]


def sacrebleu_paired(corpora: int) -> list[Case]:
    """Paired tests, against the command of sacreBLEU: scores, means, intervals and p-values of the second system."""
    from llmkit.metrics.base import Example
    from llmkit.metrics.overlap import OverlapSettings
    from llmkit.metrics.paired import paired

    out = []
    for seed in range(corpora):
        one, references = corpus(seed, 20, 1)
        rng = random.Random(seed)
        other = [text if rng.random() < 0.6 else refs[0] for text, refs in zip(one, references, strict=True)]
        # a line is a row there
        files = [[" ".join(t.split()) for t in texts] for texts in ([r[0] for r in references], one, other)]
        systems = [
            (f"s{i}", [Example(str(n), "", "", t, (files[0][n],)) for n, t in enumerate(texts)]) for i, texts in enumerate(files[1:])
        ]
        for kind in ("bs", "ar"):
            theirs = _paired_command(files, kind)
            ours = paired(systems, PAIRED, OverlapSettings(), kind, 100).systems[1]
            for metric, (score, p_value) in theirs.items():
                out.append(Case(f"{metric} {kind} {seed}, score", ours.scores[metric], score))
                out.append(Case(f"{metric} {kind} {seed}, p", ours.p_values[metric], p_value))
    return out


#: Metrics of the paired tests; a score and its p-value in a cell of sacreBLEU's table.
PAIRED = ("bleu", "chrf", "ter")
_FIGURES = re.compile(r"^\s*([\d.]+).*p = ([\d.]+)")


def _paired_command(files: list[list[str]], kind: str) -> dict[str, tuple[float, ...]]:
    """(score, p) of the second system by `sacrebleu --paired-bs` or `--paired-ar`, by the metric's name."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("ref", "one", "two")
        for name, lines in zip(names, files, strict=True):
            (Path(folder) / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        command = [sys.executable, "-m", "sacrebleu", names[0], "-i", *names[1:], "-m", *PAIRED, f"--paired-{kind}"]
        # its JSON can't hold numpy's numbers
        done = subprocess.run(
            [*command, f"--paired-{kind}-n", "100", "-f", "latex", "-w", "4"], cwd=folder, capture_output=True, check=True, encoding="utf-8"
        )
    row = next(line for line in done.stdout.splitlines() if line.strip().startswith("two &"))
    return {name: tuple(map(float, _FIGURES.findall(cell)[0])) for name, cell in zip(PAIRED, row.split("&")[1:], strict=True)}


def word_errors(corpora: int) -> list[Case]:
    """Word error rates of corpora whose references have words."""
    import jiwer

    from llmkit.metrics.words import wer

    out = []
    for seed in range(corpora):
        h, r = corpus(seed, 15, 1)
        h, r = [" ".join(t.split()) for t in h], [[" ".join(refs[0].split()) or "a"] for refs in r]
        out.append(Case(f"corpus {seed}", wer(h, r, ()).value, 100 * jiwer.wer([refs[0] for refs in r], h)))
    return out


def rouges(corpora: int) -> list[Case]:
    """The four ROUGE scores; with several references the best."""
    from rouge_score.rouge_scorer import RougeScorer

    from llmkit.metrics.words import rouge

    out = []
    for kind, seed in itertools.product(("rouge1", "rouge2", "rougeL", "rougeLsum"), range(corpora)):
        h, r = corpus(seed, 10, 3)
        scorer = RougeScorer([kind])
        best = [max(scorer.score(ref, text)[kind].fmeasure for ref in refs) for text, refs in zip(h, r, strict=True)]
        out.append(Case(f"{kind}, corpus {seed}", rouge(kind, h, r, ()).value, 100 * sum(best) / len(best)))
    return out


def squad(corpora: int) -> list[Case]:
    """SQuAD's normalization, text by text, by the harness's copy of the official script's."""
    from lm_eval.tasks.super_glue.record.t5_utils import normalize_squad

    from llmkit.metrics.answers import apply, steps

    protocol = steps("case,punctuation,articles,space")
    texts = [t for seed in range(corpora) for t in corpus(seed, 20, 1)[0]]
    texts += ["The  Beatles!", "a an the", "", "An-apple", "the.end", "A\tB\nC", "theatre an", "“quoted”", "1,976.5"]
    # ß: folding makes ss of it, lower-casing does not; faults of neither
    return [Case(repr(t), apply(t, protocol), normalize_squad(t)) for t in texts if "ß" not in t]


def harness(model: str, rows: int) -> Iterator[tuple[str, list[Case]]]:
    """Log-likelihoods of lm-evaluation-harness: of answers after prompts, rolling over documents, and of choices.

    model: a folder. The harness is told to add no BOS of its own where it rolls: it would give each document two.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    import llmkit
    from llmkit.metrics.perplexity import Windows
    from llmkit.rows import Row
    from llmkit.rows.fields import Prompt, PromptFields
    from llmkit.tasks.choose import DEFAULT_TEMPLATE, ChoiceFields, Choosing

    def asked(kind: str, arguments: list[tuple[str, ...]], **options: Any) -> list[Any]:
        peer = HFLM(pretrained=model, dtype="float32", batch_size=4, device="cpu", **options)
        requests = [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]
        found: list[Any] = getattr(peer, kind)(requests, disable_tqdm=True)
        return found

    rng = random.Random(0)
    nouns, verbs = ["king", "boy", "bee", "old queen", "river"], ["makes", "sees", "loves", "has lost"]
    prompts = [f"On day {day} the {rng.choice(nouns)} {rng.choice(verbs)} the" for day in range(rows)]
    answers = [rng.choice([" honey", " house by the sea.", " of", " stone wall, and more"]) for _ in range(rows)]
    engine = llmkit.load(model, chat_template="none", dtype="float32")
    ours = engine.score_answers([(Prompt(text=p), a) for p, a in zip(prompts, answers, strict=True)])
    theirs = [value for value, _ in asked("loglikelihood", list(zip(prompts, answers, strict=True)))]
    cases = [Case(p, sum(t.logprob for t in tokens), there) for p, tokens, there in zip(prompts, ours, theirs, strict=True)]
    yield "log-likelihood of an answer after a prompt (nats)", cases

    texts = [" ".join(rng.choices([*nouns, *verbs, "and", "then", "."], k=rng.randint(1, 700))) for _ in range(max(4, rows // 10))]
    rolled = asked("loglikelihood_rolling", [(text,) for text in texts], add_bos_token=False)
    found = llmkit.score(engine, texts)
    cases = [Case(text[:40], f.log_likelihood / f.tokens, there / f.tokens) for text, f, there in zip(texts, found, rolled, strict=True)]
    yield "rolling log-likelihood of a document, per token (nats)", cases

    questions: list[dict[str, Any]] = []
    for day in range(rows):
        choices = rng.sample(["honey", "wax and stone", "it", "a small boat", "nothing at all"], 3)
        questions.append({"question": f"On day {day}, what is it that the {rng.choice(nouns)} likes?", "choices": choices, "answer": 0})
    context = engine.context or 1024
    task = Choosing(engine, Windows(context, context), ChoiceFields(PromptFields(DEFAULT_TEMPLATE)), "rows", batch_tokens=4096)
    works = [task.prepare(Row(i, None, dict(q))) for i, q in enumerate(questions)]
    chosen = task.answer(works)
    pairs: list[tuple[str, ...]] = [(f"Question: {q['question']}\nAnswer:", f" {c}") for q in questions for c in q["choices"]]
    flat = [value for value, _ in asked("loglikelihood", pairs)]
    own_values = [value for answer in chosen for value in answer.fields["log_likelihoods"]]
    cases = [Case("".join(pair), value, there) for pair, value, there in zip(pairs, own_values, flat, strict=True)]
    for i, answer in enumerate(chosen):
        own = flat[3 * i : 3 * i + 3]
        lengths = [len(str(c)) for c in questions[i]["choices"]]
        normalized = [value / length for value, length in zip(own, lengths, strict=True)]
        cases.append(Case(f"question {i}", answer.fields["correct"], own.index(max(own)) == 0))
        cases.append(Case(f"question {i}, normalized", answer.fields["correct_normalized"], normalized.index(max(normalized)) == 0))
    yield "multiple choice: log-likelihood of each choice (nats), and which is chosen", cases


def compared(model: str | None, *, short: bool = False) -> Iterator[Agreement]:
    """All that the installed peers can be asked, each when it is known. short: fewer corpora. model: a folder, for the harness; None
    leaves it out.
    """
    corpora = 2 if short else 12
    for what, cases in sacrebleu_scores(corpora):
        yield agreement("sacrebleu", what, 0.0, cases)
    yield agreement("sacrebleu", "paired bootstrap and randomization: scores, p-values", 1e-4, sacrebleu_paired(1 if short else 3))
    simple: list[tuple[str, str, str, Callable[[int], list[Case]]]] = [
        ("jiwer", "jiwer", "word error rate (percent)", word_errors),
        ("rouge-score", "rouge_score", "ROUGE-1, 2, L and Lsum (percent), 1 to 3 references", rouges),
        ("lm_eval", "lm_eval", "SQuAD's normalization", squad),
    ]  # fmt: skip
    for peer, module, what, ask in simple:
        if importlib.util.find_spec(module) is not None:
            yield agreement(peer, what, 1e-9, ask(corpora))
    if model is not None and importlib.util.find_spec("lm_eval") is not None:
        for what, cases in harness(model, 20 if short else 200):
            yield agreement("lm_eval", what, 1e-4, cases)


def said(found: Iterable[Agreement]) -> Iterator[Agreement]:
    """`found`, each with a line on standard error that has its seconds."""
    began = time.monotonic()
    for each in found:
        now = time.monotonic()
        print(f"{now - began:7.1f} s  {each.peer}, {each.what}: {each.agree:,} of {each.cases:,} agree", file=sys.stderr, flush=True)
        for line in each.failed[:10]:
            print(f"           {line}", file=sys.stderr, flush=True)
        yield each
        began = time.monotonic()


def table(found: Iterable[Agreement], model: str | None) -> str:
    """The page docs/agreement.md."""
    lines = [
        "# Agreement with the peers", "",
        "`scripts/peers.py` writes this page. It makes inputs from a seed and gets the expected values by running the other tool.",
        f"The harness ran {Path(model).name if model else 'no model'} in float32 on a CPU.", "",
        "| peer | compared | cases | agree | largest difference | bound |", "|---|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [f"| {a.peer} | {a.what} | {a.cases:,} | {a.agree:,} | {a.largest:.2g} | {a.bound:.2g} |" for a in found]
    lines += [
        "",
        "Rolling log-likelihoods differ because the other tool uses float32: its `log_softmax` over 49,152 scores on a CPU is 4e-6 too",
        "low. llmkit is within 2e-6 of a computation in double precision (`tests/test_double_precision.py`, `python -m bench --double`).",
        "Tokenizers of BLEU that need a download are not compared.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    from llmkit.models.builtin import folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(folder("stories")), help="a folder, for lm-evaluation-harness")
    parser.add_argument("--write", type=Path, help="where the table goes")
    args = parser.parse_args()
    found = list(said(compared(args.model)))
    page = table(found, args.model)
    print(page)
    if args.write is not None:
        args.write.write_text(page, encoding="utf-8")
    sys.exit(any(each.failed for each in found))


if __name__ == "__main__":
    main()
