"""The names of commands and options as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: Commands, each a module of its name in `commands/`, with the line that the help page shows (so that help imports no command).
COMMANDS = {
    "generate": "Generate text from a prompt, or for each row of a file.",
    "finetune": "Train a LoRA adapter; the same command resumes.",
    "merge": "Merge an adapter into its base, and compare their answers.",
    "translate": "Translate a text, the lines of a file, or a field of its rows.",
    "evaluate": "Measure a model, or saved outputs.",
    "models": "List built-in and cached models, and show what a model needs.",
    "doctor": "Show what works on this machine, and how to fix what does not.",
    "rerun": "Repeat a recorded run and compare the results.",
}

#: Another spelling of a command that people type.
SPELLINGS = {"fine-tune": "finetune"}
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


def module_of(command: str) -> str:
    """The full name of a command's module."""
    return f"llmkit.cli.commands.{command}"


def normalize(name: str) -> str:
    """The option name (without dashes in front) that `name` stands for."""
    dashed = name.replace("_", "-")
    return ALIASES.get(dashed, dashed)
