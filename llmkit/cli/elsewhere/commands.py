"""Commands of other tools."""

from __future__ import annotations

from llmkit.cli.elsewhere.table import by_name

_COMMANDS = {
    'llmkit generate "..."': (
        "run complete prompt ask infer inference predict sample simple completions.create ollama llama textgen transformers"
    ),
    'llmkit generate "...", or -i FILE': "llama-cli responses batch run-batch",
    'llmkit generate "..."; a conversation is a row with the field messages': (
        "chat shell repl interactive playground conversation chat-completion chat-completions"
    ),
    'llmkit generate -i FILE --template "Summarize: {text}"': (
        "write text-generation summarize summarise qa question-answering explain extract extract-keywords rewrite paraphrase synth "
        "synthesize augment annotate label template templates"
    ),
    "llmkit finetune train.jsonl -o adapters/mine": (
        "train lora qlora tune tuning sft fit resume fine-tunes fine-tunes.create run-clm run-mlm training "
        "axolotl unsloth litgpt torchtune llamafactory-cli"
    ),
    "llmkit finetune train.jsonl -o models/mine --full, which trains all weights of a model that exists": "pretrain",
    "llmkit finetune train.jsonl --dry-run, which checks the rows": (
        "data dataset datasets prepare preprocess validate lint format fmt chunk dedup deduplicate split files fragments"
    ),
    "llmkit merge adapters/mine -o models/mine": "fuse export unload merge-and-unload",
    "llmkit finetune ANSWERS.jsonl, where a larger model's llmkit generate has answered your prompts": "distill distillation kd",
    "llmkit evaluate perplexity -i FILE": "ppl perplexity bits-per-byte eval-lm",
    "llmkit evaluate perplexity -i FILE --against REF": "kl kl-divergence",
    "llmkit evaluate bleu -p OUTPUTS -r REFERENCES": "bleu sacrebleu",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics chrf,exact_match": "score metric metrics",
    "llmkit evaluate score --metrics NAME, which finds NAME in the library evaluate": (
        "bertscore comet bleurt sari cer meteor gleu nist mauve"
    ),
    "llmkit has no benchmark tasks; use lm-eval for them": "gsm8k ifeval truthfulqa task tasks ls-tasks",
    "llmkit evaluate choice -i FILE": "mmlu hellaswag arc piqa winogrande choice multiple-choice classify classification sentiment ner",
    "llmkit evaluate code -i FILE": "humaneval mbpp pass@k code",
    "llmkit evaluate run suite.toml": "suite harness lm-eval",
    "llmkit evaluate": "eval test bench benchmark measure",
    "llmkit evaluate compare A.json B.json": "compare diff pairwise win-rate paired",
    'llmkit translate "..." --to LANGUAGE': (
        "translation nmt mt marian nllb opus opus-mt deepl argos argospm argos-translate detect run-translation"
    ),
    "llmkit push adapters/mine org/name": "upload share hub repo repos tag endpoints spaces",
    "llmkit gather OUTPUT": "join combine collect",
    "llmkit rerun OUTPUT.run.json": "repeat reproduce replay re-run",
    "-m org/name downloads a model when it is first used": "download pull get fetch install load hf huggingface-cli",
    "llmkit models": "list ls ps cache model",
    "https://huggingface.co/models lists models; -m org/name uses one": "search find",
    "llmkit has no copies of models; -m REF names one for each run": "create cp copy launch stop start",
    "each output has a record beside it: OUTPUT.run.json": "logs log history",
    "llmkit models show REF": "show info inspect memory",
    "'hf cache' removes downloaded models, 'llmkit models clear' others": "rm remove delete prune scan-cache clean clear gc purge",
    "'hf auth login' stores a token for the Hugging Face Hub": "login logout auth whoami signin signout sign-in sign-out",
    "llmkit has no server; use vLLM or 'transformers serve'": (
        "serve server api web ui gui tui webui web-ui webchat studio gradio streamlit dashboard monitor app"
    ),
    "nothing to convert: --engine and --quantize are options": (
        "convert quantize gguf onnx awq gptq dwq export-gguf imatrix quantise quantization"
    ),
    "llmkit has no embeddings; use the library sentence-transformers": (
        "embed embedding embeddings encode embed-models embed-multi collections similar rag index retrieve rerank vectorize"
    ),
    "llmkit has no commands for images or speech": (
        "image images audio speech moderation moderations images.generate mtmd tts stt asr ocr whisper transcribe transcription "
        "transcriptions caption vision video"
    ),
    "--json shows the number of tokens of prompt and answer": "tokenize tokenizer tokens count tokenise detokenize detokenise vocab",
    "python -m pip install --upgrade llmkit": "upgrade update self",
    "--config FILE, or variables such as LLMKIT_MODEL": "config settings init setup alias aliases default defaults option options",
    "keys are read from OPENAI_API_KEY and HF_TOKEN": "keys key",
    "llmkit doctor, or llmkit --version": "env check status version devices system-info collect-env",
    "llmkit completion bash, zsh or fish": "completions install-completion autocomplete shell-completion",
    "llmkit help COMMAND": "man docs documentation usage tutorial quickstart example examples demo guide",
    'llmkit generate "..." --draft-model REF or --prompt-lookup N': "speculative lookup",
    "llmkit finetune train.jsonl; rows with chosen and rejected are trained by DPO": "dpo grpo kto orpo rloo ppo bco gkd cpo reward rlhf",
    "llmkit merge adapters/mine -o models/mine, for an adapter and its base; mergekit joins models": "merge-models mergekit slerp",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics rouge": "rouge",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics chrf": "chrf",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics ter": "ter",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics wer": "wer",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics f1": "f1",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics accuracy": "accuracy",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics exact_match": "exact-match em",
    "llmkit evaluate score -p OUTPUTS -r REFERENCES --metrics chrf --chrf-word-order 2": "chrf++ chrfpp",
    "llmkit has no judges and no leaderboards; use llmkit evaluate compare A.json B.json": "judge arena leaderboard",
    "docs/responsible-use.md tells what to measure before a model is used": "safety toxicity bias faithfulness hallucination red-team",
    "llmkit translate -i FILE -o FILE --to LANGUAGE": "document documents subtitle subtitles srt localize localise i18n translate-file",
    'llmkit generate "...", or llmkit translate "..." --to LANGUAGE': "text",
    "llmkit translate --languages": "language languages langs",
    "llmkit translate -i FILE --glossary terms.csv --to LANGUAGE": "glossary glossaries",
    "the same command continues an unfinished run; --retry-failed runs failed rows again": "continue retry",
    "llmkit has no agents and calls no tools; a row's field tools is shown to the chat template": (
        "tool tools tool-call function function-call agent agents mcp"
    ),
    "--json-schema FILE and --regex PATTERN shape the answers of llmkit generate": "schema schemas grammar structured",
    "packages add metrics and report formats: see CONTRIBUTING.md": "plugin plugins extension extensions",
    'llmkit generate "..." -m openai:NAME --api-base URL': "openai vllm sglang tgi lmstudio",
    "docs/scale.md describes servers, workers and job arrays": "job jobs queue submit schedule worker workers ray cluster distributed",
    "llmkit doctor --speed": "speed speedtest profile latency throughput roofline",
    "llmkit models show REF, which names a model's license; that of llmkit is Apache-2.0": "about license licenses licence credits",
    "import llmkit: docs/python.md describes it": "python notebook jupyter colab sdk",
    "python -m pip uninstall llmkit": "uninstall",
}

#: Commands of other tools, each with what to type here.
COMMANDS_ELSEWHERE = by_name(_COMMANDS)
