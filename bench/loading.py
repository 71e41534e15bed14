"""Loading the built-in models, beyond the imports, against transformers' own two calls.

    python bench/loading.py [--rounds 7]

llmkit also checks hashes, headers, memory and weights. Seconds are medians; loading should stay under 0.3 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from llmkit.engines.torch.loading import load
from llmkit.models.builtin import folder, names
from llmkit.models.settings import ModelSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for name in names():
        path = folder(name)
        auto = AutoModelForSeq2SeqLM if name == "en-fr" else AutoModelForCausalLM

        def bare(path: object = path, auto: type = auto) -> None:
            AutoTokenizer.from_pretrained(path)
            auto.from_pretrained(path, dtype="float32")  # type: ignore[attr-defined]

        ours, theirs = _seconds(lambda name=name: load(ModelSettings(f"builtin:{name}")), bare, rounds=rounds)
        print(f"builtin:{name:<10} llmkit {ours:.3f} s, from_pretrained {theirs:.3f} s: {ours / theirs:.2f} times")


def _seconds(*calls: Callable[[], object], rounds: int) -> list[float]:
    """The median of each call, taken in turn after one round that imports what is needed."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, seconds in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call()
            if number:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in taken]


if __name__ == "__main__":
    main()
