"""Results as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.comparisons import Result
from bench.running import Measured


def table(results: Sequence[Result]) -> str:
    """A row per contender. 'llmkit is' says how many times as fast the comparison's first one is; 'of limit' what part of its time the
    machine needs at least."""
    remarks = [remark for result in results for remark in result.remarks]
    return "\n".join([*_lines(results), *([""] if remarks else []), *remarks])


def _lines(results: Sequence[Result]) -> Iterator[str]:
    yield "| comparison | who | s | tokens/s | llmkit is | of limit | MiB |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for result in results:
        first = result.measured[0] if result.measured else None
        for m in result.measured:
            rate = f"{m.tokens / m.median:,.1f}" if m.tokens > 1 else ""
            ratio = "" if first is None or m is first else f"{_speed(result, first) / _speed(result, m):.2f}×"
            least = result.least(m)
            share = "" if least is None else f"{100 * least / m.median:.0f}%"
            yield f"| {result.name} | {m.name} | {m.median:.3f} | {rate} | {ratio} | {share} | {m.peak / 2**20:,.0f} |"
        for name, why in result.skipped.items():
            yield f"| {result.name} | {name} | skipped: {' '.join(why.split())[-100:]} | | | | |"


def _speed(result: Result, m: Measured) -> float:
    """Jobs per second, or tokens where the jobs differ."""
    return (m.tokens if result.by_tokens else 1) / m.median


def picture(results: Sequence[Result], path: Path) -> None:
    """Per comparison a bar for each contender: its speed, as a multiple of llmkit's; a mark where the machine's limit is."""
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"{path}: not drawn, because matplotlib is not installed")
        return

    mpl.use("agg")
    from matplotlib import pyplot as plt

    shown = [r for r in results if len(r.measured) > 1]
    heights = [len(r.measured) for r in shown]
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(9, 0.32 * sum(heights) + 0.75 * len(shown) + 0.4), squeeze=False,
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for result, (axis,) in zip(shown, axes, strict=True):
        ours = _speed(result, result.measured[0])
        values = [_speed(result, m) / ours for m in result.measured]
        names = [m.name for m in result.measured]
        colors = ["tab:blue" if name.startswith("llmkit") else "tab:gray" for name in names]
        bars = axis.barh(names, values, color=colors)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
        for place, m in enumerate(result.measured):
            if (least := result.least(m)) is not None:
                axis.plot([values[place] * m.median / least] * 2, [place - 0.4, place + 0.4], color="tab:red", linewidth=2)
        axis.invert_yaxis()
        axis.set_title(result.name, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(x=0.12)
    axes[-1][0].set_xlabel("speed, as a multiple of llmkit's (red: the machine's limit)", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
