"""The names of commands and options as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: A command's name, its module, and the line the help page shows for it (so that help imports no command).
COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("llmkit.cli.commands.generate", "Text from a prompt, or an answer to every row of a file."),
    "finetune": ("llmkit.cli.commands.finetune", "A LoRA adapter from a data file, by a run that resumes."),
    "merge": ("llmkit.cli.commands.merge", "An adapter and its base as one model, shown to answer alike."),
    "translate": ("llmkit.cli.commands.translate", "A text, the lines of a file, or a field of its rows, in another language."),
    "evaluate": ("llmkit.cli.commands.evaluate", "Numbers about a model or about saved outputs."),
    "models": ("llmkit.cli.commands.models", "What is here: built-in and cached models, and what one needs."),
    "doctor": ("llmkit.cli.commands.doctor", "What works on this machine, and the fix for what does not."),
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
