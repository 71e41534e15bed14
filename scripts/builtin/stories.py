"""Trains `builtin:stories`, a small Llama, from the book corpus.

    python scripts/builtin/stories.py CORPUS WORK            train (or go on), then write WORK/model
    python scripts/builtin/stories.py CORPUS WORK --device cuda
    python scripts/builtin/stories.py CORPUS WORK --export   write WORK/model from the newest checkpoint

CORPUS is a folder with gutenberg.children.jsonl.gz and gutenberg.fiction.jsonl.gz.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import Book, load_books
from loop import Schedule, arguments, mixed_precision, place, prepare, run, scheduled
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 6144
BOS, EOS = "<s>", "</s>"
CONTEXT = 512
TOKENS_PER_STEP = 8192
VALID_WINDOWS = 48
SCHEDULE = Schedule(steps=8000, decay_from=4000)


def main() -> None:
    parser = arguments(__doc__, SCHEDULE, every=250)
    parser.add_argument("--micro", type=int, default=4, help="micro-batches a step")
    args = parser.parse_args()
    work = prepare(args)
    books = load_books(args.corpus)
    tokenizer = _tokenizer(work / "tokenizer.json", books.children + books.fiction)
    children = _stream(tokenizer, books.children, work / "children.npz")
    fiction = _stream(tokenizer, books.fiction, work / "fiction.npz")
    valid = _stream(tokenizer, books.valid, work / "valid.npz")
    valid_bytes = sum(len(b.text.encode()) for b in books.valid)
    print(f"tokens: children {len(children.ids):,}, fiction {len(fiction.ids):,}, valid {len(valid.ids):,}", flush=True)

    model = LlamaForCausalLM(config())
    place(model, args)
    if not args.export:
        forward = torch.compile(model, disable=args.no_compile)
        schedule = scheduled(SCHEDULE, args)

        def losses(step: int) -> Iterator[torch.Tensor]:
            # The children's books are weighted up, and last.
            share = 0.6 if step < schedule.decay_from else 0.9
            windows = _windows(children, fiction, share, args.seed, step).to(args.device)
            for ids in windows.chunk(args.micro):
                with mixed_precision(args.device):
                    loss: torch.Tensor = forward(input_ids=ids, labels=ids, use_cache=False).loss
                yield loss / args.micro

        run(model, schedule, work, losses, lambda: _validate(model, valid, valid_bytes), every=args.every)
    _export(model, tokenizer, work / "model")


def config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=7,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        # Compiled, the plain attention trains faster on a CPU than the fused kernel.
        attn_implementation="eager",
    )


@dataclass(frozen=True)
class Stream:
    """Books one after another: `ids` [tokens] uint16, each book BOS ... EOS; `paragraphs`: where paragraphs begin."""

    ids: np.ndarray
    paragraphs: np.ndarray


def _tokenizer(path: Path, books: tuple[Book, ...]) -> Tokenizer:
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    sample = (p for book in books[:160] for p in book.paragraphs)
    tokenizer.train_from_iterator(sample, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.save(str(path))
    return tokenizer


def _stream(tokenizer: Tokenizer, books: tuple[Book, ...], cache: Path) -> Stream:
    if cache.exists():
        saved = np.load(cache)
        return Stream(saved["ids"], saved["paragraphs"])
    ids: list[int] = []
    paragraphs: list[int] = []
    for book in books:
        ids.append(tokenizer.token_to_id(BOS))
        texts = [p + "\n\n" for p in book.paragraphs[:-1]] + list(book.paragraphs[-1:])
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            paragraphs.append(len(ids))
            ids.extend(encoding.ids)
        ids.append(tokenizer.token_to_id(EOS))
    stream = Stream(np.array(ids, dtype=np.uint16), np.array(paragraphs, dtype=np.int64))
    np.savez(cache, ids=stream.ids, paragraphs=stream.paragraphs)
    return stream


def _windows(children: Stream, fiction: Stream, share: float, seed: int, step: int) -> torch.Tensor:
    """The training windows of a step [rows, CONTEXT]: a share of children's books, every fourth begun at a paragraph after BOS.

    A function of `seed` and `step` alone, so a resumed run sees the same windows.
    """
    rng = np.random.default_rng((seed, step))
    out = np.empty((TOKENS_PER_STEP // CONTEXT, CONTEXT), dtype=np.int64)
    for row in range(len(out)):
        stream = children if rng.random() < share else fiction
        start = int(rng.integers(0, len(stream.ids) - CONTEXT))
        if rng.random() < 0.25:
            nearest = int(np.searchsorted(stream.paragraphs, start))
            start = int(stream.paragraphs[min(nearest, len(stream.paragraphs) - 1)])
            start = min(start, len(stream.ids) - CONTEXT)
            out[row, 0], out[row, 1:] = 0, stream.ids[start : start + CONTEXT - 1]
        else:
            out[row] = stream.ids[start : start + CONTEXT]
    return torch.from_numpy(out)


@torch.no_grad()
def _validate(model: LlamaForCausalLM, valid: Stream, valid_bytes: int) -> dict[str, float]:
    """Bits per byte of VALID_WINDOWS windows spread evenly over the validation books."""
    model.eval()
    starts = np.linspace(0, len(valid.ids) - CONTEXT - 1, VALID_WINDOWS).astype(int)
    ids = torch.from_numpy(np.stack([valid.ids[s : s + CONTEXT] for s in starts]).astype(np.int64)).to(model.device)
    with mixed_precision(model.device.type):
        loss = sum(len(b) * float(model(input_ids=b, labels=b, use_cache=False).loss) for b in ids.split(8)) / len(ids)
    model.train()
    return {"valid_loss": loss, "valid_bits_per_byte": loss / math.log(2) * len(valid.ids) / valid_bytes}


def _export(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    model.config._attn_implementation = "sdpa"
    model.to(torch.bfloat16).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, model_max_length=CONTEXT)
    fast.save_pretrained(folder)


if __name__ == "__main__":
    main()
