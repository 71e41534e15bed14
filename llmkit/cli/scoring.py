"""The options of `llmkit evaluate`: which scores, against what, and what a result must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from llmkit.cli.parsing import INPUT, SCORING, SHOW, choice_option, count_option, number_option, option

if TYPE_CHECKING:
    from llmkit.cli.commands.evaluate.reporting import Ending
    from llmkit.metrics.overlap import OverlapSettings

Test = Annotated[
    str,
    choice_option(
        "--test", help="Significance test.", panel=SCORING, values=("auto", "bootstrap", "randomization", "mcnemar"),
        aliases={"randomisation": "randomization"},
    ),
]  # fmt: skip


@dataclass(frozen=True)
class GateOptions:
    """What a result must keep, and where it is also written."""

    fail_if: Annotated[
        list[str] | None,
        option("--fail-if", help='Exit 4 if true: "perplexity > 30" (repeatable).', panel=SCORING, metavar="CONDITION"),
    ] = None
    baseline: Annotated[
        str | None, option("--baseline", help="Compare with an earlier --report FILE.json.", panel=SCORING, metavar="FILE")
    ] = None
    max_regression: Annotated[
        str | None,
        option("--max-regression", help="Exit 4 if worse than the baseline by this: 2%, 0.5.", panel=SCORING, metavar="BOUND"),
    ] = None
    test: Test = "auto"
    report: Annotated[
        list[str] | None, option("--report", help="Also write .json, .md, .xml (JUnit) or .html.", panel=SHOW, metavar="FILE")
    ] = None

    def ending(self, names: Sequence[str], *, json_output: bool) -> Ending:
        """How an evaluation of the scores `names` ends. Raises UsageError or InputError."""
        from llmkit.cli.commands.evaluate.reporting import ending

        return ending(
            names, fail_if=self.fail_if, reports=self.report, json_output=json_output, baseline=self.baseline,
            max_regression=self.max_regression, test=self.test,
        )  # fmt: skip


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class ScoreFields:
    """Fields of the rows that hold prediction, reference and source."""

    prediction_field: Annotated[
        str | None, option("--prediction-field", help="The field with the saved output.", panel=INPUT, metavar="NAME")
    ] = None
    reference_field: Annotated[
        str | None, option("--reference-field", help="The field with the reference(s).", panel=INPUT, metavar="NAME")
    ] = None
    source_field: Annotated[str | None, option("--source-field", help="The field that the model answers.", panel=INPUT, metavar="NAME")] = (
        None
    )


@dataclass(frozen=True)
class MetricOptions:
    """Which metrics, and their parameters under sacrebleu's names."""

    metrics: Annotated[
        str,
        option(
            "--metrics", help="bleu,chrf,ter,exact_match,accuracy,f1,wer,rouge, or a module of evaluate.",
            panel=SCORING,
        ),
    ] = "bleu"  # fmt: skip
    tokenize: Annotated[
        str | None, option("--tokenize", "-tok", help="Tokenizer of BLEU: 13a, intl, char, zh, ... [default: 13a]", panel=SCORING)
    ] = None
    lowercase: Annotated[bool, option("--lowercase", "-lc", help="BLEU and chrF ignore case.", panel=SCORING)] = False
    smooth_method: Annotated[
        str, choice_option("--smooth-method", help="Smoothing of BLEU.", panel=SCORING, values=("exp", "floor", "add-k", "none"))
    ] = "exp"
    smooth_value: Annotated[
        float | None, number_option("--smooth-value", help="BLEU: value for smoothing floor and add-k.", panel=SCORING)
    ] = None
    chrf_char_order: Annotated[int, count_option("--chrf-char-order", help="chrF: character n-grams up to N.", panel=SCORING)] = 6
    chrf_word_order: Annotated[
        int, count_option("--chrf-word-order", help="chrF: word n-grams up to N; 2 gives chrF++.", panel=SCORING)
    ] = 0
    chrf_beta: Annotated[int, count_option("--chrf-beta", help="chrF: weight of recall.", panel=SCORING)] = 2
    confidence: Annotated[bool, option("--confidence", "-ci", help="95% intervals of BLEU, chrF, TER by bootstrap.", panel=SCORING)] = False
    confidence_n: Annotated[int, count_option("--confidence-n", help="Number of resamples for --confidence.", panel=SCORING)] = 1000
    normalize: Annotated[
        str, option("--normalize", help="exact_match and f1: none, or some of unicode,case,punctuation,articles,space.", panel=SCORING)
    ] = "none"

    @property
    def overlap(self) -> OverlapSettings:
        """Settings of the text metrics."""
        from llmkit.metrics.overlap import OverlapSettings

        return OverlapSettings(
            self.tokenize, self.lowercase, self.smooth_method, self.smooth_value, self.chrf_char_order, self.chrf_word_order,
            self.chrf_beta, self.confidence_n if self.confidence else 0,
        )  # fmt: skip


@dataclass(frozen=True)
class PairedOptions:
    """sacrebleu's paired tests of several saved outputs."""

    paired_bs: Annotated[bool, option("--paired-bs", help="Compare several -p with the first: paired bootstrap.", panel=SCORING)] = False
    paired_ar: Annotated[
        bool, option("--paired-ar", help="Compare several -p with the first: approximate randomization.", panel=SCORING)
    ] = False
    paired_bs_n: Annotated[int, count_option("--paired-bs-n", help="Number of resamples for --paired-bs.", panel=SCORING)] = 1000
    paired_ar_n: Annotated[int, count_option("--paired-ar-n", help="Number of trials for --paired-ar.", panel=SCORING)] = 10_000
