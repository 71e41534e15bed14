"""The names of commands and options as people type them: underscores, and names known from other tools, become ours."""

from __future__ import annotations

#: Commands, each a module of its name in `commands/`, with the line that the help page shows (so that help imports no command).
COMMANDS = {
    "generate": "Generate text from a prompt, or for each row of a file.",
    "finetune": "Train a LoRA adapter; the same command resumes.",
    "merge": "Merge an adapter into its base, and compare their answers.",
    "push": "Upload a finished adapter or merged model to a hub, with its card.",
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
    **dict.fromkeys(("run", "chat", "complete", "prompt", "ask", "infer", "inference", "predict", "sample"), 'llmkit generate "..."'),
    **dict.fromkeys(("write", "text-generation", "summarize", "summarise"), 'llmkit generate -i FILE --template "Summarize: {text}"'),
    **dict.fromkeys(("train", "lora", "qlora", "tune", "sft", "fit", "dpo", "resume"), "llmkit finetune train.jsonl -o adapters/mine"),
    **dict.fromkeys(("fuse", "export", "unload"), "llmkit merge adapters/mine -o models/mine"),
    **dict.fromkeys(("ppl", "perplexity", "bits-per-byte"), "llmkit evaluate perplexity -i FILE"),
    **dict.fromkeys(("kl", "kl-divergence"), "llmkit evaluate perplexity -i FILE --against REF"),
    **dict.fromkeys(("bleu", "sacrebleu"), "llmkit evaluate bleu -p OUTPUTS -r REFERENCES"),
    **dict.fromkeys(
        ("rouge", "chrf", "ter", "wer", "cer", "meteor", "f1", "accuracy", "exact-match", "score", "metric", "metrics"),
        "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics chrf,exact_match",
    ),
    **dict.fromkeys(("mmlu", "hellaswag", "arc", "piqa", "winogrande", "choice", "multiple-choice"), "llmkit evaluate choice -i FILE"),
    **dict.fromkeys(("humaneval", "mbpp", "pass@k", "code"), "llmkit evaluate code -i FILE"),
    **dict.fromkeys(("suite", "harness", "lm-eval"), "llmkit evaluate run suite.toml"),
    **dict.fromkeys(("eval", "test", "bench", "benchmark", "measure"), "llmkit evaluate"),
    **dict.fromkeys(("compare", "diff"), "llmkit evaluate compare A.json B.json"),
    **dict.fromkeys(("translation", "nmt"), 'llmkit translate "..." --to LANGUAGE'),
    **dict.fromkeys(("upload", "share", "hub"), "llmkit push adapters/mine org/name"),
    **dict.fromkeys(("join", "combine", "collect"), "llmkit gather OUTPUT"),
    **dict.fromkeys(("repeat", "reproduce", "replay"), "llmkit rerun OUTPUT.run.json"),
    **dict.fromkeys(("download", "pull", "get", "fetch", "install"), "-m org/name downloads a model when it is first used"),
    **dict.fromkeys(("list", "ls", "ps", "cache", "model"), "llmkit models"),
    **dict.fromkeys(("show", "info", "inspect", "memory"), "llmkit models show REF"),
    **dict.fromkeys(
        ("rm", "remove", "delete", "prune", "scan-cache"), "'hf cache' removes downloaded models, 'llmkit models clear' others"
    ),
    **dict.fromkeys(("login", "logout", "auth", "whoami"), "'hf auth login' stores a token for the Hugging Face Hub"),
    **dict.fromkeys(("serve", "server", "api", "web", "ui"), "llmkit has no server; use vLLM or 'transformers serve'"),
    **dict.fromkeys(("convert", "quantize", "gguf", "onnx"), "nothing to convert: --engine and --quantize are options"),
    **dict.fromkeys(("embed", "embeddings", "encode"), "llmkit has no embeddings; use the library sentence-transformers"),
    **dict.fromkeys(("tokenize", "tokens", "count"), "--json shows the number of tokens of prompt and answer"),
    **dict.fromkeys(("upgrade", "update", "self"), "python -m pip install --upgrade llmkit"),
    **dict.fromkeys(("config", "settings", "init", "setup"), "--config FILE, or variables such as LLMKIT_MODEL"),
    **dict.fromkeys(("env", "check", "status", "version", "devices", "system-info"), "llmkit doctor, or llmkit --version"),
    **dict.fromkeys(("completions", "install-completion"), "llmkit completion bash, zsh or fish"),
    **dict.fromkeys(("man", "docs", "documentation", "usage"), "llmkit help COMMAND"),
}

