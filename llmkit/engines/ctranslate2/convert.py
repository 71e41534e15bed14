"""A model of transformers becomes a form that CTranslate2 runs, once, and is held against torch before it counts.

Weights are read by torch's own loading (checked folders, safetensors only, no code of a model's own); the library's loaders say
which weight goes where (specification.py). All else that its converter would read or decide
(vocabulary, special tokens, the hub) is ours. Knows torch models; not the cache's folders or how answers are decoded.
"""

from __future__ import annotations

import gc
import json
import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmkit.engines.ctranslate2.families import WINDOWED, windowed
from llmkit.engines.ctranslate2.model import Files, Runner
from llmkit.engines.ctranslate2.specification import write
from llmkit.engines.tokenizer_file import TokenizerFile, settings_of
from llmkit.errors import EngineLimitError, ModelError, OutOfMemoryError, one_line
from llmkit.models.cores import in_passing_thread
from llmkit.models.panics import panics
from llmkit.models.settings import ModelSettings

#: Natural-log probabilities of float32 may differ by this, and by this share of a very small one.
_NATS, _SHARE = 1e-4, 1e-5
#: Tokens that both engines are compared on: of long and short prompts, and of answers to them.
_LONG, _SHORT, _ANSWER = 160, 9, 12
#: A token that the engine chose is as likely as torch's first choice, but for rounding.
_TIE = 1e-3
#: How often the speed of each precision is measured; the best counts.
_TIMES = 3
#: What a tokenizer alone has to read and write as transformers' does.
_ODD = (
    "Once upon a time, there was a small house by the sea.",
    "Das ist  ein Test: 12,5 % \u2013 \u00e9t\u00e9.",
    "def main():\n\treturn 1\n",
    "",
    " ",
    "  a  b ",
    "\u4f60\u597d \U0001f600",
    "a\u0301\u0000<s></s><pad>",
    "\n\n x",
    "I can't, won't!",
)


