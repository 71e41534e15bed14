"""The options of `llmkit evaluate`: which scores, against what, and what a result must keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import options as opt
from llmkit.cli.parameter_source import on_command_line
from llmkit.cli.parsing import INPUT, LIST, RUN, SCORING, SHOW, choice_option, count_option, field_option, group, number_option, option
from llmkit.errors import UsageError, counted

if TYPE_CHECKING:
    from llmkit.cli.commands.evaluate.reporting import Ending
    from llmkit.cli.console import Console
    from llmkit.engines.base import TextEngine
    from llmkit.jobs.executor import Task
    from llmkit.metrics.overlap import OverlapSettings


def _metrics() -> list[str]:
    from llmkit.metrics.registry import names

    return list(names())


def _tokenizers() -> list[str]:
    from llmkit.metrics.overlap import TOKENIZERS

    return list(TOKENIZERS)


def _normalizations() -> list[str]:
    from llmkit.metrics.answers import STEPS

    return list(STEPS)


Test = Annotated[
    str,
    choice_option(
        "--test", help="Significance test.", panel=SCORING, values=("auto", "bootstrap", "randomization", "mcnemar"),
        aliases={"randomisation": "randomization"},
    ),
]  # fmt: skip
Baseline = Annotated[str | None, option("--baseline", help="Compare with an earlier --report FILE.json.", panel=SCORING, metavar="FILE")]
MaxRegression = Annotated[
    str | None,
    option("--max-regression", help="Exit 4 if worse than the baseline by more than this: 2% or 0.5.", panel=SCORING, metavar="BOUND"),
]
Report = Annotated[list[str] | None, option("--report", help="Also write .json, .md, .xml (JUnit) or .html.", panel=SHOW, metavar="FILE")]


@group
class GateOptions:
    """What a result must keep, and where it is also written."""

    fail_if: Annotated[
        list[str] | None,
        option("--fail-if", help='Exit 4 if true: "perplexity > 30", "accuracy < 90%".', panel=SCORING, metavar="CONDITION"),
    ] = None
    baseline: Baseline = None
    max_regression: MaxRegression = None
    test: Test = "auto"
    report: Report = None

    def ending(self, ctx: typer.Context, names: Sequence[str], *, json_output: bool, modules: Sequence[str] = ()) -> Ending:
        """How an evaluation of the scores `names` ends. modules: see `llmkit.metrics.gates.conditions`. Raises UsageError or InputError."""
        from llmkit.cli.command import command_line, refuse
        from llmkit.cli.commands.evaluate.reporting import ending
        from llmkit.cli.session import session_of

        session = session_of(ctx)
        if self.baseline is None:
            refuse(ctx, ("test",), "needs --baseline")
        return ending(
            names, fail_if=self.fail_if, reports=self.report, json_output=json_output, baseline=self.baseline,
            max_regression=self.max_regression, test=self.test, modules=modules, session=session,
            command="" if session is not None else command_line(ctx),
        )  # fmt: skip


@group
class CacheOptions:
    """Whether answers and scores are kept for later runs."""

    cache: Annotated[
        str | None,
        option("--cache", help="Keep answers and scores in this folder: unchanged rows are not run again.", panel=RUN, metavar="DIR"),
    ] = None

    def check(self) -> None:
        """Raises OutputError for a folder that can't be a cache."""
        if self.cache is not None:
            from llmkit.jobs.cache import check

            check(self.cache)

    @contextmanager
    def over(self, task: Task, engine: TextEngine, identity: Mapping[str, Any], out: Console, *, by_place: bool = False) -> Iterator[Task]:
        """`task` of `engine`, asked only for what the cache does not hold (see `llmkit.jobs.cache.CachedTask`).

        A server shows no hash of its weights, so what it answered counts for its address alone.
        """
        if self.cache is None:
            yield task
            return
        from llmkit.jobs.cache import Cache, CachedTask

        store = Cache(self.cache, out)
        where = {"servers": sorted(engine.servers)} if engine.servers else {}
        cached = CachedTask(task, store, {**identity, **where}, by_place=by_place)
        try:
            yield cached
            out.notice(f"{counted(cached.known, 'row')} from the cache {self.cache}")
        finally:
            store.trim()


@group
class SavedOutputs:
    """Outputs that were saved earlier, and their references, in plain files."""

    predictions: Annotated[
        list[str] | None,
        option("--predictions", "-p", help="Saved outputs, one per line (repeatable).", panel=INPUT, metavar="FILE"),
    ] = None
    references: Annotated[
        list[str] | None,
        option("--references", "-r", help="References, one per line (repeatable).", panel=INPUT, metavar="FILE"),
    ] = None


@group
class ScoreFields:
    """Fields of the rows that hold prediction, reference and source."""

    prediction_field: Annotated[str | None, field_option("--prediction-field", help="The field with the saved output.", panel=INPUT)] = None
    reference_field: Annotated[str | None, field_option("--reference-field", help="The field with the reference(s).", panel=INPUT)] = None
    source_field: Annotated[str | None, field_option("--source-field", help="The field that the model answers.", panel=INPUT)] = None


