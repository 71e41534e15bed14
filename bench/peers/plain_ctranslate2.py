"""CTranslate2 with its own converter and `tokenizers`, as its documentation has it. options: `quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers import Done, Job, Work

NEEDS = ("ctranslate2", "transformers", "tokenizers")
IMPORTS = ("ctranslate2", "tokenizers")


def convert(folder: str, place: Path) -> Path:
    """Writes the model's form for the library, once. It is for one process: others that want it too have to wait."""
    if not place.exists():
        from ctranslate2.converters import TransformersConverter
        from transformers import AutoTokenizer

        TransformersConverter(folder).convert(str(place))
        # a tokenizer without an unknown token leaves a null, which the library can't load (4.8.5)
        config, eos = json.loads((place / "config.json").read_text()), AutoTokenizer.from_pretrained(folder).eos_token
        filled = {name: eos if value is None and name.endswith("_token") else value for name, value in config.items()}
        (place / "config.json").write_text(json.dumps(filled))
    return place


def form(scratch: str | Path) -> Path:
    """Where the form of a comparison's model lies."""
    return Path(scratch) / "ctranslate2"


def _loaded(job: Job) -> tuple[Any, dict[str, Any], Any]:
    """The tokenizer, its special tokens, and the model."""
    import ctranslate2
    from tokenizers import Tokenizer

    special = json.loads((Path(job.folder) / "tokenizer_config.json").read_text())
    tokens = {name: value["content"] if isinstance(value, dict) else value for name, value in special.items() if name.endswith("_token")}
    kind = "int8" if job.options.get("quantize") == "int8" else job.dtype
    model = ctranslate2.Generator(str(convert(job.folder, form(job.scratch))), device="cpu", compute_type=kind)
    return Tokenizer.from_file(job.folder + "/tokenizer.json"), tokens, model


def generate(job: Job) -> Work:
    tokenizer, special, generator = _loaded(job)

    def work(job: Job) -> Done:
        prompts = [encoding.tokens for encoding in tokenizer.encode_batch(job.texts)]
        found = generator.generate_batch(
            prompts, max_length=job.new_tokens, sampling_topk=1, include_prompt_in_result=False, end_token=special["eos_token"]
        )
        ids = [result.sequences_ids[0] for result in found]
        texts = tokenizer.decode_batch(ids)
        tokens = sum(map(min, map(len, ids), job.limits)) if job.limits else sum(map(len, ids))
        return Done(tokens, about={"first": texts[0]})

    return work


def score(job: Job) -> Work:
    """In windows of the model's context, each token once: the last window begins before what is left of its text, as those of others do."""
    tokenizer, special, generator = _loaded(job)
    config = json.loads((Path(job.folder) / "config.json").read_text())
    context = config.get("max_position_embeddings") or config["n_positions"]

    def work(job: Job) -> Done:
        start = [special["bos_token"]] if special.get("bos_token") else []
        windows, new = [], []
        for encoding in tokenizer.encode_batch(job.texts, add_special_tokens=False):
            text = [*start, *encoding.tokens]
            ends = [*range(context, len(text) - 1, context), len(text) - 1]
            windows += [text[max(0, end - context) : end + 1] for end in ends]
            new += [end - before for before, end in zip([0, *ends], ends, strict=False)]
        found = generator.score_batch(windows, max_batch_size=2048, batch_type="tokens", max_input_length=0)
        values = [value for result, count in zip(found, new, strict=True) for value in result.log_probs[-count:]]
        return Done(len(values), about={"nats": sum(values)})

    return work


TASKS = {"generate": generate, "score": score}
