"""How far a model is from a reference model: Kullback-Leibler divergence, same top token, changes of probability.

The figures by which llama.cpp's users judge a quantized model (`llama-perplexity --kl-divergence`), under the same definitions: the
divergence is of the model from the reference, in nats, and changes are of the probability of the text's own token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from llmkit.metrics.base import Score, signature
from llmkit.metrics.intervals import interval_of
from llmkit.metrics.statistics import Numbers, Statistic, sums_of
from llmkit.version import __version__

#: Quantiles of the divergence per token, by the name of their score.
QUANTILES = {"kl_median": 0.5, "kl_p90": 0.9, "kl_p95": 0.95, "kl_p99": 0.99, "kl_p999": 0.999, "kl_max": 1.0}
NAMES = ("kl_divergence", *QUANTILES, "same_top_token", "perplexity_ratio", "mean_delta_p", "rms_delta_p")


class Window(NamedTuple):
    """Sums over the tokens of a window: log-likelihoods (nats) under the model and the reference, the divergence (nats), tokens whose
    most likely token is the same, and the changes of the right token's probability and their squares.
    """

    tokens: float
    log_likelihood: float
    reference_log_likelihood: float
    divergence: float
    same_top: float
    delta_p: float
    delta_p_squared: float


def scores(documents: Sequence[Sequence[Window]], token_divergences: Sequence[float], *, protocol: str) -> tuple[Score, ...]:
    """The figures of all documents, with 95% intervals over documents (over windows, for a single one).

    documents: the windows of each, in order. token_divergences: of every token, for quantiles. protocol: the part of the signature
    that says how the texts were read and what they were held against.
    """
    units = np.array([np.sum(np.array(windows).reshape(-1, 7), axis=0) for windows in documents], dtype=np.float64)
    blocks = np.array(documents[0], dtype=np.float64) if len(documents) == 1 and len(documents[0]) > 1 else None
    sign = f"{protocol}|{signature(version=f'llmkit-{__version__}')}"

    def score(name: str, kind: str, column: Numbers, windows: Numbers | None, *, higher: bool = False, most: float = math.inf) -> Score:
        statistic = Statistic(kind)
        rows = np.stack([column, units[:, 0]], axis=1)
        parts = None if windows is None or blocks is None else np.stack([windows, blocks[:, 0]], axis=1)
        drawn = rows[rows[:, 1] > 0] if parts is None else parts
        drawn_interval = interval_of(drawn, statistic)
        # no score of this kind lies outside
        interval = None
        if drawn_interval is not None:
            least, greatest = drawn_interval
            interval = (least if most == math.inf else max(0.0, least), min(most, greatest))
        return Score(name, float(statistic(sums_of(rows))[0]), sign, interval, higher, rows, statistic, parts)

    def of(column: int, factor: float = 1.0) -> tuple[Numbers, Numbers | None]:
        return factor * units[:, column], None if blocks is None else factor * blocks[:, column]

    with np.errstate(invalid="ignore"):  # a text that both find impossible
        ratio = units[:, 1] - units[:, 2], None if blocks is None else blocks[:, 1] - blocks[:, 2]
    values = np.array(token_divergences, dtype=np.float64)
    # between a number and infinity there is nothing to interpolate
    method: Literal["linear", "higher"] = "linear" if np.isfinite(values).all() else "higher"
    spread = 100 * math.sqrt(float(units[:, 6].sum() / units[:, 0].sum()))
    return (
        score("kl_divergence", "rate", *of(3)),
        *(Score(name, float(np.quantile(values, share, method=method)), sign, higher_is_better=False) for name, share in QUANTILES.items()),
        score("same_top_token", "mean", *of(4, 100.0), higher=True, most=100.0),
        score("perplexity_ratio", "quotient", *ratio),
        score("mean_delta_p", "mean", *of(5, 100.0), higher=True),
        Score("rms_delta_p", spread, sign, higher_is_better=False),
    )
