"""The names of commands and options as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: A command's name, its module, and the line the help page shows for it (so that help imports no command).
COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("llmkit.cli.commands.generate", "Generate text from a prompt, or an answer to each row of a file."),
    "finetune": ("llmkit.cli.commands.finetune", "Train a LoRA adapter from a data file; the same command resumes."),
    "merge": ("llmkit.cli.commands.merge", "Merge an adapter into its base, and compare their answers."),
    "translate": ("llmkit.cli.commands.translate", "Translate a text, the lines of a file, or a field of its rows."),
    "evaluate": ("llmkit.cli.commands.evaluate", "Measure a model, or saved outputs."),
    "models": ("llmkit.cli.commands.models", "List built-in and cached models, and show what a model needs."),
    "doctor": ("llmkit.cli.commands.doctor", "Show what works on this machine, and how to fix what does not."),
    "rerun": ("llmkit.cli.commands.rerun", "Run a recorded run again and say whether the result is the same."),
}

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


def normalize(name: str) -> str:
    """The option name (without dashes in front) that `name` stands for."""
    dashed = name.replace("_", "-")
    return ALIASES.get(dashed, dashed)