@group
class MetricOptions:
    """Which metrics, and their parameters under sacrebleu's names."""

    metrics: Annotated[
        str,
        option(
            "--metrics", help="bleu,chrf,ter,exact_match,accuracy,f1,wer,rouge, or a module of evaluate.",
            panel=SCORING, metavar=LIST, autocompletion=_metrics,
        ),
    ] = "bleu"  # fmt: skip
    tokenize: Annotated[
        str | None,
        option(
            "--tokenize", "-tok", help="Tokenizer of BLEU: 13a, intl, char, zh, ... [default: 13a]",
            panel=SCORING, metavar="NAME", autocompletion=_tokenizers,
        ),
    ] = None  # fmt: skip
    lowercase: Annotated[bool, option("--lowercase", "-lc", help="BLEU and chrF ignore case.", panel=SCORING)] = False
    smooth_method: Annotated[
        str, choice_option("--smooth-method", help="Smoothing of BLEU.", panel=SCORING, values=("exp", "floor", "add-k", "none"))
    ] = "exp"
    smooth_value: Annotated[
        float | None, number_option("--smooth-value", help="BLEU: value for smoothing. [default: floor 0.1, add-k 1]", panel=SCORING)
    ] = None
    effective_order: Annotated[
        bool, option("--effective-order", help="BLEU: leave out n-gram orders without a match, for single sentences.", panel=SCORING)
    ] = False
    chrf_char_order: Annotated[int, count_option("--chrf-char-order", help="chrF: character n-grams up to N.", panel=SCORING)] = 6
    chrf_word_order: Annotated[
        int, count_option("--chrf-word-order", help="chrF: word n-grams up to N; 2 gives chrF++.", panel=SCORING)
    ] = 0
    chrf_beta: Annotated[int, count_option("--chrf-beta", help="chrF: weight of recall.", panel=SCORING)] = 2
    chrf_whitespace: Annotated[bool, option("--chrf-whitespace", help="chrF: count spaces as characters.", panel=SCORING)] = False
    chrf_eps_smoothing: Annotated[
        bool, option("--chrf-eps-smoothing", help="chrF: smooth by an epsilon, as NLTK and Moses do.", panel=SCORING)
    ] = False
    ter_normalized: Annotated[bool, option("--ter-normalized", help="TER: split punctuation from words.", panel=SCORING)] = False
    ter_no_punct: Annotated[bool, option("--ter-no-punct", help="TER: remove punctuation.", panel=SCORING)] = False
    ter_asian_support: Annotated[
        bool, option("--ter-asian-support", help="TER: apply these two to Chinese and Japanese, too.", panel=SCORING)
    ] = False
    ter_case_sensitive: Annotated[bool, option("--ter-case-sensitive", help="TER: distinguish case.", panel=SCORING)] = False
    confidence: Annotated[
        bool, option("--confidence", "-ci", help="Intervals of BLEU, chrF, TER by sacreBLEU's bootstrap.", panel=SCORING)
    ] = False
    confidence_n: Annotated[int, count_option("--confidence-n", help="Number of resamples for --confidence.", panel=SCORING)] = 1000
    normalize: Annotated[
        str,
        option(
            "--normalize", help="exact_match, f1, wer, rouge: none, or some of unicode,case,punctuation,articles,space.",
            panel=SCORING, metavar=LIST, autocompletion=_normalizations,
        ),
    ] = "none"  # fmt: skip

    @property
    def overlap(self) -> OverlapSettings:
        """Settings of the text metrics."""
        from llmkit.metrics.overlap import OverlapSettings

        own = {field.name: getattr(self, field.name) for field in fields(OverlapSettings)}
        return OverlapSettings(**own | {"confidence_n": self.confidence_n if self.confidence else 0})


def refuse_unread(ctx: typer.Context, metrics: Sequence[str]) -> None:
    """Raises UsageError for an option on the command line that none of the metrics reads."""
    from llmkit.cli.command import refuse
    from llmkit.metrics.registry import READERS, readers

    there = readers(metrics)
    for name, of in READERS.items():
        if not of & there:
            wanted = ", ".join(sorted(of))
            refuse(ctx, (name,), f"applies to {wanted}, not to {', '.join(metrics)}", hint="remove it, or change --metrics")


@group
class SamplingOptions:
    """Sampled answers, and how many of them each row gets."""

    repeat: Annotated[
        int, count_option("--repeat", help="Sample N answers per row, and score all of them (with --temperature).", panel=SCORING)
    ] = 1
    temperature: opt.Temperature = 0.0
    top_k: opt.TopK = None
    top_p: opt.TopP = None
    min_p: opt.MinP = None
    seed: opt.Seed = 0

    def decoding(self, ctx: typer.Context) -> dict[str, Any]:
        """Fields of `llmkit.engines.decoding.Decoding`. Raises UsageError for several samples of an answer that is always the same.

        Filters of sampling from the environment or a configuration file are for runs that sample; a greedy run drops them.
        """
        if self.repeat < 1:
            raise UsageError(f"`repeat` {self.repeat}: it must be 1 or more")
        if self.repeat > 1 and self.temperature == 0:
            raise UsageError(f"`repeat` {self.repeat}: at temperature 0 all answers are the same", hint="add `temperature` 1")
        filters = {name: getattr(self, name) for name in ("top_k", "top_p", "min_p")}
        if self.temperature == 0:
            filters = {name: value for name, value in filters.items() if on_command_line(ctx, name)}
        return filters | {"temperature": self.temperature, "seed": self.seed, "num_samples": self.repeat}


@group
class PairedOptions:
    """sacrebleu's paired tests of several saved outputs."""

    paired_bs: Annotated[bool, option("--paired-bs", help="Compare several -p with the first: paired bootstrap.", panel=SCORING)] = False
    paired_ar: Annotated[
        bool, option("--paired-ar", help="Compare several -p with the first: approximate randomization.", panel=SCORING)
    ] = False
    paired_bs_n: Annotated[int, count_option("--paired-bs-n", help="Number of resamples for --paired-bs.", panel=SCORING)] = 1000
    paired_ar_n: Annotated[int, count_option("--paired-ar-n", help="Number of trials for --paired-ar.", panel=SCORING)] = 10_000
