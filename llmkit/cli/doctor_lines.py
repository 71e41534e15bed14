"""A line of `llmkit doctor`, and the lines about speed: what was measured, which engine and precision are fastest here, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from llmkit.models import speed
from llmkit.models.devices import KINDS
from llmkit.models.speed import Speed

#: A precision is faster from this many times float32's rate on: less is the clock's.
_FASTER = 1.2
#: ... and emulated below this share of it.
_EMULATED = 0.25


@dataclass(frozen=True)
class DoctorLine:
    """One line of the report. fix: what to do when it is not ok."""

    name: str
    ok: bool
    value: str
    fix: str | None = None


def measured_speed() -> Iterator[DoctorLine]:
    """Measures every device that is here, remembers it, and says what follows."""
    from llmkit.engines.torch.devices import select
    from llmkit.engines.torch.speed import measure
    from llmkit.errors import LlmkitError

    speeds: dict[str, Speed] = {}
    for kind in KINDS:
        try:
            device = select(kind).name
        except LlmkitError:
            continue  # not here, as another line says
        try:
            speeds[kind] = measure(device)
        except LlmkitError as exc:
            yield DoctorLine(f"speed of {kind}", False, exc.message, exc.hint)
    if speeds:
        try:
            place = speed.remember(speeds)
        except LlmkitError as exc:
            yield DoctorLine("speed", False, exc.message, exc.hint)
        else:
            yield DoctorLine("speed", True, f"saved in {place}; -v and run records now show what share of it a run reached")
    for kind, of_device in speeds.items():
        yield from _lines(kind, of_device)


def known_speed() -> Iterator[DoctorLine]:
    """What is remembered of this machine; nothing where it was never measured."""
    for kind in KINDS:
        if (of_device := speed.remembered(kind)) is not None:
            yield from _lines(kind, of_device)


def _lines(kind: str, measured: Speed) -> Iterator[DoctorLine]:
    rates = ", ".join(f"{rate / 1e9:,.{0 if rate > 1e10 else 1}f} GFLOP/s in {dtype}" for dtype, rate in measured.rates.items())
    yield DoctorLine(f"speed of {kind}", True, f"reads {measured.bandwidth / 1e9:,.1f} GB/s; multiplies matrices at {rates}")
    engine, dtype = ("ctranslate2", "float32") if kind == "cpu" else ("torch", _fastest(measured))
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    many = "; for files of prompts, torch is often faster on processors with AVX-512 (docs/speed.md)" if kind == "cpu" else ""
    yield DoctorLine(
        f"answers on {kind}",
        True,
        f"{engine} in {dtype} is fastest for one prompt: each token reads all weights once, so a model of a billion weights "
        f"reaches at most {measured.bandwidth / size / 1e9:.1f} tokens/s{many}",
    )
    yield DoctorLine(f"scores on {kind}", True, _products(measured))
    if kind == "cpu":
        yield _int8(measured)


def _fastest(measured: Speed) -> str:
    """The precision with the fastest matrix products; float32, the most exact, unless another one is clearly faster."""
    best = max(measured.rates, key=lambda dtype: measured.rates[dtype])
    base = measured.rates.get("float32", 0.0)
    return best if measured.rates[best] > _FASTER * base else "float32"


def _products(measured: Speed) -> str:
    fastest, base = _fastest(measured), measured.rates.get("float32", 0.0)
    emulated = [f"{base / rate:,.0f} times as long in {dtype}" for dtype, rate in measured.rates.items() if rate < _EMULATED * base]
    line = f"torch in {fastest} is fastest, also for training: all tokens are computed at once, so matrix products set the speed"
    if fastest != "float32" and base:
        line += f" ({measured.rates[fastest] / base:.1f} times float32's; it keeps about 3 digits, so auto does not choose it on a CPU)"
    return line + (f"; they take {' and '.join(emulated)}, which this processor does not have" if emulated else "")


def _int8(measured: Speed) -> DoctorLine:
    """What weights in 8 bits save, by arithmetic, and cost and gain, as measured on the models that were converted here."""
    from llmkit.engines.ctranslate2 import cache

    arithmetic = f"a quarter of the memory, so a model of a billion weights reaches at most {measured.bandwidth / 1e9:.1f} tokens/s"
    models = [entry.manifest["model"]["int8"] for entry in cache.SHELF.listed() if cache.SHELF.is_own(entry) and "model" in entry.manifest]
    pairs = [(each["speed"], each["nats"]) for each in models]
    if not pairs:
        return DoctorLine("--quantize int8", True, f"{arithmetic}; the first conversion of a model measures its speed and its error")
    gain, cost = (statistics.median(column) for column in zip(*pairs, strict=True))
    what = f"{len(pairs)} converted model{'s' * (len(pairs) > 1)}"
    return DoctorLine("--quantize int8", True, f"{arithmetic}; on {what} {gain:.1f} times as fast, scores off by {cost:.3f} nats (median)")
