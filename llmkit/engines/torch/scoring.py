"""Log-probabilities of tokens that are given, for any causal or sequence-to-sequence model.

Rows are padded on the right, where a causal model can't see the padding. The scores over the vocabulary are made for
the asked positions alone and a piece at a time, where the model's last step is a plain matrix (found out by trying).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from llmkit.engines.torch import abilities, shared_contexts
from llmkit.engines.torch.shared_contexts import SharedContext
from llmkit.engines.torch.side_by_side import calls, side_by_side
from llmkit.errors import ModelError

#: float32 scores over the vocabulary held at once: what a CPU's caches like, and what keeps an accelerator busy.
_CPU_PIECE, _PIECE = 1 << 22, 1 << 26
#: Positions that a CPU runs through the model at once: more only leave its caches.
_CPU_POSITIONS = 1024
#: ... and as many as it multiplies about as fast as more, so that none is added which brings more than this share of padding.
_CPU_ENOUGH, _PADDING = 192, 1 / 32
#: ... and an accelerator, where the sequences go on from a context: the caches of all are held.
_POSITIONS = 1 << 14


class Scorer:
    """Scores sequences with one model. pad: an id to fill rows with; encoder_decoder: sequences are the decoder's."""

    def __init__(self, model: Any, *, pad: int, encoder_decoder: bool) -> None:
        self.model, self.pad, self.encoder_decoder = model, pad, encoder_decoder
        self.device = next(p.device for p in model.parameters() if not p.is_meta)
        self._together = abilities.same_positions(model)
        self._in_threads = self.device.type == "cpu" and abilities.keeps_nothing(model)
        self._head: Head | None = None
        self._tried = False

    def score(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None = None
    ) -> list[list[float]]:
        """Natural-log probabilities of `sequences[i][begin[i]:]`, each token given those before it.

        begin: at least 1. sources: what an encoder reads, one a sequence. Raises ModelError for scores that are NaN.
        """
        out: dict[int, list[float]] = {}
        with torch.inference_mode():
            contexts = self._contexts(sequences, begin)
            for some in shared_contexts.together(contexts, sequences, _CPU_POSITIONS if self.device.type == "cpu" else _POSITIONS):
                members = [i for context in some for i in context.members]
                out |= self._by_sequence(members, sequences, begin, self._going_on(some, sequences, begin))
        rest = [i for i in range(len(sequences)) if i not in out]
        parts = [[rest[i] for i in part] for part in self.parts([sequences[i] for i in rest])]
        works = [partial(self._some, members, sequences, begin, sources) for members in parts]
        if len(works) > 1 and self._in_threads:
            with torch.inference_mode():
                self._plain_head(self._padded([sequences[parts[0][0]]])[0], [sources[parts[0][0]]] if sources else None)
            scores = side_by_side(works, [len(members) * max(len(sequences[i]) for i in members) for members in parts])
        else:
            scores = [work() for work in works]
        for members, flat in zip(parts, scores, strict=True):
            out |= self._by_sequence(members, sequences, begin, flat)
        return [out[i] for i in range(len(sequences))]

    def _some(
        self, members: Sequence[int], sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None
    ) -> list[float]:
        """The scores of all asked tokens of some sequences, which are run together."""
        read = None if sources is None else [sources[i] for i in members]
        with torch.inference_mode():
            return self._flat([sequences[i] for i in members], [begin[i] for i in members], read)

    def spared(self, sequences: Sequence[Sequence[int]], begin: Sequence[int]) -> list[int]:
        """Lengths of the beginnings of what `score` is given that it does not compute again."""
        return shared_contexts.spared(self._contexts(sequences, begin))

    @cached_property
    def _goes_on(self) -> bool:
        """Whether a context that several sequences share is read once."""
        return not self.encoder_decoder and shared_contexts.usable(self.model)

    def _contexts(self, sequences: Sequence[Sequence[int]], begin: Sequence[int]) -> list[SharedContext]:
        found = shared_contexts.find(sequences, begin) if self._goes_on else []
        return [context for context in found if all(self._mixes(sequences[i]) for i in context.members)]

    def _mixes(self, sequence: Sequence[int]) -> bool:
        """Whether a sequence may run beside others."""
        return self._together is None or len(sequence) <= self._together

    def _going_on(self, contexts: Sequence[SharedContext], sequences: Sequence[Sequence[int]], begin: Sequence[int]) -> list[float]:
        """The scores of all asked tokens of the contexts' members, one after another; each begins right behind its context."""
        members = [i for context in contexts for i in context.members]
        targets = torch.tensor([token for i in members for token in sequences[i][begin[i] :]], device=self.device)
        counts = [len(sequences[i]) - begin[i] for i in members]
        rows = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)], device=self.device)
        places = torch.tensor([place for count in counts for place in range(count)], device=self.device)
        head = self._plain_head(torch.tensor([sequences[members[0]]], device=self.device), None)
        with head.left_out() if head else nullcontext():
            states = shared_contexts.states(self.model, contexts, sequences, self._padded)[rows, places]
        log_probs: list[float] = token_log_probs(states, head, targets).tolist()
        return log_probs

    @staticmethod
    def _by_sequence(
        members: Sequence[int], sequences: Sequence[Sequence[int]], begin: Sequence[int], flat: Sequence[float]
    ) -> dict[int, list[float]]:
        """The scores of each of `members`, of which `flat` holds all, one member after another."""
        values = iter(flat)
        return {i: [next(values) for _ in range(len(sequences[i]) - begin[i])] for i in members}

    def parts(self, sequences: Sequence[Sequence[int]]) -> list[range]:
        """Consecutive sequences that are run together: on a CPU some of them, elsewhere all that may."""
        if not sequences:
            return []
        most = _CPU_POSITIONS if self.device.type == "cpu" else math.inf
        if self._in_threads and (each := calls()) > 1:
            most = min(most, max(_CPU_ENOUGH, math.ceil(sum(map(len, sequences)) / each)))
        parts: list[range] = []
        begin = longest = tokens = 0
        for i, sequence in enumerate(sequences):
            before, longest, tokens = longest * (i - begin), max(longest, len(sequence)), tokens + len(sequence)
            mixed, positions = self._mixes(sequences[begin]) and self._mixes(sequence), longest * (i + 1 - begin)
            padded = before >= _CPU_ENOUGH and positions - tokens > _PADDING * positions and most < math.inf
            if i > begin and (not mixed or padded or positions > most):
                parts.append(range(begin, i))
                begin, longest, tokens = i, len(sequence), len(sequence)
        return [*parts, range(begin, len(sequences))]

    def _flat(self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None) -> list[float]:
        """The scores of all asked tokens, one row after another."""
        targets = torch.tensor([t for s, b in zip(sequences, begin, strict=True) for t in s[b:]], device=self.device)
        if not len(targets):
            return []
        log_probs: list[float] = token_log_probs(*self.states(sequences, begin, sources), targets).tolist()
        return log_probs

    def states(
        self, sequences: Sequence[Sequence[int]], begin: Sequence[int], sources: Sequence[Sequence[int]] | None
    ) -> tuple[torch.Tensor, Head | None]:
        """What the model knows before each asked token, one row after another [tokens, width], and the matrix that makes scores of it.

        Without a plain last matrix: the scores themselves [tokens, vocabulary].
        """
        inputs, _ = self._padded([s[:-1] for s in sequences])
        call = self._call(inputs, sources)
        # position p of a row predicts its token p + 1
        rows = torch.tensor([i for i, s in enumerate(sequences) for _ in range(begin[i], len(s))], device=self.device)
        places = torch.tensor([p - 1 for s, b in zip(sequences, begin, strict=True) for p in range(b, len(s))], device=self.device)
        head = self._plain_head(inputs, sources)
        with head.left_out() if head else nullcontext():
            return self.model(**call).logits[rows, places], head

    def _call(self, inputs: torch.Tensor, sources: Sequence[Sequence[int]] | None) -> dict[str, Any]:
        if not self.encoder_decoder:
            return {"input_ids": inputs, "use_cache": False}
        ids, mask = self._padded(sources or ())
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": inputs, "use_cache": False}

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """ids and mask [rows, longest], padded on the right."""
        longest = max(map(len, sequences))
        ids = torch.tensor([[*s, *[self.pad] * (longest - len(s))] for s in sequences], device=self.device)
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences], device=self.device)
        return ids, mask

    def _plain_head(self, inputs: torch.Tensor, sources: Sequence[Sequence[int]] | None) -> Head | None:
        if not self._tried:
            self._tried = True
            self._head = plain_head(self.model, self._call(inputs[:1, :4], sources[:1] if sources else None))
        return self._head


