"""CTranslate2 with its own converter and `tokenizers`, as its documentation has it. options: `quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers import Done, Job, Work

NEEDS = ("ctranslate2", "transformers", "tokenizers")


def _loaded(job: Job) -> tuple[Any, Any]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    place = Path(job.scratch) / f"ctranslate2-{job.options.get('quantize', 'none')}"
    if not place.exists():
        TransformersConverter(job.folder).convert(str(place))
        # a tokenizer without an unknown token leaves a null, which the library can't load (4.8.5)
        config = json.loads((place / "config.json").read_text())
        filled = {name: tokenizer.eos_token if value is None and name.endswith("_token") else value for name, value in config.items()}
        (place / "config.json").write_text(json.dumps(filled))
    kind = "int8" if job.options.get("quantize") == "int8" else job.dtype
    return tokenizer, ctranslate2.Generator(str(place), device="cpu", compute_type=kind)


def generate(job: Job) -> Work:
    tokenizer, generator = _loaded(job)

    def work(job: Job) -> Done:
        prompts = [tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) for text in job.texts]
        found = generator.generate_batch(
            prompts, max_length=job.new_tokens, sampling_topk=1, include_prompt_in_result=False, end_token=[tokenizer.eos_token_id]
        )
        ids = [result.sequences_ids[0] for result in found]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        tokens = sum(map(min, map(len, ids), job.limits)) if job.limits else sum(map(len, ids))
        return Done(tokens, about={"first": texts[0]})

    return work


def score(job: Job) -> Work:
    tokenizer, generator = _loaded(job)

    def work(job: Job) -> Done:
        start = [] if tokenizer.bos_token is None else [tokenizer.bos_token]
        texts = [[*start, *tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])] for text in job.texts]
        found = generator.score_batch(texts, max_batch_size=2048, batch_type="tokens", max_input_length=0)
        values = [value for result in found for value in result.log_probs]
        return Done(len(values), about={"nats": sum(values)})

    return work


TASKS = {"generate": generate, "score": score}
