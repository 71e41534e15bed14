"""A model as CTranslate2 runs it: token ids in, token ids and log-probabilities out.

Knows the library; not text, prompts or chat templates. Call by call (release 4.8): nothing of a call is left running when it
returns, for what still runs at exit would abort the process; a call has few rows, since Ctrl-C waits for it; and the loaded
model is dropped before the interpreter ends.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.engines.base import Check, never_stop
from llmkit.engines.ctranslate2.library import library
from llmkit.engines.ctranslate2.parts import parts
from llmkit.engines.turns import Turns
from llmkit.engines.utilization import WorkCounters
from llmkit.errors import ModelError, OutOfMemoryError, UnavailableError, counted, one_line
from llmkit.models.cores import default_threads, in_passing_thread
from llmkit.models.processor import has_avx512, made_by_intel

#: Rows of one call, and of one that runs beside others: with fewer, each step costs more than its rows, the more where it reads
#: weights of 16 or 32 bits that fit no cache, and multiplies them by MKL, which divides a few rows well.
_ROWS, _FEW_ROWS, _FEW_ROWS_OF_MKL = 32, 8, 16
#: Calls at once of a model whose weights fit no cache: each reads all of them.
_CALLS = 4
#: Tokens of one call that scores: the logits of all are in memory at once.
_SCORED_TOKENS = 2048
#: transformers searches on until no open beam can win; this gives the same for 1,200 of 1,200 sentences of Tatoeba. Of 40 texts of
#: random signs, which en-fr can make nothing of, 5 come to another end.
_PATIENCE = 2.0
#: Seconds between looks at whether a call has failed while its next token is waited for.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Files:
    """The folder where the library finds a model.

    vocabulary: its name of each token, by id. translates: it reads a text with one half and writes with the other. context:
    positions that prompt and answer share, None where they are no limit. small: it is as fast on one core as on all.
    """

    folder: Path
    vocabulary: Sequence[str]
    translates: bool
    context: int | None = None
    small: bool = False


class _Cores(NamedTuple):
    """Calls of the library that run at once, and the cores of each. A call's threads wait for each other at each operation."""

    calls: int
    each: int


@dataclass(frozen=True)
class _Call:
    """A call of the library that is under way. part: which prompts it answers; results: to be waited for; raised: by its check."""

    part: list[int]
    results: Sequence[Any]
    raised: list[BaseException]

    def wait(self) -> None:
        """Until nothing of it runs, whatever came of it."""
        for one in self.results:
            with contextlib.suppress(Exception):
                one.result()


