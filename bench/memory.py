"""Peak memory against the number of rows: of a job (reading, planning, journal and writing, with a task that answers at once),
and of what finetune does with its rows before it trains (judging and tokenizing).

python bench/memory.py [--rows 10000 1000000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from side_by_side import Contender, measure, report

JOB = """
import sys
from llmkit.cli.console import Console
from llmkit.jobs.run import JobSettings, RunName, file_job
from llmkit.jobs.outcome import Answer
from llmkit.jobs.output import Output
from llmkit.jobs.batching import Work
from llmkit.rows import open_rows

class Echo:
    width = 1
    def prepare(self, row):
        return Work(row, row.fields["prompt"], len(row.fields["prompt"]), 1)
    def answer(self, batch):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    with tempfile.TemporaryDirectory() as scratch:
        jobs, training = [], []
        for count in parser.parse_args().rows:
            path = Path(scratch) / f"{count}.jsonl"
            with path.open("w") as file:
                for number in range(count):
                    file.write(f'{{"id": {number}, "prompt": "row number {number} of a long file"}}\n')
            jobs.append(Contender(f"job, {count:,} rows", [sys.executable, "-c", JOB, str(path), f"{path}.out.jsonl"]))
            training.append(Contender(f"training, {count:,} rows", [sys.executable, "-c", TRAINING, str(path)]))
        for contenders in (jobs, training):
            report(measure(contenders, rounds=1, warm_up=False), against=contenders[0].name)


if __name__ == "__main__":
    main()
