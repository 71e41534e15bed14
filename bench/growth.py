"""How cost grows: time and peak memory against rows, prompt length and beams, each with its slope where both axes are logarithmic.

A slope of 1 is in proportion, 0 no growth. Of rows: a job (reading, planning, journal, writing) with a task that answers at once,
and what finetune does with its rows before it trains (judging, tokenizing). Their start-up counts, so
few rows seem to cost more than their share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import synthetic
from bench.peers import Job
from bench.running import Contender, alternate, apart, environment, process

JOB = """
import sys
from llmkit.cli.console import Console
from llmkit.jobs.run import RunName, file_job
from llmkit.jobs.settings import JobSettings
from llmkit.jobs.outcome import Answer
from llmkit.jobs.output import Output
from llmkit.jobs.batching import Work
from llmkit.rows import open_rows

class Echo:
    width = 1
    def prepare(self, row):
        return Work(row, row.fields["prompt"], len(row.fields["prompt"]), 1)
    def answer(self, batch, *_):
        return [Answer({"text": work.payload}, None, 1, 1) for work in batch]

rows, output = open_rows(sys.argv[1]), Output(sys.argv[2], overwrite=True)
file_job(rows, Echo(), JobSettings(), output, Console(True), RunName("generate"))
output.release()
"""
TRAINING = """
import sys
from transformers import PreTrainedTokenizerFast
from llmkit.engines.chat import ChatSettings
from llmkit.models.builtin import folder
from llmkit.rows import open_rows
from llmkit.rows.samples import SampleFields, check_rows
from llmkit.training.examples import Encoder

tokenizer = PreTrainedTokenizerFast.from_pretrained(folder("stories"))
rows = open_rows(sys.argv[1])
samples = check_rows(rows, SampleFields(prompt="prompt", completion="prompt"), rows.name).samples
Encoder(tokenizer, ChatSettings(), 512).examples(samples, rows.name)
"""
#: (x, seconds, peak bytes)
Point = tuple[float, float, int]


def main(rows: Sequence[int], out: Path, scratch: Path, *, quick: bool) -> None:
    """Measures each series, prints it with its slopes, and writes growth.json and growth.png."""
    folder = str(apart(synthetic.model_folder, scratch / "model", layers=4 if quick else 12))
    lengths, beams = ((16, 64, 256), (1, 2, 4)) if quick else ((16, 64, 256, 512, 960), (1, 2, 4, 8))
    series = {
        "rows of a job": _rows(JOB, rows, scratch),
        "rows of a training, before it": _rows(TRAINING, rows, scratch),
        "words of a prompt": [_generate(folder, scratch, n, words=n, beams=1) for n in lengths],
        "beams": [_generate(folder, scratch, n, words=32, beams=n) for n in beams],
    }
    for name, points in series.items():
        print(f"{name}: time grows with exponent {slope(points, 1):.2f}, memory with {slope(points, 2):.2f}")
        for x, seconds, peak in points:
            print(f"  {x:>9,.0f} {seconds:9.2f} s {peak / 2**20:9.0f} MiB", flush=True)
    (out / "growth.json").write_text(json.dumps(series, indent=1) + "\n")
    _picture(series, out / "growth.png")
    print(f"results are in {out}")


def slope(points: Sequence[Point], column: int) -> float:
    """The exponent of growth: of the least-squares line through the logarithms."""
    import numpy as np

    x, y = (np.log([point[i] for point in points]) for i in (0, column))
    return float(np.polyfit(x, y, 1)[0])


def _rows(code: str, counts: Sequence[int], scratch: Path) -> list[Point]:
    points = []
    for count in counts:
        path = scratch / f"{count}.jsonl"
        with path.open("w") as file:
            file.writelines(f'{{"id": {number}, "prompt": "row number {number} of a long file"}}\n' for number in range(count))
        done = process([sys.executable, "-c", code, str(path), f"{path}.out.jsonl"], environment())
        points.append((float(count), done.seconds, done.peak))
    return points


def _generate(folder: str, scratch: Path, x: int, *, words: int, beams: int) -> Point:
    """8 prompts of `words` words, 16 new tokens each, on torch: time of the answers without loading, peak of the whole process."""
    options = {"engine": "torch", "beams": beams}
    job = Job(folder, synthetic.texts(8, (words, words)), new_tokens=16, scratch=str(scratch))
    (found,), _ = alternate([Contender("llmkit", "llmkit_itself", options)], "generate", job, 3)
    return (float(x), found.median, found.peak)


def _picture(series: dict[str, list[Point]], path: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"{path}: not drawn, because matplotlib is not installed")
        return

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(series), figsize=(4 * len(series), 6), layout="constrained")
    for column, (name, points) in enumerate(series.items()):
        for row, (what, scale) in enumerate((("seconds", 1), ("peak MiB", 2**20))):
            axis = axes[row][column]
            axis.plot([p[0] for p in points], [p[row + 1] / scale for p in points], marker="o")
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel=what)
            low, high = axis.get_ylim()
            axis.set_ylim(low / 2, high * 2)  # so that no growth looks like none
            axis.set_xticks([p[0] for p in points], [f"{p[0]:,.0f}" for p in points], fontsize=8)
            axis.minorticks_off()
            shown: list[float] = []
            for value in sorted(p[row + 1] / scale for p in points):
                if not shown or value > 1.25 * shown[-1]:  # a label has its room
                    shown.append(value)
            axis.set_yticks(shown, [f"{value:,.2g}" if value < 100 else f"{value:,.0f}" for value in shown], fontsize=8)
            axis.set_title(f"exponent {slope(points, row + 1):.2f}", fontsize=10)
            axis.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
