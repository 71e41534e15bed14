"""transformers, as its documentation writes the loops. options: `batch` prompts at a time, `seq2seq` for a translator, `beams`."""

from __future__ import annotations

from typing import Any

from bench.peers import ON_TORCH, Done, Job, Work

NEEDS = ("transformers", "torch")
IMPORTS = (ON_TORCH,)


def _loaded(job: Job, *, seq2seq: bool = False) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.folder, padding_side="right" if seq2seq else "left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    kind = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return tokenizer, kind.from_pretrained(job.folder, dtype=job.dtype).eval()


def generate(job: Job) -> Work:
    seq2seq, beams = job.options.get("seq2seq", False), job.options.get("beams", 1)
    tokenizer, model = _loaded(job, seq2seq=seq2seq)

    def work(job: Job) -> Done:
        tokens, first = 0, ""
        size = job.options.get("batch", len(job.texts))
        for start in range(0, len(job.texts), size):
            inputs = tokenizer(job.texts[start : start + size], return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            settings: dict[str, Any] = {"max_new_tokens": job.new_tokens, "do_sample": False, "num_beams": beams}
            output = model.generate(**inputs, **settings, pad_token_id=tokenizer.pad_token_id)
            new = output[:, 1 if seq2seq else inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            first = first or texts[0]
            written = (new != tokenizer.pad_token_id).sum(dim=1).tolist()
            tokens += sum(map(min, written, job.limits[start : start + size])) if job.limits else sum(written)
        return Done(tokens, about={"first": first})

    return work


def score(job: Job) -> Work:
    """The strided recipe of transformers' documentation, a window at a time, without overlap."""
    import torch

    tokenizer, model = _loaded(job)
    context = model.config.max_position_embeddings

    def work(job: Job) -> Done:
        total, tokens = 0.0, 0
        for text in job.texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]
            done = 0
            while done < len(ids) - 1:
                end = min(done + context, len(ids) - 1)
                begin = max(0, end - context)
                labels = torch.tensor([ids[begin + 1 : end + 1]])
                labels[0, : done - begin] = -100
                with torch.no_grad():
                    logits = model(torch.tensor([ids[begin:end]])).logits
                wide = logits[0] if logits.dtype == torch.float64 else logits[0].float()
                total -= torch.nn.functional.cross_entropy(wide, labels[0], reduction="sum").item()
                tokens, done = tokens + end - done, end
        return Done(tokens, about={"nats": total})

    return work


def load(job: Job) -> Work:
    def work(job: Job) -> Done:
        _loaded(job, seq2seq=job.options.get("seq2seq", False))
        return Done(1)

    return work


TASKS = {"generate": generate, "score": score, "load": load}