def convert(settings: ModelSettings, folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Writes the form of a model (its adapter merged) into the empty `folder`, and returns what a manifest has to know of it.

    Raises EngineLimitError for a model that the library does not run as torch does, OutOfMemoryError, and what torch's loading raises.
    """
    # what this process answers afterwards should not run beside torch's threads
    about, probes = in_passing_thread(lambda: _written(settings, folder, report))
    vocabulary = tuple(map(str, range(about["tokens"])))
    files = Files(folder, vocabulary, about["encoder_decoder"], about["context"])
    try:
        about["compared"] = probes.compare(Runner(files, "float32", settings.threads))
    except ModelError as exc:
        raise EngineLimitError(exc.message) from exc
    about["int8"] = probes.measure(files, settings.threads)
    return about


def _written(settings: ModelSettings, folder: Path, report: Callable[[str], None]) -> tuple[dict[str, Any], _Probes]:
    """What the manifest has to know of the model, and what torch says of it. Writes its form, and holds no torch model any more."""
    import torch

    from llmkit.engines.torch.batch import running
    from llmkit.engines.torch.devices import is_out_of_memory
    from llmkit.engines.torch.loading import load

    loaded = load(replace(settings, device="cpu", dtype="float32", quantize="none", trust_remote_code=False), report)
    model, tokenizer = loaded.model, loaded.tokenizer
    _write_tokenizer(tokenizer, folder)
    about = _about(loaded)
    with running(settings.reference, 1, loaded.look_at), torch.inference_mode():
        probes = _Probes(model, about)
    if loaded.adapter is not None:
        model = model.merge_and_unload(safe_merge=True)
    gc.freeze()  # the loaders look for garbage behind each layer, among all that is imported: a third of the time
    try:
        with torch.no_grad():
            write(model, about, folder)
    except struct.error as exc:
        raise EngineLimitError("a matrix of the model has more than 4 GiB") from exc
    except (
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RuntimeError,
        ArithmeticError,
    ) as exc:  # its ways to say what it does not know
        if is_out_of_memory(exc):
            raise OutOfMemoryError(f"out of memory while {settings.reference} was converted", hint="`engine` torch") from exc
        raise EngineLimitError(f"its converter refuses the model: {one_line(exc)}") from exc
    finally:
        gc.unfreeze()
    del model, loaded
    gc.collect()
    return about, probes


def _about(loaded: Any) -> dict[str, Any]:
    """What of the model is known without its weights, for the manifest and for the engine."""
    from llmkit.engines.chat import ChatSettings
    from llmkit.engines.torch.generation_config import clean, end_tokens
    from llmkit.engines.torch.loading import model_facts

    model, tokenizer, checkpoint = loaded.model, loaded.tokenizer, loaded.checkpoint
    config = clean(model.generation_config, vocabulary=loaded.vocabulary)
    ends = end_tokens(tokenizer, config)
    if not ends:
        raise EngineLimitError("the model has no end-of-sequence token")
    if config.suppress_tokens or config.begin_suppress_tokens or _bans(config):
        raise EngineLimitError("the model suppresses tokens")
    if windowed(model.config.get_text_config().to_dict()):  # of its class, where config.json names none
        raise EngineLimitError(WINDOWED)
    facts = model_facts(loaded.location, checkpoint, tokenizer, ChatSettings())
    translates = checkpoint.is_encoder_decoder
    start = getattr(model.generation_config, "decoder_start_token_id", None)
    if translates and start is None:
        raise EngineLimitError("the model has no decoder start token")
    return {
        "model_type": checkpoint.model_type,
        "encoder_decoder": translates,
        "tokens": int(model.get_output_embeddings().weight.shape[0]),
        "context": loaded.context,
        "ends": list(ends),
        "bos": tokenizer.bos_token_id,
        "configured_bos": getattr(model.config, "bos_token_id", None),
        "start": start,
        "first": config.forced_bos_token_id if translates else None,
        "special": sorted({*ends, *tokenizer.all_special_ids}),
        "languages": list(facts.languages),
        "task_prefixes": list(facts.task_prefixes),
        "parameters": checkpoint.parameters,
        "weights_sha256": checkpoint.sha256,
        "adapter_sha256": loaded.adapter.sha256 if loaded.adapter else None,
    }


def _bans(config: Any) -> bool:
    """Whether words are banned; Marian's padding is no word, and the decoder can't be brought to write it."""
    words = [word for word in config.bad_words_ids or () if word != [config.pad_token_id]]
    return bool(words)


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """tokenizer.json and its settings. Raises EngineLimitError for a tokenizer that is more than the file."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise EngineLimitError("its tokenizer is not one file (tokenizer.json)")
    (folder / "tokenizer.json").write_bytes(backend.to_str().encode("utf-8", "surrogatepass"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings_of(tokenizer)), encoding="utf-8")
    try:
        alone = TokenizerFile(folder)
    except ModelError as exc:
        raise EngineLimitError(f"its tokenizer can't be read back: {exc.message}") from exc
    with panics(lambda reason: EngineLimitError(f"its tokenizer can't read a text: {reason}")):
        for text in _ODD:
            for special in (True, False):
                ids = alone(text, add_special_tokens=special)["input_ids"]
                target = alone(text_target=text, add_special_tokens=False)["input_ids"]
                same = ids == tokenizer(text, add_special_tokens=special)["input_ids"]
                same &= target == tokenizer(text_target=text, add_special_tokens=False)["input_ids"]
                for skip in (True, False):
                    same &= alone.decode(ids, skip_special_tokens=skip) == tokenizer.decode(
                        ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
                    )
                if not same:
                    raise EngineLimitError("its tokenizer does more than tokenizer.json describes")


class _Probes:
    """Random ids, and what torch says of them; taken before the loaders take the model apart."""

    def __init__(self, model: Any, about: dict[str, Any]) -> None:
        self._model, self._about = model, about
        draw = random.Random(0)  # noqa: S311 - no secret
        context = (about["context"] or _LONG + 1) - 1
        plain = [token for token in range(about["tokens"]) if token not in about["special"]]
        sizes = [n for n in (min(_LONG, context), _SHORT, 2) if n <= context]
        self._ids = [[draw.choice(plain) for _ in range(size)] for size in sizes]
        self._scores = [self._torch(ids) for ids in self._ids]
        # the model is taken apart later: its own greedy answers are kept now, with how much likelier each token was than the next
        limit = max(1, min(_ANSWER, context - _SHORT))
        self._prompts = [ids[: max(1, min(_SHORT, context - limit))] for ids in self._ids]
        self._limit = limit
        self._greedy = [self._answer(ids) for ids in self._prompts]
        del self._model

    def measure(self, files: Files, threads: int | None) -> dict[str, float]:
        """What weights in 8 bits cost (mean difference of a token's score, in nats) and gain (times as fast as float32)."""
        seconds, scores = {}, {}
        for kind in ("float32", "int8_float32"):
            runner, seconds[kind] = Runner(files, kind, threads), float("inf")
            scores[kind] = [value for each in self._score(runner) for value in each]
            for _ in range(_TIMES):
                start = time.perf_counter()
                runner.answers(self._prompts[:1], [self._limit], ends=self._about["ends"], first=self._about["first"])
                seconds[kind] = min(seconds[kind], time.perf_counter() - start)
        pairs = zip(scores["float32"], scores["int8_float32"], strict=True)
        return {
            "nats": sum(abs(one - other) for one, other in pairs) / len(scores["float32"]),
            "speed": seconds["float32"] / seconds["int8_float32"],
        }

    def _score(self, runner: Runner) -> list[list[float]]:
        about, translates = self._about, self._about["encoder_decoder"]
        sequences = [[about["start"], *ids] for ids in self._ids] if translates else self._ids
        return runner.score(sequences, self._ids if translates else None, about["ends"][0])

    def compare(self, runner: Runner) -> dict[str, Any]:
        """Largest difference of the two engines' scores. Raises EngineLimitError for one that is no rounding."""
        about, worst = self._about, 0.0
        for ours, theirs in zip(self._score(runner), self._scores, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                worst = max(worst, abs(one - other))
                if not abs(one - other) <= _NATS + _SHARE * abs(other):
                    raise EngineLimitError(f"its scores differ from torch's: for one token by {abs(one - other):.2g} nats")
        limits = [self._limit] * len(self._prompts)
        answers = runner.answers(self._prompts, limits, ends=about["ends"], first=about["first"])
        for answer, (expected, margins) in zip(answers, self._greedy, strict=True):
            split = next((i for i, (a, b) in enumerate(zip(answer, expected, strict=False)) if a != b), None)
            if (split is not None and margins[split] > _TIE) or (split is None and len(answer) != len(expected)):
                raise EngineLimitError("its greedy answers differ from torch's")
        return {"tokens": sum(map(len, self._scores)), "largest_difference": worst}

    def _torch(self, ids: Sequence[int]) -> list[float]:
        """Scores of `ids`: for an encoder-decoder of all, which it reads and writes; else from the second on."""
        import torch

        if self._about["encoder_decoder"]:
            rows = self._logits(ids, [self._about["start"], *ids[:-1]])
            targets = ids
        else:
            rows, targets = self._logits(ids[:-1], ()), ids[1:]
        scores: list[float] = rows.log_softmax(-1).gather(1, torch.tensor(targets)[:, None])[:, 0].tolist()
        return scores

    def _answer(self, prompt: Sequence[int]) -> tuple[list[int], list[float]]:
        """The greedy answer, and how much likelier each of its tokens is than the second choice."""
        about, first = self._about, self._about["first"]
        ids: list[int] = [] if first is None else [first]
        margins = [float("inf")] * len(ids)
        while len(ids) < self._limit and not (ids and ids[-1] in about["ends"]):
            rows = self._logits(prompt, [about["start"], *ids]) if about["encoder_decoder"] else self._logits([*prompt, *ids], ())
            best = rows[-1].topk(2)
            ids.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
        return ids, margins

    def _logits(self, ids: Sequence[int], decoder: Sequence[int]) -> Any:
        """[tokens, vocabulary], float32."""
        import torch

        if decoder:
            return self._model(input_ids=torch.tensor([list(ids)]), decoder_input_ids=torch.tensor([list(decoder)])).logits[0].float()
        return self._model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()
