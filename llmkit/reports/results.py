"""A result as JSON that a later run can be compared with: scores, signatures, and every row's units."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError
from llmkit.files import read_at_most
from llmkit.metrics.base import Example, Result, Score, json_number
from llmkit.version import __version__

if TYPE_CHECKING:
    from llmkit.metrics.statistics import Numbers, Statistic

FORMAT = 1
#: Scores of older results under their present names.
_OLD_NAMES = {"accuracy_normalised": "accuracy_normalized"}


def to_json(result: Result) -> str:
    """The object of `--json`, with what a comparison needs: units, statistics, ids and digests of the rows."""
    return json.dumps(_content(result), ensure_ascii=False, allow_nan=False) + "\n"


def _content(result: Result) -> dict[str, Any]:
    tables: list[Any] = []
    made: dict[str, Any] = {}
    for score in result.scores:
        if score.units is None or score.statistic is None:
            continue
        made[score.name] = {
            "units": _place(tables, score.units), "statistic": score.statistic.as_json(), "higher_is_better": score.higher_is_better,
        } | ({} if score.blocks is None else {"blocks": _place(tables, score.blocks)})  # fmt: skip
    parts = {"parts": {name: _content(part) for name, part in result.parts.items()}} if result.parts else {}
    return (
        result.as_json()
        | parts
        | {
            "llmkit": __version__,
            "format": FORMAT,
            "made": made,
            "units": [[[json_number(x) for x in row] for row in table.tolist()] for table in tables],
            "ids": [example.id for example in result.examples],
            "digests": [example.digest for example in result.examples],
        }
    )


def _place(tables: list[Any], table: Any) -> int:
    """The number of a table, which several scores may share."""
    number = next((i for i, known in enumerate(tables) if known is table), None)
    if number is None:
        number = len(tables)
        tables.append(table)
    return number


def read(path: str) -> Result:
    """The result of an earlier run. Raises InputError for a file that `to_json` didn't write."""
    try:
        return _result(json.loads(read_at_most(Path(path))), path)
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path, hint="a result is written by `report` results.json") from exc
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as exc:
        raise InputError(
            f"is not a result of llmkit evaluate ({type(exc).__name__}: {exc})",
            path=path,
            hint="a result is written by `report` results.json",
        ) from exc


def _result(content: Any, path: str) -> Result:
    """Raises ValueError, KeyError, TypeError, IndexError or AttributeError for what `_content` did not make."""
    import numpy as np

    from llmkit.metrics.statistics import Statistic

    if content["format"] != FORMAT:
        raise InputError(f"a result of another format ({content['format']})", path=path)
    tables = [np.array([[float(x) for x in row] for row in table], dtype=np.float64) for table in content["units"]]
    scores = []
    for name, made in content["made"].items():
        interval, signature = content["intervals"].get(name), content["signatures"][name]
        statistic, units = Statistic.from_json(made["statistic"]), tables[made["units"]]
        value = float(content["scores"][name])
        if not isinstance(signature, str) or not _fits(units, statistic):
            raise ValueError(f"{name} is malformed")
        if not _made(value, units, statistic):
            raise ValueError(f"{name} is not the score of its rows")
        scores.append(
            Score(
                _OLD_NAMES.get(name, name),
                value,
                signature,
                None if interval is None else (float(interval[0]), float(interval[1])),
                bool(made["higher_is_better"]),
                units,
                statistic,
                tables[made["blocks"]] if "blocks" in made else None,
            )
        )
    examples = tuple(Example(str(i), str(d)) for i, d in zip(content["ids"], content["digests"], strict=True))
    if any(score.units is not None and len(score.units) != len(examples) for score in scores):
        raise ValueError("rows and units differ in number")
    parts = {str(name): _result(part, path) for name, part in content.get("parts", {}).items()}
    return Result(tuple(scores), content["rows"], content["counts"], about=content["about"], examples=examples, parts=parts)


def _fits(units: Numbers, statistic: Statistic) -> bool:
    """Whether such rows can have made such a score."""
    if len(units) and not all(0 <= c < units.shape[1] for c in statistic.columns):
        return False
    if not len(units) or statistic.kind not in ("proportion", "percentage"):
        return True
    above, below = (units[:, c] for c in statistic.columns)
    # what is not a number is a score that could not be computed
    return not bool(((above < 0) | (above > 100 * below)).any())


def _made(value: float, units: Numbers, statistic: Statistic) -> bool:
    """Whether it is the score of these units: a comparison is made of them, and a report that was edited by hand would show another."""
    import numpy as np

    from llmkit.metrics.statistics import sums_of

    with np.errstate(all="ignore"):
        found = float(statistic(sums_of(units))[0]) if len(units) else value
    return math.isclose(value, found, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(value) and math.isnan(found))