#: Names known from other tools, each accepted for ours but not listed.
ALIASES: dict[str, str] = {
    "model-name-or-path": "model",
    "model-id": "model",
    "hf-model": "model",
    "max-tokens": "max-new-tokens",
    "n-predict": "max-new-tokens",
    "num-predict": "max-new-tokens",
    "new-tokens": "max-new-tokens",
    "max-gen-toks": "max-new-tokens",
    "max-output-tokens": "max-new-tokens",
    "base-url": "api-base",
    "num-workers": "workers",
    "ray-address": "ray",
    "num-cpus-per-worker": "cpus-per-worker",
    "num-gpus-per-worker": "gpus-per-worker",
    "temp": "temperature",
    "beam-size": "num-beams",
    "beam": "num-beams",
    "beams": "num-beams",
    "beam-width": "num-beams",
    "system-prompt": "system",
    "adapter-path": "adapter",
    "lora-path": "adapter",
    "lora": "adapter",
    "peft": "adapter",
    "stop-sequence": "stop",
    "stop-sequences": "stop",
    "stop-words": "stop",
    "stop-strings": "stop",
    "repeat-penalty": "repetition-penalty",
    "hypotheses": "predictions",
    "hyp": "predictions",
    "refs": "references",
    "ref": "references",
    "metric": "metrics",
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
    "r": "lora-r",
    "alpha": "lora-alpha",
    "dropout": "lora-dropout",
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
    "num-epochs": "epochs",
    "val-size": "valid-split",
    "validation-split": "valid-split",
    "eval-split": "valid-split",
    "val-file": "valid",
    "validation-file": "valid",
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
    "stream": "the answer to one prompt is always streamed",
    **dict.fromkeys(("do-sample", "sample", "sampling", "greedy"), "--temperature 0 is greedy, the default; above 0 samples"),
    **dict.fromkeys(("frequency-penalty", "presence-penalty"), "--repetition-penalty, above 1, makes repetition less likely"),
    **dict.fromkeys(("load-in-4bit", "q4", "4bit", "int4"), "--quantize int4"),
    **dict.fromkeys(("load-in-8bit", "q8", "8bit", "int8"), "--quantize int8"),
    "revision": "the revision is part of the name: -m org/name@revision",
    **dict.fromkeys(("tokenizer", "tokenizer-name", "processor"), "the tokenizer is the one in the model's folder"),
    **dict.fromkeys(("token", "hf-token", "use-auth-token"), "HF_TOKEN, or 'hf auth login'"),
    **dict.fromkeys(("api-key", "openai-api-key"), "the key is read from OPENAI_API_KEY"),
    **dict.fromkeys(("cache-dir", "hf-home"), "HF_HOME names the folder of downloaded models, LLMKIT_HOME that of converted ones"),
    **dict.fromkeys(("max-samples", "num-examples", "max-rows", "head"), "--limit N reads the first N rows"),
    **dict.fromkeys(("split", "subset", "dataset-split"), "the split is part of the name: -i org/name:split"),
    **dict.fromkeys(("column", "field", "text-column"), "--text-field or --prompt-field names the field"),
    **dict.fromkeys(("format", "file-format"), "--input-format and --output-format"),
    **dict.fromkeys(("no-color", "color"), "NO_COLOR=1 turns colors off"),
    **dict.fromkeys(("yes", "-y", "non-interactive"), "omit it: no question is ever asked"),
    **dict.fromkeys(
        ("gpus", "num-gpus", "tensor-parallel-size", "n-gpu-layers", "ngl"), "docs/scale.md tells how several devices share the work"
    ),
    "shard": "'generate' and 'translate' of rows have it; 'evaluate' has --workers",
    **dict.fromkeys(("deepspeed", "multi-gpu"), "torchrun -m llmkit finetune trains on several devices"),
    **dict.fromkeys(("resume", "resume-from-checkpoint"), "omit it: the same command resumes an unfinished run"),
    **dict.fromkeys(("wandb", "tensorboard", "mlflow"), "--report-to wandb, tensorboard or mlflow"),
    "sweep": "one command is one run; a shell loop makes several",
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
