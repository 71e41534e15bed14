"""A result as JSON that a later run can be compared with: scores, signatures, and every row's units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmkit import __version__
from llmkit.errors import InputError
from llmkit.metrics.base import Example, Result, Score

FORMAT = 1


def to_json(result: Result) -> str:
    """The object of `--json`, with what a comparison needs: units, statistics, ids and digests of the rows."""
    tables: list[Any] = []
    made: dict[str, Any] = {}
    for score in result.scores:
        if score.units is None or score.statistic is None:
            continue
        number = next((i for i, table in enumerate(tables) if table is score.units), None)
        if number is None:
            number = len(tables)
            tables.append(score.units)
        made[score.name] = {"units": number, "statistic": score.statistic.as_json(), "higher_is_better": score.higher_is_better}
    content = result.as_json() | {
        "llmkit": __version__,
        "format": FORMAT,
        "made": made,
        "units": [table.tolist() for table in tables],
        "ids": [example.id for example in result.examples],
        "digests": [example.digest for example in result.examples],
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def read(path: str) -> Result:
    """The result of an earlier run. Raises InputError for a file that `to_json` didn't write."""
    import numpy as np

    from llmkit.metrics.statistics import Statistic

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"a result of another format ({content['format']})", path=path)
        tables = [np.array(table, dtype=np.float64) for table in content["units"]]
        scores = []
        for name, made in content["made"].items():
            interval = content["intervals"].get(name)
            scores.append(
                Score(
                    name,
                    float(content["scores"][name]),
                    content["signatures"][name],
                    None if interval is None else (float(interval[0]), float(interval[1])),
                    bool(made["higher_is_better"]),
                    tables[made["units"]],
                    Statistic.from_json(made["statistic"]),
                )
            )
        examples = tuple(Example(str(i), str(d)) for i, d in zip(content["ids"], content["digests"], strict=True))
        if any(score.units is not None and len(score.units) != len(examples) for score in scores):
            raise ValueError("rows and units differ in number")
        return Result(tuple(scores), content["rows"], content["counts"], about=content["about"], examples=examples)
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", path=path, hint="a result is written by --report results.json") from exc
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        raise InputError(
            f"is not a result of llmkit evaluate ({type(exc).__name__}: {exc})",
            path=path,
            hint="a result is written by --report results.json",
        ) from exc
