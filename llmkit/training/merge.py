"""An adapter and its base become one model, and are shown to answer alike.

The sum is made in float32 whatever the weights are stored in, and the merged model is compared with base and adapter on
sample prompts before anything gets its name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit import files
from llmkit.engines.torch.loading import LoadedModel
from llmkit.errors import GateError, ModelError, OutputError, UsageError
from llmkit.jobs.reporter import Reporter, Silent
from llmkit.models.devices import DTYPES
from llmkit.models.libraries import check_hub
from llmkit.records import versions

_RECORD = "merge.json"
#: Prompts on which the two are compared where none are given.
PROMPTS = ("Once upon a time", "The capital of France is", "Thank you very much.", "def main():")
_NEW_TOKENS = 32
#: Largest difference of a score, as a share of the largest score: rounding in float32; for less precise weights only reported.
_BOUND = 1e-3


@dataclass(frozen=True)
class Comparison:
    """The answers of the two models to one prompt.

    difference: the largest of any score (a logit); scale: the largest score. before, after: greedy text.
    """

    prompt: str
    difference: float
    scale: float
    before: str
    after: str

    @property
    def same_text(self) -> bool:
        """Whether both models wrote the same greedy answer."""
        return self.before == self.after


@dataclass(frozen=True)
class MergeSettings:
    """adapter and base: references; base None is the one that the adapter names. dtype: of the result. prompts: to compare on."""

    adapter: str
    base: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    prompts: tuple[str, ...] = PROMPTS
    offline: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"unknown dtype '{self.dtype}'", hint=", ".join(DTYPES))


@dataclass(frozen=True)
class Merged:
    """A merged model. record: as in its merge.json, but for the list of files."""

    folder: str
    record: dict[str, Any]
    comparisons: list[Comparison]


def merge(loaded: LoadedModel, dtype: str, prompts: Sequence[str]) -> tuple[Any, list[Comparison]]:
    """The merged model in `dtype`, and how it compares on the prompts. `loaded`: in float32 with its adapter on.

    Raises ModelError when the weights become NaN, GateError when float32 weights do not answer alike.
    """
    import torch

    before = [_answer(loaded.model, loaded, prompt) for prompt in prompts]
    try:
        merged = loaded.model.merge_and_unload(safe_merge=True)
    except ValueError as exc:
        raise ModelError(f"the adapter can't be merged: {exc}", hint="are its weights damaged?") from exc
    merged.to(getattr(torch, dtype)).eval()
    comparisons = []
    for prompt, (scores, text) in zip(prompts, before, strict=True):
        own, again = _answer(merged, loaded, prompt)
        comparisons.append(Comparison(prompt, float((own - scores).abs().max()), float(scores.abs().max()), text, again))
    worst = max(comparisons, key=lambda c: c.difference / max(c.scale, 1.0))
    if dtype == "float32" and worst.difference > _BOUND * max(worst.scale, 1.0):
        raise GateError(f"the merged model does not answer as the adapter does: '{worst.prompt}' differs by {worst.difference:.3g}")
    return merged, comparisons


class Target:
    """The folder for a merged model. The model is written beside it under another name, and gets its own when it is complete.

    Making one only looks. A model that is there is replaced only when merge wrote every file in it. Raises OutputError.
    """

    def __init__(self, name: str, *, overwrite: bool) -> None:
        self.name, self.path = name, Path(os.path.realpath(name))
        files.check_name(self.path, name)
        if not self.path.name:
            raise OutputError(f"{name}: not a folder for a model", hint="name a folder")
        self.part = files.companion(self.path, "llmkit-part", hidden=True)
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{name} is a file; a model is a folder", hint="name a folder")
        if self.path.exists() and any(self.path.iterdir()):
            if not overwrite:
                raise OutputError(f"{name} exists and is not empty", hint="`overwrite` replaces it")
            self._check_own()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Locks the output, and gives the folder to make and to write the model into; it is gone after the block. See `commit`.

        The caller makes it once libraries are imported: Ctrl-C during an import ends the process with nothing removed.

        Raises OutputError where its place can't be made, and when another process holds it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{self.name}: its folder can't be made: {exc.strerror}", hint="name another folder") from exc
        with files.locked(self.path, self.name):
            if self.part.is_symlink() or (self.part.exists() and not self.part.is_dir()):
                raise OutputError(f"{self.part}: something else is in the place of the unfinished model", hint="move it away")
            shutil.rmtree(self.part, ignore_errors=True)  # of a process that died: the name is llmkit's own
            try:
                yield self.part
            finally:
                shutil.rmtree(self.part, ignore_errors=True)

    def commit(self, record: dict[str, Any]) -> Path | None:
        """Writes the record with the list of files, and gives the folder its name: the old or the new model is whole at any moment.

        Returns the old model where it can't be removed.
        Raises OutputError when something of the user's came into the old folder meanwhile, UnavailableError for a full disk.
        """
        if self.path.exists() and any(self.path.iterdir()):
            self._check_own()
        names = sorted(str(p.relative_to(self.part)) for p in self.part.rglob("*") if p.is_file())
        content = record | {"files": [*names, _RECORD]}
        try:
            (self.part / _RECORD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            mode = self.part.stat().st_mode & 0o666
            for path in (p for p in self.part.rglob("*") if p.is_file()):
                path.chmod(mode)
            return files.replace_folder(self.part, self.path)
        except OSError as exc:
            raise files.unwritable(self.name, exc, resumes=False) from exc

    def _check_own(self) -> None:
        """Raises OutputError when the folder holds a file that merge did not write."""
        try:
            record = json.loads(files.read_at_most(self.path / _RECORD))
            known = set(record["files"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
            message = f"{self.name} is not empty and holds no model of llmkit merge, so it is not replaced"
            raise OutputError(message, hint="name another folder") from exc
        there = {str(p.relative_to(self.path)) for p in self.path.rglob("*") if p.is_symlink() or not p.is_dir()}
        if foreign := sorted(there - known):
            raise OutputError(f"{self.name} holds files that llmkit merge did not write: {', '.join(foreign[:5])}", hint="move them away")


def merge_adapter(settings: MergeSettings, output: str, *, overwrite: bool = False, report: Reporter | None = None) -> Merged:
    """Base and adapter as one model in the folder `output`, compared with them on prompts before it gets its name.

    Raises UsageError, OutputError, ModelError, GateError or UnavailableError; a model that is there is then as it was.
    """
    report = report or Silent()
    target = Target(output, overwrite=overwrite)
    with target.writing() as part:
        with report.phase("loading base and adapter") as phase:
            loaded = _load(settings, report)
            phase("merging, and comparing the answers")
            model, comparisons = merge(loaded, settings.dtype, settings.prompts)
        try:
            part.mkdir()
            model.save_pretrained(part)
            loaded.tokenizer.save_pretrained(part)
        except OSError as exc:
            raise files.unwritable(output, exc, resumes=False) from exc
        record = _record(loaded, settings.dtype, comparisons)
        _write_card(part, loaded, record, folder=output)
        left = target.commit(record)
    if left is not None:
        report.warn(f"{output} is complete, but the old model can't be removed: {left}")
    return Merged(output, record, comparisons)


def _load(settings: MergeSettings, report: Reporter) -> LoadedModel:
    """Base and adapter in float32. Raises ModelError for a base that is quantized."""
    check_hub()
    from llmkit.engines.torch.loading import load
    from llmkit.models.adapters import read_adapter_config
    from llmkit.models.reference import resolve
    from llmkit.models.settings import ModelSettings

    base = settings.base
    if base is None:
        named = read_adapter_config(settings.adapter, offline=settings.offline).get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise ModelError(f"{settings.adapter}: names no base", hint="name it with `model` REF")
        base = named
        report.notice(f"base: {base}, named by the adapter")
    _, checkpoint = resolve(base, offline=settings.offline, trust_remote_code=settings.trust_remote_code, tell=report.notice)
    if "quantization_config" in checkpoint.config:
        raise ModelError(
            f"{base} is quantized, and an adapter merged into rounded weights is not the adapter that was trained",
            hint="name the unquantized base with `model` REF",
        )
    asked = ModelSettings(
        base, adapter=settings.adapter, device=settings.device, dtype="float32", offline=settings.offline,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    return load(asked, report.detail)


def _record(loaded: LoadedModel, dtype: str, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "base": loaded.location.reference,
        "base_sha256": loaded.checkpoint.sha256,
        "adapter": loaded.adapter.reference if loaded.adapter else None,
        "adapter_sha256": loaded.adapter.sha256 if loaded.adapter else None,
        "dtype": dtype,
        "versions": versions(),
        "largest_difference": max(c.difference for c in comparisons),
        "same_text": sum(c.same_text for c in comparisons),
        "prompts": len(comparisons),
        "comparisons": [
            {"prompt": c.prompt, "difference": c.difference, "adapter": c.before, "merged": c.after, "same_text": c.same_text}
            for c in comparisons
        ],
    }


def _write_card(part: Path, loaded: LoadedModel, record: dict[str, Any], *, folder: str) -> None:
    """The card, as that of a trained model. Raises UnavailableError for a full disk."""
    from llmkit.training.asking import asking_of
    from llmkit.training.card import merged_card
    from llmkit.training.state import read_record

    trained = read_record(loaded.adapter.folder / "run.json") if loaded.adapter is not None else None
    try:
        (part / "README.md").write_text(merged_card(record, asking_of(trained), folder=folder), encoding="utf-8")
    except OSError as exc:
        raise files.unwritable(folder, exc, resumes=False) from exc


def _answer(model: Any, loaded: LoadedModel, prompt: str) -> tuple[Any, str]:
    """Scores of the tokens after each of the prompt's, float32 [tokens, vocabulary], and the greedy answer."""
    import torch

    from llmkit.engines.torch.batch import running

    tokenizer, encoder_decoder = loaded.tokenizer, loaded.checkpoint.is_encoder_decoder
    ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=loaded.device.name)
    with running(loaded.location.reference, 1, loaded.look_at), torch.inference_mode():
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=_NEW_TOKENS
        )
        more = {"decoder_input_ids": written[:, :1]} if encoder_decoder else {}
        scores = model(input_ids=ids, **more).logits[0].float()
    new = written[0] if encoder_decoder else written[0][ids.shape[1] :]
    return scores, tokenizer.decode(new, skip_special_tokens=True)
