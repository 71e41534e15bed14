"""Quality gates: conditions on scores that a CI step fails by, and bounds on how much worse than a baseline a score may be.

--fail-if "perplexity > 30"
--fail-if "bleu < 40"
--max-regression 2%
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmkit.errors import UsageError, did_you_mean
from llmkit.metrics.base import Gate, Score

if TYPE_CHECKING:
    from llmkit.metrics.significance import Comparison

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
#: How people write them in prose, and in other languages.
_OTHER_OPERATORS = str.maketrans({"≤": "<=", "≥": ">=", "≠": "!="})
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
#: What is left of a condition whose operator the shell has read as a redirection.
_NAME_ALONE = re.compile(r"\s*[A-Za-z][\w@+.-]*\s*")
_CONDITION = re.compile(rf"\s*(?P<name>[A-Za-z][\w@.-]*(\+\+)?)\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<number>{_NUMBER})\s*(?P<unit>%?)\s*")
#: What people say for the names of our scores, and how older versions spelled them.
_SHORT = {
    "perplexity": "token_perplexity", "ppl": "token_perplexity", "bpb": "bits_per_byte", "chrf++": "chrf",
    "accuracy_normalised": "accuracy_normalized",
}  # fmt: skip
#: Changes of percentages, which small numbers bound as well.
_POINTS = ("mean_delta_p", "rms_delta_p")


@dataclass(frozen=True)
class Condition:
    """A bound that a score must not cross: the gate fails when `score op bound` holds."""

    text: str
    name: str
    op: str
    bound: float
    percent_sign: bool = False

    def check(self, scores: Sequence[Score]) -> Gate:
        """A score that is not a number fails, and so does one that a metric module did not compute."""
        score = next((s for s in scores if _folded(s.name) == _folded(self.name)), None)
        if score is None:
            return Gate(self.text, False, f"'{self.text}': unknown score; available are {', '.join(s.name for s in scores)}")
        if math.isnan(score.value):
            return Gate(self.text, False, f"{score.name} is not a number")
        failed = _OPERATORS[self.op](score.value, self.bound)
        by = f" by {abs(score.value - self.bound):.4g}" if math.isfinite(score.value) else ""
        verdict = f"fails '{self.text}'{by}" if failed else f"passes '{self.text}'{by}"
        return Gate(self.text, not failed, f"{score.name} {score.value:.6g} {verdict}")

    @property
    def remark(self) -> str | None:
        """What is odd about the bound: a fraction where the score is a percentage."""
        from llmkit.metrics.registry import is_percentage

        if self.percent_sign or not 0 < abs(self.bound) <= 1 or not is_percentage(self.name):
            return None
        return f"'{self.text}': {self.name} is a percentage, from 0 to 100; {self.bound:g} is {self.bound:g}%, not {100 * self.bound:g}%"


def conditions(texts: Sequence[str], names: Sequence[str], modules: Sequence[str] = ()) -> list[Condition]:
    """Parses conditions about the scores `names`, before anything is computed.

    modules: those of the names that are metric modules, whose scores are called MODULE_KEY; which there are, they tell when they run.
    Raises UsageError for a malformed condition or an unknown name.
    """
    return [_parse(text, names, modules) for text in texts]


def _parse(text: str, names: Sequence[str], modules: Sequence[str]) -> Condition:
    match = _CONDITION.fullmatch(text.translate(_OTHER_OPERATORS))
    if match is None or not math.isfinite(float(match["number"])):
        hint: str | None = f'a score, one of {" ".join(_OPERATORS)}, and a number: "perplexity > 30"; repeat `fail_if` for more'
        if _NAME_ALONE.fullmatch(text):
            hint = f'put quotes around the whole condition, "{text.strip()} > 30": without them the shell redirects output at > and <'
        raise UsageError(f"`fail_if` '{text}' is not a condition", hint=hint)
    from llmkit.metrics.registry import is_percentage

    wanted = _folded(match["name"])
    name = next((known for known in names if _folded(known) == wanted), None) or _full_name(wanted)
    if name not in names and not any(name.startswith(f"{_folded(module)}_") for module in modules):
        longer = next((known for known in names if name.startswith(f"{known}_")), name)
        meant = [*names, *(short for short, full in _SHORT.items() if full in names)]
        hint = did_you_mean(longer, meant, default=f"there are {', '.join(names)}", cutoff=0.5)
        raise UsageError(f"`fail_if` '{text}': this run computes no '{match['name']}'", hint=hint)
    if match["unit"] and name in names and name not in modules and not (is_percentage(name) or name in _POINTS):
        raise UsageError(f"`fail_if` '{text}': {name} is not a percentage", hint=f'for example "{name} {match["op"]} 2"')
    return Condition(text.strip(), name, match["op"], float(match["number"]), bool(match["unit"]))


def _folded(name: str) -> str:
    """A name as two spellings of it agree: a metric module's is that of its file, with capitals, dots and hyphens."""
    return name.lower().replace("-", "_").replace(".", "_")


def _full_name(name: str) -> str:
    """The score that a short name means; also of an average over files: macro_ppl is macro_token_perplexity."""
    macro, short = ("macro_", name.removeprefix("macro_")) if name.startswith("macro_") else ("", name)
    return macro + _SHORT.get(short, short)


@dataclass(frozen=True)
class Regression:
    """How much worse than its baseline a score may be. text: as it was given; relative: a share of the baseline."""

    text: str
    amount: float
    relative: bool


def regression(text: str) -> Regression:
    """The bound in '2%' or '0.5'. Raises UsageError."""
    match = re.fullmatch(r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)\s*", text)
    if match is None or not math.isfinite(float(match[1])):
        raise UsageError(f"`max_regression` '{text}': neither a percentage nor a number", hint="for example 2% or 0.5")
    return Regression(text, float(match[1]) / (100 if match[2] else 1), bool(match[2]))


def regression_gate(comparison: Comparison, allowed: Regression | None) -> Gate:
    """Without a bound, a significant loss fails; with one, any loss beyond it. A score that is not a number fails."""
    bounded = "not worse than the baseline" + (f" by more than {allowed.text}" if allowed else "")
    name = f"{comparison.name} {bounded}"
    if math.isnan(comparison.value) or math.isnan(comparison.baseline):
        which = comparison.name if math.isnan(comparison.value) else f"the baseline's {comparison.name}"
        return Gate(name, False, f"{which} is not a number")
    if allowed is None:
        return _compared(name, bounded, comparison, passed=not (comparison.worse_by > 0 and comparison.significant))
    bound = allowed.amount * abs(comparison.baseline) if allowed.relative else allowed.amount
    # from infinity nothing is worse; to infinity everything is
    passed = comparison.worse_by <= bound if math.isfinite(comparison.worse_by) else comparison.worse_by < 0
    return _compared(name, bounded, comparison, passed=passed)


def _compared(name: str, bounded: str, comparison: Comparison, *, passed: bool) -> Gate:
    return Gate(name, passed, f"{comparison}; {'passes' if passed else 'fails'} '{bounded}'")
