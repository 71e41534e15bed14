"""Start-up against the least it could be.

    python bench/startup.py [--rounds 11]

`llmkit --help` and `--version` against `python -c "import typer, rich"` (at most 2.5 times); `llmkit generate` on the
built-in model against a bare transformers script that does the same (at most 1.1 times). The script below takes no care
of anything: it is the floor.
"""

from __future__ import annotations

import argparse
import sys

from side_by_side import Contender, measure, report

BARE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
from llmkit.models.builtin import folder
path = folder("stories")
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
inputs = tokenizer("Once upon a time", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=128, do_sample=False)
sys.stdout.write(tokenizer.decode(output[0], skip_special_tokens=True))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    llmkit = [sys.executable, "-m", "llmkit"]
    floor = Contender("import typer, rich", [sys.executable, "-c", "import typer, rich"])
    quick = [floor, Contender("llmkit --help", [*llmkit, "--help"]), Contender("llmkit --version", [*llmkit, "--version"])]
    report(measure(quick, rounds=rounds), against=floor.name)
    print()
    bare = Contender("bare transformers script", [sys.executable, "-c", BARE])
    ours = Contender("llmkit generate", [*llmkit, "generate", "Once upon a time", "--echo", "-q", "--offline"])
    report(measure([bare, ours], rounds=max(3, rounds // 2)), against=bare.name)


if __name__ == "__main__":
    main()
