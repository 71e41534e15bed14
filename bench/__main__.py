"""Every comparison that the installed peers allow, in alternation, with warm-up and medians.

python -m bench --quick                     on a small model made on the spot
python -m bench --model FOLDER              on a model of yours, such as SmolLM2-135M-Instruct
python -m bench growth                      time and memory against rows, prompt length and beams
python -m bench scale                       what more workers, a million rows and a long journal cost
python -m bench estimates                   what `finetune --dry-run` says beside what a run takes
python -m bench documents                   what translating documents costs beside the model's own time

Results go to --out: results.json, results.md and results.png. Ratios hold on a machine with other work; seconds do not.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from bench import comparisons, growth, tables
from bench.comparisons import FULL, QUICK, Bench
from bench.running import apart


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("compare", "growth", "scale", "estimates", "documents"), default="compare")
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds, and not all comparisons")
    parser.add_argument("--model", help="a causal model's folder; without it one is made of random weights")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(comparisons.COMPARISONS))
    parser.add_argument("--texts", type=Path, help="rows with 'text' to train on; without it texts of random words")
    parser.add_argument("--pairs", type=Path, help="English, a tab and French a line, to translate; without it sentences are made")
    parser.add_argument("--double", action="store_true", help="score in double precision as well, and compare the figures")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="growth, scale: numbers of rows")
    parser.add_argument("--steps", type=int, default=12, help="estimates: steps of a run")
    parser.add_argument("--segments", type=int, default=1000, help="documents: segments of a file")
    parser.add_argument("--shorter", type=int, default=1, help="estimates: the rows' lengths, divided by this")
    parser.add_argument("--processor-time", action="store_true", help="estimates: count one thread's processor time, on a busy machine")
    parser.add_argument("--combinations", default="", help="estimates: combinations whose line contains this")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    asked = parser.parse_args()
    for path in filter(None, (asked.model, asked.texts, asked.pairs)):
        if not Path(path).exists():
            parser.error(f"{path} does not exist")
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if asked.what == "growth":
            growth.main(asked.rows, asked.out, Path(scratch), quick=asked.quick)
        elif asked.what == "scale":
            from bench import scale

            scale.main(asked.rows, asked.out, Path(scratch), quick=asked.quick)
        elif asked.what == "estimates":
            from bench import estimates

            estimates.main(
                asked.model, asked.steps, asked.combinations, Path(scratch), shorter=asked.shorter, processor_time=asked.processor_time
            )
        elif asked.what == "documents":
            from bench import documents

            documents.main(asked.segments, asked.out, Path(scratch))
        else:
            compare(asked, Path(scratch))


def compare(asked: argparse.Namespace, scratch: Path) -> None:
    """Measures the machine, then each comparison; prints each table as soon as it is known."""
    from llmkit.models.checkpoint import read_checkpoint
    from llmkit.models.speed import cost

    begun = time.monotonic()
    os.environ["LLMKIT_HOME"] = str(scratch / "cache")
    size = QUICK if asked.quick else FULL
    folder = Path(asked.model).resolve() if asked.model else scratch / "model"
    machine = apart(comparisons.prepare, folder, scratch, layers=None if asked.model else size.layers)
    checkpoint = read_checkpoint(folder)
    bench = Bench(
        size,
        str(folder),
        scratch,
        machine,
        cost(checkpoint, dtype="float32"),
        asked.double,
        asked.texts and asked.texts.resolve(),
        asked.pairs,
    )
    rates = ", ".join(f"{rate / 1e9:.1f} GFLOP/s in {dtype}" for dtype, rate in machine.rates.items())
    head = f"{checkpoint.parameters / 1e6:.0f} M weights, float32 unless said; memory {machine.bandwidth / 1e9:.1f} GB/s, {rates}"
    print(head, flush=True)
    results = []
    for name in asked.only or [name for name in comparisons.COMPARISONS if not (asked.quick and name in comparisons.LONG)]:
        found = comparisons.COMPARISONS[name](bench)
        results += found
        print(tables.table(found), flush=True)
    last = f"{time.monotonic() - begun:.0f} s"
    (asked.out / "results.md").write_text(f"{head}\n\n{tables.table(results)}\n\n{last}\n")
    (asked.out / "results.json").write_text(comparisons.as_json(results) + "\n")
    tables.picture(results, asked.out / "results.png")
    print(f"{last}; results are in {asked.out}")


if __name__ == "__main__":
    main()
