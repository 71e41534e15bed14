"""Quality gates: conditions on scores that a CI step fails by.

--fail-if "perplexity > 30"
--fail-if "bleu < 40"
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmkit.errors import UsageError
from llmkit.metrics.base import Gate, Score

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_CONDITION = re.compile(rf"\s*(?P<name>[A-Za-z][\w@-]*)\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<number>{_NUMBER})\s*(?P<unit>%?)\s*")
#: What people say for the names of our scores.
_SHORT = {"perplexity": "token_perplexity", "ppl": "token_perplexity", "bpb": "bits_per_byte", "chrf++": "chrf"}

_NOT_PERCENT = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mean_log_likelihood")


@dataclass(frozen=True)
class Condition:
    """A bound that a score must not cross: the gate fails when `score op bound` holds."""

    text: str
    name: str
    op: str
    bound: float

    def check(self, scores: Sequence[Score]) -> Gate:
        """A score that is not a number fails. Raises UsageError for a name that no score has (of a metric module)."""
        score = next((s for s in scores if s.name == self.name), None)
        if score is None:
            raise UsageError(f"--fail-if '{self.text}': there is no such score", hint=f"there are {', '.join(s.name for s in scores)}")
        if math.isnan(score.value):
            return Gate(self.text, False, f"{self.name} is not a number")
        failed = _OPERATORS[self.op](score.value, self.bound)
        by = abs(score.value - self.bound)
        verdict = f"fails '{self.text}' by {by:.4g}" if failed else f"keeps clear of '{self.text}' by {by:.4g}"
        return Gate(self.text, not failed, f"{self.name} {score.value:.6g} {verdict}")


def conditions(texts: Sequence[str], names: Sequence[str]) -> list[Condition]:
    """Parses conditions about the scores `names`, before anything is computed.

    Raises UsageError for a malformed condition or an unknown name.
    """
    return [_parse(text, names) for text in texts]


def _parse(text: str, names: Sequence[str]) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-if '{text}' is not a condition", hint='for example "perplexity > 30"')
    name = match["name"].lower().replace("-", "_")
    name = _SHORT.get(name, name) if name not in names else name
    if name not in names and not any(name.startswith(f"{known}_") for known in names):
        close = difflib.get_close_matches(name, [*names, *_SHORT], n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
        raise UsageError(f"--fail-if '{text}': this run computes no '{match['name']}'", hint=hint)
    if match["unit"] and name in _NOT_PERCENT:
        raise UsageError(f"--fail-if '{text}': {name} is not a percentage", hint=f'for example "{name} {match["op"]} 2"')
    return Condition(text.strip(), name, match["op"], float(match["number"]))
