"""The names of commands and options as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: Commands, each a module of its name in `commands/`, with the line that the help page shows (so that help imports no command).
COMMANDS = {
    "generate": "Generate text from a prompt, or for each row of a file.",
    "finetune": "Train a LoRA adapter; the same command resumes.",
    "merge": "Merge an adapter into its base, and compare their answers.",
    "push": "Put a finished adapter or merged model on a hub, with its card.",
    "translate": "Translate a text, the lines of a file, or a field of its rows.",
    "evaluate": "Measure a model, or saved outputs.",
    "models": "List built-in and cached models, and show what a model needs.",
    "doctor": "Show what works on this machine, and how to fix what does not.",
    "gather": "Join the shards of a run into the output of one process.",
    "rerun": "Repeat a recorded run and compare the results.",
    "completion": "Print the script that completes commands in bash, zsh or fish.",
}

#: Another spelling of a command that people type.
SPELLINGS = {"fine-tune": "finetune", "publish": "push"}

#: Commands of other tools, each with what to type here.
COMMANDS_ELSEWHERE = {
    **dict.fromkeys(("run", "chat", "complete", "prompt", "ask", "infer", "predict", "sample"), 'llmkit generate "..."'),
    **dict.fromkeys(("train", "lora", "tune", "sft", "fit", "dpo"), "llmkit finetune train.jsonl -o adapters/mine"),
    **dict.fromkeys(("fuse", "export"), "llmkit merge adapters/mine -o models/mine"),
    **dict.fromkeys(("ppl", "perplexity"), "llmkit evaluate perplexity -i FILE"),
    **dict.fromkeys(("bleu", "sacrebleu"), "llmkit evaluate bleu -p OUTPUTS -r REFERENCES"),
    **dict.fromkeys(("eval", "test", "score", "bench", "benchmark"), "llmkit evaluate"),
    "choice": "llmkit evaluate choice -i FILE",
    "compare": "llmkit evaluate compare A.json B.json",
    **dict.fromkeys(("download", "pull", "get", "fetch", "install"), "-m org/name downloads a model when it is first used"),
    **dict.fromkeys(("list", "ls", "ps", "cache"), "llmkit models"),
    **dict.fromkeys(("show", "info", "inspect"), "llmkit models show REF"),
    **dict.fromkeys(("rm", "remove", "delete", "prune"), "'hf cache' removes downloaded models"),
    **dict.fromkeys(("serve", "server", "api"), "llmkit serves no models; vLLM or 'transformers serve' do"),
    **dict.fromkeys(("env", "check", "status", "version"), "llmkit doctor, or llmkit --version"),
}

#: Names known from other tools, each accepted for ours but not listed.
ALIASES: dict[str, str] = {
    "model-name-or-path": "model",
    "model-id": "model",
    "hf-model": "model",
    "max-tokens": "max-new-tokens",
    "n-predict": "max-new-tokens",
    "max-gen-toks": "max-new-tokens",
    "max-output-tokens": "max-new-tokens",
    "base-url": "api-base",
    "temp": "temperature",
    "beam-size": "num-beams",
    "system-prompt": "system",
    "adapter-path": "adapter",
    "lora-path": "adapter",
    "num-return-sequences": "num-samples",
    "schema": "json-schema",
    "src": "from",
    "chat-template-config": "chat-template-kwargs",
    "chat-template-args": "chat-template-kwargs",
    "extra-eos-token": "stop-token",
    "src-lang": "from",
    "source-lang": "from",
    "source-language": "from",
    "tgt": "to",
    "tgt-lang": "to",
    "target-lang": "to",
    "target-language": "to",
    "assistant-model": "draft-model",
    "input-file": "input",
    "output-file": "output",
    "output-dir": "output",
    "force": "overwrite",
    "data": "train",
    "iters": "max-steps",
    "iterations": "max-steps",
    "rank": "lora-r",
    "lora-rank": "lora-r",
    "lora-plus": "lora-plus-ratio",
    "loraplus-lr-ratio": "lora-plus-ratio",
    "adapter-name-or-path": "adapter",
    "lora-target-modules": "target-modules",
    "lora-target-parameters": "target-parameters",
    "use-dora": "dora",
    "use-rslora": "rslora",
    "lr": "learning-rate",
    "num-train-epochs": "epochs",
    "per-device-train-batch-size": "batch-size",
    "gradient-accumulation-steps": "grad-accum",
    "lr-scheduler-type": "lr-scheduler",
    "warmup": "warmup-ratio",
    "max-seq-length": "max-length",
    "neftune-noise-alpha": "neftune",
    "save-total-limit": "keep-checkpoints",
}

_PROMPT = 'the prompt is the argument: llmkit generate "Once upon a time"; many prompts: -i FILE'
_LANGUAGES = "--from and --to name the languages"
#: Options of other tools that have no option of ours as their equal, each with what to type here.
OPTIONS_ELSEWHERE = {
    **dict.fromkeys(("-p", "prompt", "text"), _PROMPT),
    **dict.fromkeys(("lang", "language", "-l"), _LANGUAGES),
    **dict.fromkeys(("source", "target"), _LANGUAGES),
    "-t": "--to, --temperature and --threads have no short form",
    **dict.fromkeys(("-f", "file"), "-i FILE reads rows; for one text: cat FILE | llmkit generate -"),
    **dict.fromkeys(("dataset", "dataset-name", "train-file"), "rows are read from -i FILE; finetune takes its file as the argument"),
    "stream": "the answer to one prompt is streamed as it is",
    "do-sample": "--temperature above 0 samples",
    **dict.fromkeys(("load-in-4bit", "q4"), "--quantize int4"),
    **dict.fromkeys(("load-in-8bit", "q8"), "--quantize int8"),
    "bf16": "--dtype bfloat16",
    **dict.fromkeys(("fp16", "half"), "--dtype float16"),
    **dict.fromkeys(("cpu", "cuda", "gpu", "mps"), "--device cpu, cuda, mps or xpu"),
    **dict.fromkeys(("tasks", "task"), "llmkit evaluate perplexity, choice, score and code are the tasks; -i FILE has the rows"),
    **dict.fromkeys(("ctx-size", "context-length", "max-model-len"), "--max-length limits prompt and answer together"),
    **dict.fromkeys(("data", "train"), "-i FILE reads rows; training rows are the argument of llmkit finetune"),
    **dict.fromkeys(("list", "list-models"), "llmkit models"),
    **dict.fromkeys(("install-completion", "show-completion"), "llmkit completion bash, zsh or fish"),
}


def module_of(command: str) -> str:
    """The full name of a command's module."""
    return f"llmkit.cli.commands.{command}"


def normalize(name: str) -> str:
    """The option name (without dashes in front) that `name` stands for."""
    dashed = name.replace("_", "-")
    return ALIASES.get(dashed, dashed)
