"""Option names as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: Names known from other tools, each accepted for ours but not listed.
ALIASES: dict[str, str] = {
    "max-tokens": "max-new-tokens",
    "temp": "temperature",
    "beam-size": "num-beams",
    "system-prompt": "system",
    "adapter-path": "adapter",
    "num-return-sequences": "num-samples",
    "schema": "json-schema",
    "src-lang": "from",
    "tgt-lang": "to",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "assistant-model": "draft-model",
    "force": "overwrite",
    "data": "train",
    "lora-rank": "lora-r",
    "lora-target-modules": "target-modules",
    "use-dora": "dora",
    "use-rslora": "rslora",
    "lr": "learning-rate",
    "num-train-epochs": "epochs",
    "gradient-accumulation-steps": "grad-accum",
    "lr-scheduler-type": "lr-scheduler",
    "warmup": "warmup-ratio",
    "max-seq-length": "max-length",
    "neftune-noise-alpha": "neftune",
    "save-total-limit": "keep-checkpoints",
}


def normalize(name: str) -> str:
    """The option name (without dashes in front) that `name` stands for."""
    dashed = name.replace("_", "-")
    return ALIASES.get(dashed, dashed)
