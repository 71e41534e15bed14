"""Trains `builtin:en-fr`, a small Marian encoder-decoder, from the sentence pairs.

    python scripts/builtin/en_fr.py CORPUS WORK            train (or go on), then write WORK/model
    python scripts/builtin/en_fr.py CORPUS WORK --export   write WORK/model from the newest checkpoint
    python scripts/builtin/en_fr.py CORPUS WORK --device cuda
    python scripts/builtin/en_fr.py CORPUS WORK --from MODEL --steps 2000 --decay-from 200 --matrix-lr 0.005 --other-lr 1e-3

CORPUS is a folder with tatoeba.eng-fra.tsv.gz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sacrebleu
import torch
from corpus import Pairs, load_pairs
from loop import Schedule, arguments, mixed_precision, place, prepare, run, scheduled
from segments import Segments
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

VOCABULARY = 6000
PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
PAD_ID, EOS_ID = 0, 1
#: Both sides of a batch are padded to one of these lengths, so the compiled model sees few shapes.
LENGTHS = (8, 10, 12, 16, 24, 48)
#: Source and target positions of one micro-batch.
POSITIONS = 4096
#: Steps, about an epoch, after which the pairs are segmented anew.
REDRAWN = 400
SCHEDULE = Schedule(steps=8000, decay_from=4000, warmup=400, matrix_lr=0.01, other_lr=2e-3, weight_decay=0.05)
LABEL_SMOOTHING = 0.1


def main() -> None:
    parser = arguments(__doc__, SCHEDULE, every=500)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--bpe-dropout", type=float, default=0.1)
    args = parser.parse_args()
    work = prepare(args)
    pairs = load_pairs(args.corpus)
    print(f"pairs: train {len(pairs.train):,}, valid {len(pairs.valid):,}, test {len(pairs.test):,}", flush=True)
    tokenizer = _tokenizer(work / "tokenizer.json", pairs)
    model = MarianMTModel(config(args.dropout))
    place(model, args)
    if not args.export:
        torch._dynamo.config.recompile_limit = 64
        batches = Batches(tokenizer, pairs.train, dropout=args.bpe_dropout, seed=args.seed)
        forward = torch.compile(model, dynamic=False, disable=args.no_compile)
        criterion = torch.nn.CrossEntropyLoss(ignore_index=-100, label_smoothing=LABEL_SMOOTHING)

        def losses(step: int) -> Iterator[torch.Tensor]:
            micro = batches.step(step)
            targets = sum(int((labels != -100).sum()) for _, labels in micro)
            for source, labels in ((s.to(args.device), t.to(args.device)) for s, t in micro):
                share = int((labels != -100).sum()) / targets
                with mixed_precision(args.device):
                    # 'labels' would compute a second, unsmoothed loss
                    decoder_input = torch.full_like(labels, PAD_ID)
                    decoder_input[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == -100, PAD_ID)
                    logits = forward(
                        input_ids=source, attention_mask=(source != PAD_ID).long(), decoder_input_ids=decoder_input, use_cache=False
                    ).logits
                    loss: torch.Tensor = criterion(logits.float().flatten(0, 1), labels.flatten())
                yield loss * share

        run(model, scheduled(SCHEDULE, args), work, losses, lambda: _validate(model, tokenizer, pairs), every=args.every)
    _export(model, tokenizer, work / "model")


def config(dropout: float) -> MarianConfig:
    return MarianConfig(
        vocab_size=VOCABULARY,
        d_model=256,
        encoder_layers=5,
        decoder_layers=2,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        max_position_embeddings=256,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation_function="swish",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        static_position_embeddings=True,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        forced_eos_token_id=EOS_ID,
        bos_token_id=None,
        decoder_start_token_id=PAD_ID,
        decoder_vocab_size=VOCABULARY,
        attn_implementation="eager",
    )


#: Signs that the corpus does not have, and what it has in their places: what people type and word processors write.
PLAIN = {
    "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "\u2010": "-", "\u2011": "-", "\u00ad": "", "\u200b": "", "\u2060": "", "…": "...",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", " — ": ", ", " – ": ", ", "—": ", ", " & ": " and ",
}  # fmt: skip


def _tokenizer(path: Path, pairs: Pairs) -> Tokenizer:
    """One byte-level BPE for both languages; every text ends with EOS."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(one, other) for one, other in PLAIN.items()])
    tokenizer.train_from_iterator((side for pair in pairs.train for side in pair), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", pair=f"$A $B {EOS}", special_tokens=[(EOS, EOS_ID)])
    tokenizer.save(str(path))
    return tokenizer


def _french_spacing(text: str) -> str:
    """The corpus mixes four kinds of space before ? ! : ; and after «; its commonest, the plain one, is trained."""
    return re.sub("[\u00a0\u202f\u2009]", " ", text)


class Batches:
    """The training pairs as padded micro-batches; what a step gets is a function of seed and step alone."""

    def __init__(self, tokenizer: Tokenizer, pairs: tuple[tuple[str, str], ...], *, dropout: float, seed: int) -> None:
        self._seed = seed
        self._sources = Segments(tokenizer, (en for en, _ in pairs), dropout=dropout, seed=seed)
        self._targets = Segments(tokenizer, (_french_spacing(fr) for _, fr in pairs), dropout=dropout, seed=seed)
        self._epoch, self._buckets = -1, []

    def step(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Two micro-batches (source ids, labels), each of one bucket drawn by its share of positions."""
        if step // REDRAWN != self._epoch:
            self._epoch = step // REDRAWN
            self._buckets = self._draw(np.random.default_rng((self._seed, 0, self._epoch)))
        rng = np.random.default_rng((self._seed, 1, step))
        weights = np.array([src.size for src, _ in self._buckets], dtype=float)
        out = []
        for _ in range(2):
            src, tgt = self._buckets[int(rng.choice(len(self._buckets), p=weights / weights.sum()))]
            rows = rng.choice(len(src), size=min(POSITIONS // (2 * src.shape[1]), len(src)), replace=False)
            out.append((torch.from_numpy(src[rows].astype(np.int64)), torch.from_numpy(tgt[rows].astype(np.int64))))
        return out

    def _draw(self, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of `LENGTHS`: source and label ids [pairs, length], padded, of newly drawn segmentations."""
        rows: dict[int, list[tuple[list[int], list[int]]]] = {length: [] for length in LENGTHS}
        for index in range(len(self._sources)):
            source, target = ([*side.draw(index, rng), EOS_ID] for side in (self._sources, self._targets))
            length = next((n for n in LENGTHS if max(len(source), len(target)) <= n), None)
            if length is not None:
                rows[length].append((source, target))
        out = []
        for length, members in rows.items():
            src = np.full((len(members), length), PAD_ID, dtype=np.int16)
            tgt = np.full((len(members), length), -100, dtype=np.int16)
            for i, (s, t) in enumerate(members):
                src[i, : len(s)], tgt[i, : len(t)] = s, t
            out.append((src, tgt))
        return out


@torch.no_grad()
def _validate(model: MarianMTModel, tokenizer: Tokenizer, pairs: Pairs) -> dict[str, float]:
    """Greedy BLEU on 600 validation pairs, one reference a line."""
    model.eval()
    chosen = sorted(pairs.valid[:: max(1, len(pairs.valid) // 600)][:600], key=lambda p: len(p[0]))
    hypotheses: list[str] = []
    for start in range(0, len(chosen), 100):
        encoded = [e.ids for e in tokenizer.encode_batch([en for en, _ in chosen[start : start + 100]])]
        width = max(map(len, encoded))
        ids = torch.tensor([row + [PAD_ID] * (width - len(row)) for row in encoded], device=model.device)
        out = model.generate(input_ids=ids, attention_mask=(ids != PAD_ID).long(), num_beams=1, do_sample=False, max_new_tokens=60)
        hypotheses += [tokenizer.decode(row) for row in out.tolist()]
    model.train()
    return {"valid_bleu": sacrebleu.corpus_bleu(hypotheses, [[fr for _, fr in chosen]]).score}


def _export(model: MarianMTModel, tokenizer: Tokenizer, folder: Path) -> None:
    model.config._attn_implementation = "sdpa"
    model.generation_config.num_beams = 4
    model.generation_config.max_length = 256
    model.to(torch.float16).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, model_max_length=256)
    fast.save_pretrained(folder)


if __name__ == "__main__":
    main()
