"""lm-evaluation-harness: its rolling log-likelihood at a batch size. options: `batch`.

Told to add no BOS of its own: by default a tokenizer that adds one gives each document two, and other figures.
"""

from __future__ import annotations

from bench.peers import ON_TORCH, Done, Job, Work

NEEDS = ("lm_eval",)
IMPORTS = (ON_TORCH, "lm_eval.models.huggingface")


def score(job: Job) -> Work:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=job.folder, dtype=job.dtype, batch_size=job.options.get("batch", 8), device="cpu", add_bos_token=False)
    tokens = sum(len(model.tok_encode(text)) for text in job.texts)

    def work(job: Job) -> Done:
        requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(job.texts)]
        return Done(tokens, about={"nats": sum(model.loglikelihood_rolling(requests, disable_tqdm=True))})

    return work


TASKS = {"score": score}