def plain_head(model: Any, few: dict[str, Any]) -> Head | None:
    """The model's last matrix, if its scores are that matrix times what comes before (and a bias), and nothing else.

    few: a small input to try it on. Some models scale or cap their scores afterwards: those are asked for all scores.
    """
    matrix = model.get_output_embeddings()
    if matrix is None:
        return None
    head = Head(model, matrix)
    whole = model(**few).logits
    try:
        with head.left_out():
            hidden = model(**few).logits
        return head if torch.equal(head(hidden), whole) else None
    except RuntimeError:  # what follows the matrix does not take its input
        return None


class Head:
    """The last matrix of a model, with the bias that Marian and BART add behind it. width: of the vocabulary."""

    def __init__(self, model: Any, matrix: torch.nn.Module) -> None:
        # under an adapter the bias is the base's
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.matrix = matrix
        self.bias: torch.Tensor | None = getattr(self.model, "final_logits_bias", None)
        self.width: int = next(matrix.parameters()).shape[0]
        self._here, self._lock, self._inside = threading.local(), threading.Lock(), 0

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: [..., width of the model]. Returns scores, [..., vocabulary]."""
        scores: torch.Tensor = self.matrix(hidden)
        return scores if self.bias is None else scores + self.bias

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Inside the block the model gives in this thread what the matrix would read. Several threads may be inside one."""
        with self._lock:
            if not self._inside:
                self._take_out()
            self._inside += 1
        self._here.out = True
        try:
            yield
        finally:
            self._here.out = False
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._put_back()

    def _take_out(self) -> None:
        self._own = self.matrix.__dict__.get("forward")  # another library may have put one on the instance
        forward = self.matrix.forward
        self.matrix.forward = lambda hidden: hidden if getattr(self._here, "out", False) else forward(hidden)
        if self.bias is not None:
            self.model.final_logits_bias = torch.zeros_like(self.bias[..., :1])

    def _put_back(self) -> None:
        del self.matrix.forward
        if self._own is not None:
            self.matrix.forward = self._own
        if self.bias is not None:
            self.model.final_logits_bias = self.bias


def piece(vocabulary: int, device: torch.device) -> int:
    """How many tokens' scores over the vocabulary are made at once."""
    return max(1, (_CPU_PIECE if device.type == "cpu" else _PIECE) // vocabulary)


def token_log_probs(states: torch.Tensor, head: Head | None, targets: torch.Tensor) -> torch.Tensor:
    """Natural-log probabilities of `targets`.

    states: scores [tokens, vocabulary], or with `head` the hidden states [tokens, width] that it turns into scores;
    targets: [tokens], int64. Returns [tokens], float32. Goes through the tokens in pieces. Raises ModelError for scores that are NaN.
    """
    step = piece(states.shape[-1] if head is None else head.width, states.device)
    pieces = []
    for part, wanted in zip(states.split(step), targets.split(step), strict=True):
        scores = (part if head is None else head(part)).float()
        pieces.append(-cross_entropy(scores, wanted, reduction="none"))  # half the time of logsumexp
    log_probs = torch.cat(pieces) if pieces else torch.zeros(0)
    if torch.isnan(log_probs).any():
        raise ModelError("the model's scores are NaN", hint="try `dtype` float32; if they still are, the weights are damaged")
    return log_probs