class Runner:
    """The loaded model. compute: a compute type of the library, as 'float32' or 'int8_float32'. threads: None for `default_threads`.

    turns: of threads that ask it for answers; the next one's comes while the library works.
    """

    def __init__(self, files: Files, compute: str, threads: int | None = None) -> None:
        self._files, self._compute, self._translates = files, compute, files.translates
        self._tokens = list(files.vocabulary)
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        self._most = threads or default_threads()
        self.turns = Turns()
        self._loaded: list[tuple[_Cores, Any]] = []
        self._model(self._cores(1))
        weakref.finalize(self, self._loaded.clear)

    def answers(
        self, prompts: Sequence[Sequence[int]], limits: Sequence[int], *, ends: Sequence[int], beams: int = 1, first: int | None = None,
        check: Check = never_stop, counters: WorkCounters | None = None,
    ) -> list[list[int]]:  # fmt: skip
        """The answer to each prompt, greedy or by beam search, with its end token unless its limit cut it off.

        first: the token that every answer of an encoder-decoder begins with; it counts.
        check: called before each call of the library, and by a greedy one with each token; what it raises ends the work.
        counters: gets what is done.
        """
        counters = WorkCounters() if counters is None else counters
        out: dict[int, list[int]] = {}
        running: deque[_Call] = deque()

        def finish() -> None:
            call = running[0]
            written = self._written(call)
            counters.answered([prompts[i] for i in call.part], written, reads=self._translates, beams=beams)
            out.update((i, ids[: limits[i]]) for i, ids in zip(call.part, written, strict=True))
            running.popleft()

        generate, calls = self._generate(self._cores(len(prompts)))
        most = min(_ROWS, max(_FEW_ROWS, math.ceil(len(prompts) / calls)))
        with counters.timed():
            try:
                for part in parts(prompts, limits, most, same_limit=beams > 1, encoded=self._translates, context=self._files.context):
                    check()
                    if len(running) == calls:
                        finish()
                    options = self._options(ends, max(limits[i] for i in part), [first] * len(part)) | {"beam_size": beams}
                    running.append(self._begin(generate, part, [prompts[i] for i in part], options, check))
                while running:
                    finish()
            finally:
                for call in running:
                    call.wait()
        return [out[i] for i in range(len(prompts))]

    def _begin(self, generate: Any, part: list[int], prompts: Sequence[Sequence[int]], options: dict[str, Any], check: Check) -> _Call:
        """Has the library answer the prompts of a part. check: called with each token, but not by a beam search."""
        raised: list[BaseException] = []
        if options["beam_size"] > 1:
            options["patience"] = _PATIENCE
        elif check is not never_stop:
            options["callback"] = _stopping(check, raised)
        return _Call(part, self._call(generate, prompts, options | {"asynchronous": True}), raised)

    def _written(self, call: _Call) -> list[list[int]]:
        """What a call has answered, once it has ended. Raises what its check raised, ModelError or OutOfMemoryError."""
        with _errors(len(call.part)), self.turns.given():
            results = [one.result() for one in call.results]
        if call.raised:
            raise call.raised[0]
        return [self._found(result) for result in results]

    def steps(
        self, prompt: Sequence[int], max_new_tokens: int, *, ends: Sequence[int], first: int | None = None
    ) -> Generator[int, None, None]:
        """The tokens of a greedy answer one by one, its end token with them. To be closed when it is not read to its end."""
        done, seen = threading.Event(), queue.SimpleQueue[Any]()

        def step(result: Any) -> bool:
            seen.put(result)
            return done.is_set()

        options = self._options(ends, max_new_tokens, [first]) | {"beam_size": 1, "asynchronous": True, "callback": step}
        generate, _ = self._generate(self._cores(1), alone=True)
        (running,) = self._call(generate, [prompt], options)
        try:
            while True:
                try:
                    result = seen.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    if running.done() and seen.empty():
                        return  # it has failed
                    continue
                yield int(result.token_id)
                if result.is_last:
                    return
        finally:
            done.set()
            with _errors(1):
                running.result()

    def score(self, sequences: Sequence[Sequence[int]], sources: Sequence[Sequence[int]] | None, eos: int) -> list[list[float]]:
        """Natural-log probabilities of each sequence's tokens from its second on. sources: what the encoder of each reads.

        Raises ModelError or OutOfMemoryError for what the library can't do.
        """
        # a sequence of one token has nothing to score
        rows = [i for i, tokens in enumerate(sequences) if len(tokens) > 1]
        if not rows:
            return [[] for _ in sequences]
        options = {"max_input_length": 0, "max_batch_size": _SCORED_TOKENS, "batch_type": "tokens"}
        _, model = self._model(_Cores(1, self._most if len(sequences) > 1 or not self._files.small else 1))
        with _errors(len(rows)):
            if sources is None:
                results = model.score_batch([self._names(sequences[i]) for i in rows], **options)
            else:
                # the library begins with the start token and scores an end token of its own
                written = [sequences[i][1:-1] if sequences[i][-1] == eos else sequences[i][1:] for i in rows]
                read = [self._names(sources[i]) for i in rows]
                results = model.score_batch(read, [self._names(tokens) for tokens in written], **options)
        log_probs = {i: list(result.log_probs)[: len(sequences[i]) - 1] for i, result in zip(rows, results, strict=True)}
        return [log_probs.get(i, []) for i in range(len(sequences))]

    def _options(self, ends: Sequence[int], max_new_tokens: int, first: Sequence[int | None]) -> dict[str, Any]:
        shared = {"end_token": list(ends), "return_end_token": True}
        if self._translates:
            prefix = [None if token is None else self._names([token]) for token in first]
            shared["target_prefix"] = prefix if any(prefix) else None
            return shared | {"max_input_length": 0, "max_decoding_length": max_new_tokens, "min_decoding_length": 0}
        return shared | {"max_length": max_new_tokens, "min_length": 0, "include_prompt_in_result": False}

    def _generate(self, cores: _Cores, *, alone: bool = False) -> tuple[Any, int]:
        """What answers prompts, and how many calls of it at once."""
        loaded, model = self._model(cores, alone=alone)
        return model.translate_batch if self._translates else model.generate_batch, loaded.calls

    def _call(self, generate: Any, prompts: Sequence[Sequence[int]], options: Mapping[str, Any]) -> Any:
        with _errors(len(prompts)):
            return generate([self._names(prompt) for prompt in prompts], **options)

    def _found(self, result: Any) -> list[int]:
        if self._translates:
            return [self._ids[token] for token in result.hypotheses[0]]
        return list(result.sequences_ids[0])

    def _names(self, ids: Sequence[int]) -> list[str]:
        return [self._tokens[number] for number in ids]

    def _cores(self, rows: int) -> _Cores:
        """How the cores are best used for so many prompts."""
        small = self._files.small
        if rows == 1 and small:
            return _Cores(1, 1)
        few = _FEW_ROWS if small or self._compute.startswith("int8") else _few_rows()
        calls = max(1, min(self._most if small else min(self._most, _CALLS), rows // few))
        return _Cores(calls, self._most // calls)

    def _model(self, cores: _Cores, *, alone: bool = False) -> tuple[_Cores, Any]:
        """The model, and how it uses its cores. One that is loaded for as many calls or more stays, since loading takes time.

        alone: there is one call, which all cores should work on.
        """
        if not self._loaded or self._loaded[0][0] < cores or (alone and self._loaded[0][0].calls > 1):
            kind = _library("Translator" if self._translates else "Generator")
            self._loaded.clear()
            use = {"compute_type": self._compute, "inter_threads": cores.calls, "intra_threads": cores.each}
            with _errors(1):
                model = in_passing_thread(lambda: kind(str(self._files.folder), device="cpu", **use))
            self._loaded.append((cores, model))
        return self._loaded[0]


def _few_rows() -> int:
    """Rows of weights of 16 or 32 bits that pay off a call beside others."""
    if not has_avx512():
        return _ROWS  # 8 rows take as long as 16
    return _FEW_ROWS_OF_MKL if made_by_intel() else _FEW_ROWS  # the library takes oneDNN on other processors


def _stopping(check: Check, raised: list[BaseException]) -> Callable[[Any], bool]:
    """A callback of the library that ends its call once `check` has raised. The library can't pass an exception on: it is in `raised`."""

    def each(_: Any) -> bool:
        if not raised:
            try:
                check()
            except Exception as exc:
                raised.append(exc)
        return bool(raised)

    return each


def _library(name: str) -> Any:
    """A class of the library. Raises UnavailableError where it can't be loaded."""
    try:
        # without what it is compiled from, the library imports and has no such class
        return getattr(library(), name)
    except (ImportError, AttributeError) as exc:
        raise UnavailableError(f"CTranslate2 can't be loaded: {one_line(exc)}", hint="install it again, or `engine` torch") from exc


@contextlib.contextmanager
def _errors(rows: int) -> Iterator[None]:
    """What the library raises, as ours."""
    try:
        yield
    except MemoryError as exc:
        hint = "a smaller `batch_size` or `max_new_tokens`"
        raise OutOfMemoryError(f"out of memory with {counted(rows, 'row')} at once", hint=hint) from exc
    except (RuntimeError, ValueError, LookupError, ArithmeticError) as exc:
        raise ModelError(f"CTranslate2 can't run the model: {one_line(exc)}", hint="`engine` torch") from exc
