"""Options of other tools."""

from __future__ import annotations

from llmkit.cli.elsewhere.table import by_name

_OPTIONS = {
    'the prompt is the argument: llmkit generate "Once upon a time"; many prompts: -i FILE': "-p prompt text",
    "--from and --to name the languages": "lang language source target from-name to-name source-name",
    "--to, --temperature and --threads have no short form": "-t",
    "this option has no short form here; 'llmkit help COMMAND' lists the names": "-b -c",
    "-i FILE reads rows": "-f file files fragment stdin binary-file prompt-file -bf",
    "rows are read from -i FILE; finetune takes its file as the argument": (
        "dataset dataset-name train-file train-dataset hf-dataset data-dir dataset-dir train-sets data-path"
    ),
    "-m org/name, or -m org/name/file.gguf": "-hf hf-repo hf-file model-url url repo repo-id hub gguf -mu -hfr -hff",
    "did you mean --help?": "-help",
    "did you mean --version?": "-version",
    "one command is one answer; a conversation is a row with 'messages'": (
        "-cnv conversation interactive multiline single-turn cid session history chat in-prefix-bos simple-io -no-cnv no-conversation -st "
        "-mli multiline-input"
    ),
    "omit it: llmkit decides this itself; --batch-size and --threads are options": (
        "-fa flash-attn attn-implementation enforce-eager compile flash-attention use-flash-attn torch-compile bettertransformer "
        "cache-implementation no-warmup kv-offload no-kv-offload rope-scaling rope-freq-base rope-freq-scale yarn-ext-factor defrag-thold "
        "cont-batching context-shift no-context-shift numa prio poll cpu-mask cpu-range check-tensors enable-prefix-caching "
        "enable-chunked-prefill scheduling-policy liger liger-kernel use-liger-kernel unsloth use-unsloth preprocessing-num-workers "
        "dataset-num-proc dataloader-num-workers num-proc group-by-length length-column-name pad-to-sequence-len pad-to-max-length "
        "padding-side disable-custom-all-reduce max-num-partial-prefills block-size -ub -cb -nocb -nkvo -dt -kvu -sm -ts sdp-attention "
        "flash-attn-2 min-tokens-to-keep"
    ),
    "llmkit has no such setting; --device-map auto, --quantize and --batch-size save memory": (
        "mlock no-mmap mmap max-kv-size kv-bits cache-type-k gpu-memory-utilization prompt-cache prompt-cache-file keepalive keep-alive "
        "low-cpu-mem-usage swap-space cpu-offload-gb kv-cache-dtype n-cpu-moe cpu-moe override-tensor gpu-memory max-memory -ctk -ctv "
        "-nommap cache-type-v kv-group-size quantized-kv-start cache-ram"
    ),
    "--top-p, --top-k and --min-p shape sampling": (
        "mirostat typical typical-p xtc-probability tfs top-a samplers sampling-seq dry-multiplier dynatemp-range temp-range "
        "epsilon-cutoff eta-cutoff penalty-alpha renormalize-logits smoothing-factor mirostat-tau mirostat-eta top tfs-z top-n-sigma "
        "xtc-threshold dry-base dry-allowed-length adaptive-p"
    ),
    "--json-schema or --regex shapes the answer": (
        "grammar grammar-file response-format structured-outputs logit-bias bad-words-ids extract extract-last schema-multi format-schema "
        "-j -jf guided-choice guided-grammar guided-decoding-backend choices -x"
    ),
    "--chat-template-kwargs '{\"enable_thinking\": false}', where the model has it": (
        "think hidethinking enable-thinking reasoning-budget reasoning-format reasoning-parser"
    ),
    '--chat-template-kwargs \'{"reasoning_effort": "low"}\', where the model has it': "reasoning-effort",
    "a model's chat template is used by default; --chat-template none turns it off": (
        "apply-chat-template ignore-chat-template use-default-chat-template no-chat-template jinja"
    ),
    "llmkit has no server; use vLLM or 'transformers serve'": "host port served-model-name",
    "llmkit reads text only": "image images mmproj audio limit-mm-per-prompt attachment attach video vision at attachment-type",
    "-n N writes N answers per prompt": "best-of samples num-generations num-beam-groups diversity-penalty num-answers num-return nreturn",
    "--draft-model REF or --prompt-lookup N drafts tokens": "num-draft-tokens num-speculative-tokens draft-max -md draft draft-min draft-n",
    "--batch-size N, or --concurrency N with openai:NAME": "max-num-seqs parallel ubatch-size",
    "--adapter REF": "enable-lora lora-modules lora-scaled",
    "--quantize int8 or int4": "quantization quant bits load-format",
    "--dtype bfloat16 or float16": "precision mixed-precision amp tf32",
    "-m REF: a folder, or org/name": (
        "model-args checkpoint-dir model-path model-dir checkpoint weights ckpt base-model base hf-path model-type pretrained path models"
    ),
    "decoding has options of its own: --temperature, --max-new-tokens, ...": (
        "gen-kwargs generate-flags generation-kwargs param params option options"
    ),
    "worked examples are part of the prompt: write them into the rows": "num-fewshot fewshot num-shots shots fewshot-as-multiturn",
    "--report FILE.json writes the scores, -o FILE each row's answer": "output-path log-samples predict-only",
    "--cache DIR keeps answers and scores": "use-cache cache-requests",
    "llmkit has no test sets; -r FILE names the references": (
        "test-set langpair echo-source origlang download citation cite language-pair gen-subset"
    ),
    "--json has the score alone with all its digits: ... --json | jq .scores.bleu": (
        "score-only width pretty indent json-output output-json -w short detail details"
    ),
    "--effective-order is BLEU for single sentences": "sentence-level sl sentence corpus",
    "--warmup-ratio is a share of the steps": "warmup-steps warmup-iters num-warmup-steps",
    "omit it: the optimizer is AdamW with its usual betas; --learning-rate and --weight-decay are options": (
        "optimizer optim beta1 beta2 adam-beta1 adam-beta2 adam-epsilon betas eps momentum optim-args adam-eps galore badam lomo"
    ),
    "omit it: the loss is logged in metrics.jsonl": "logging-steps log-every log-interval steps-per-report",
    "--eval-steps N, with --valid FILE or --valid-split 5%": (
        "eval-strategy evaluation-strategy val-batches do-eval evals-per-epoch valid-freq valid-steps validate-interval"
    ),
    "--save-steps N": "save-strategy checkpoint-every ckpt-every save-freq save-checkpoint-steps saves-per-epoch checkpointing-steps",
    "omit it: llmkit finetune trains": "do-train",
    "--target-modules q_proj,v_proj names the layers to adapt": (
        "num-layers lora-layers lora-query lora-key lora-value lora-projection lora-mlp lora-head freeze freeze-layers unfreeze "
        "trainable-layers lora-modules-to-save modules-to-save lora-target lora-target-linear"
    ),
    "LoRA is the default; --dora, or --full": "fine-tune-type finetuning-type train-type use-peft use-lora",
    "prompts are not trained on by default; --full-loss trains on them too": (
        "mask-prompt train-on-inputs train-on-prompt assistant-only-loss train-on-responses-only"
    ),
    "--adapter DIR continues to train an adapter": "resume-adapter-file resume-adapter",
    "llmkit push FOLDER org/name uploads the finished folder": "push-to-hub upload-repo hub-model-id push hub-strategy hub-private-repo",
    "--report-to wandb": "report-to-wandb wandb-project wandb-run-id wandb-name wandb-watch wandb-log-model",
    "torchrun -m llmkit finetune trains on several devices": "devices nproc-per-node num-processes strategy deepspeed multi-gpu",
    "docs/scale.md tells how several devices share the work": (
        "pipeline-parallel-size data-parallel-size tp pp split-mode gpus num-gpus tensor-parallel-size n-gpu-layers gpu-layers -ngl ngl "
        "distributed-executor-backend expert-parallel-size enable-expert-parallel tensor-split -tp -pp -dp world-size gpu-ranks"
    ),
    "omit it: the merged model has full precision, see --dtype": "de-quantize",
    "-q shows warnings and errors only, -v more; 2> FILE keeps them": (
        "disable-tqdm no-progress silent log-level log-file log-verbosity no-perf timings no-timings disable-log-stats "
        "disable-log-requests uvicorn-log-level quiet-mode debug-mode log-disable disp-freq report-every -lv"
    ),
    "the answer to one prompt is always streamed": "stream",
    "--temperature 0 is greedy, the default; above 0 samples": "do-sample sample sampling greedy random sampler",
    "--repetition-penalty, above 1, makes repetition less likely": (
        "frequency-penalty presence-penalty penalize-nl repeat-last-n encoder-repetition-penalty penalty exponential-decay-length-penalty"
    ),
    "--quantize int4": "load-in-4bit q4 4bit int4 bnb-4bit-quant-type bnb-4bit-compute-dtype bnb-4bit-use-double-quant double-quantization",
    "--quantize int8": "load-in-8bit q8 8bit int8",
    "the revision is part of the name: -m org/name@revision": "revision branch commit variant model-revision",
    "the tokenizer is the one in the model's folder": "tokenizer tokenizer-name processor",
    "HF_TOKEN, or 'hf auth login'": "token hf-token use-auth-token hub-token use-token -hft",
    "the key is read from OPENAI_API_KEY": "api-key openai-api-key key auth-key",
    "HF_HOME names the folder of downloaded models, LLMKIT_HOME that of converted ones": "cache-dir hf-home download-dir local-dir",
    "--limit N reads the first N rows": "max-samples num-examples max-rows head max-eval-samples max-predict-samples max-train-samples",
    "the split is part of the name: -i org/name:split": "split subset dataset-split",
    "--text-field or --prompt-field names the field": "column field text-column",
    "--input-format and --output-format": "format file-format csv tsv jsonl xml html no-html sep separator delimiter",
    "NO_COLOR=1 turns colors off": "no-color color",
    "omit it: no question is ever asked": "yes -y non-interactive",
    "'generate' and 'translate' of rows have it; 'evaluate' has --workers": "shard",
    "omit it: the same command resumes an unfinished run": "resume resume-from-checkpoint resume-training from-checkpoint auto-resume",
    "--report-to wandb, tensorboard or mlflow": (
        "wandb tensorboard mlflow wandb-entity wandb-args comet neptune clearml trackio swanlab mlflow-uri mlflow-tracking-uri "
        "tensorboard-logdir tensorboard-log-dir"
    ),
    "one command is one run; a shell loop makes several": "sweep",
    "--dtype bfloat16": "bf16",
    "--dtype float16": "fp16 half",
    "--device cpu, cuda, mps or xpu": "cpu cuda gpu mps -dev",
    "llmkit evaluate perplexity, choice, score and code are the tasks; -i FILE has the rows": "tasks task",
    "--max-length limits prompt and answer together": (
        "ctx-size context-length max-model-len context-size context ctx n-ctx num-ctx max-context window"
    ),
    "-i FILE reads rows; training rows are the argument of llmkit finetune": "data train",
    "llmkit models": "list list-models",
    "llmkit completion bash, zsh or fish": "install-completion show-completion",
    "--stop TEXT ends an answer": "reverse-prompt end until",
    '--template "... {text} ..." makes the prompt of fields': "in-prefix in-suffix prefix postfix prompt-prefix prompt-template",
    "--min-new-tokens N keeps an answer from ending early": "ignore-eos min-length min-len",
    "the model's own special tokens are used; --stop-token NAME ends an answer, too": (
        "allowed-token-ids pad-token pad-token-id eos eos-token eos-token-id bos bos-token bos-token-id forced-bos-token-id "
        "add-special-tokens no-special-tokens"
    ),
    "special tokens and stop texts are never part of an answer": (
        "special skip-special-tokens include-stop-str-in-output spaces-between-special-tokens"
    ),
    "the prompt is printed only with --echo": "display-prompt no-display-prompt verbose-prompt no-echo",
    "omit it: an answer is printed as it is; lines are not wrapped": "nowordwrap wordwrap escape no-escape raw -e -sp -co",
    "-m FOLDER: 'hf download' brings a part of a repository": "subfolder",
    "a GGUF file's own settings are used; --chat-template FILE replaces its template": "override-kv",
    "certificates are always checked; SSL_CERT_FILE=FILE adds that of your own authority": (
        "insecure no-verify no-check-certificate ca-cert"
    ),
    "llmkit has no agents and calls no tools; a row's field tools is shown to the chat template": (
        "tools tool tool-choice tool-call-parser enable-auto-tool-choice parallel-tool-calls tools-debug chain-limit function functions "
        "functions-file td"
    ),
    "--device cuda:N names a GPU": "main-gpu gpu-id device-id -mg",
    "llmkit has no classifier-free guidance": "guidance-scale cfg-scale negative-prompt",
    "--logprobs with --json, or with -i FILE": "output-scores return-dict-in-generate max-logprobs top-logprobs",
    "llmkit evaluate perplexity -o FILE.jsonl has the log-likelihoods of given texts": (
        "prompt-logprobs per-token per-doc token-level logits"
    ),
    "-m openai:NAME --api-base URL names a server; it is sent no other settings": "api-type api-version organization user header headers",
    "HTTPS_PROXY names the proxy": "proxy",
    "--max-retries N for servers, --retry-failed for rows that failed": "retry retries",
    "--json has the number of tokens of prompt and answer": "usage count",
    "omit it: an answer is streamed, and never kept elsewhere": "no-log async no-cache database",
    "--json prints the whole answer at once": "no-stream",
    "-i FILE -o FILE answers the rows of a file, in batches": "batch batch-file",
    "--config FILE": "config-file conf params-file",
    "--system TEXT": "role persona system-prompt-file system-fragment -sys -sysf sf system-file",
    "--max-new-tokens N limits an answer; a word is one or two tokens": "words num-words sentences",
    "--threads N uses N cores; --workers N starts N processes": (
        "cores job jobs procs parallelism workers-count num-processes-per-gpu -tb threads-batch n-workers num-threads-batch"
    ),
    "--encoding NAME": "charset",
    "a .txt file has a row per line: -i FILE.txt": "lines line-by-line by-row rows",
    "--limit N reads the first N rows; for others: tail -n +100 FILE | llmkit ... -i -": (
        "skip offset from-line start max-windows docs sample-size chunks"
    ),
    "rows keep their order: shuf FILE | llmkit ... -i -; training takes them in an order of its own, from --seed": "shuffle",
    "--offline": "local-files-only no-download",
    "omit it: weights are always safetensors": "safetensors use-safetensors safe-serialization",
    "omit it: llmkit chooses the files of a model": "max-shard-size export-size arch vocab src-vocab tgt-vocab vocabs",
    "llmkit filters no answers; docs/responsible-use.md tells what you can do": "safe unsafe safety no-safety guard moderate",
    "omit it: fields are found by name; 'docs/rows.md' lists them": "dataset-kwargs dataset-args remove-unused-columns",
    "--text-field, --prompt-field and --completion-field name the fields": (
        "dataset-text-field prompt-feature prompt-column response-column"
    ),
    "omit it: several processes need no setting; --fsdp shards the frozen weights": (
        "ddp-find-unused-parameters ddp-timeout ddp-backend ddp-bucket-cap-mb fsdp-config fsdp-transformer-layer-cls-to-wrap "
        "accelerate-config"
    ),
    "llmkit trains by plain cross-entropy; --neftune and --lora-dropout are against overfitting": (
        "label-smoothing label-smoothing-factor criterion"
    ),
    "--keep best keeps the weights with the best validation loss, the default with --valid": (
        "load-best-model-at-end metric-for-best-model greater-is-better save-best"
    ),
    "--overwrite": "overwrite-output-dir overwrite-output",
    "the log is metrics.jsonl in the output folder; --report-to wandb, tensorboard or mlflow": "logging-dir run-name",
    "--max-length N limits prompt and answer together": "max-prompt-length max-completion-length",
    "preferences are trained by DPO, against the initial model or that of --adapter; --dpo-beta is its option": (
        "loss-type ref-model reference-model sync-ref-model ref-adapter rpo-alpha"
    ),
    "--lora-r, --lora-alpha, --lora-dropout and --target-modules describe the adapter": (
        "lora-bias lora-task-type peft-config adapter-config adapter-type"
    ),
    "--batch-size times --grad-accum rows make a step": "global-batch-size total-batch-size effective-batch-size",
    "llmkit averages no weights; --keep best keeps the best ones": "ema swa weight-averaging",
    "--lr-scheduler NAME shapes the learning rate": "lr-decay lr-min min-lr cosine-min-lr-ratio lr-decay-iters lr-decay-steps decay-lr",
    "the rows decide: prompt with completion, or chosen with rejected (DPO)": "stage rl rlhf train-mode",
    "omit it: loss.png is drawn where the extra plot is installed": "plot-loss",
    "LoRA, --rslora, --dora and --full are the methods": (
        "loftq pissa olora adalora ia3 vera boft oft prompt-tuning prefix-tuning loftq-config init-lora-weights"
    ),
    "--valid FILE": "eval-dataset eval-data eval-file test-file val-dataset valid-sets valid-data",
    "--seed N repeats a run": "seed-everything deterministic full-determinism",
    "--keep-checkpoints N": "keep-last keep-last-n",
    "llmkit merge ADAPTER -o FOLDER": "merged merge auto-merge save-merged export-dir save-method merge-adapter",
    "llmkit writes no GGUF; docs/finetune.md tells how llama.cpp makes it": "gguf-out export-gguf quantization-method",
    "llmkit evaluate run suite.toml measures several sets": "include-path write-out show-config check-integrity metadata",
    "llmkit evaluate code --run-code": "confirm-run-unsafe-code allow-code-execution",
    "omit it: intervals are shown by default; --confidence-n is sacrebleu's": "bootstrap-iters",
    "llmkit evaluate choice -i FILE": "hellaswag hellaswag-tasks winogrande winogrande-tasks multiple-choice multiple-choice-tasks",
    "--against REF compares with another model's probabilities in one run": (
        "kl-divergence kl-divergence-base all-logits save-all-logits logits-all"
    ),
    "--context N and --stride N describe the windows": "sliding-window",
    "-p FILE names the outputs": "sys sys-name system-output translations hypothesis-file pred preds system-outputs",
    "-r FILE names references; give it again for more": "num-refs ref-file reference-file",
    "BLEU counts 1 to 4 words; --chrf-char-order and --chrf-word-order are chrF's": "max-ngram-order ngram ngrams",
    "--smooth-method floor": "floor",
    "--lowercase": "lower ignore-case",
    "llmkit has no setting for the style of a translation": "formality formal informal tone style brief domain",
    "omit it: the file's ending names its format, and its structure is kept": (
        "preserve-formatting keep-format tag-handling ignore-tags non-splitting-tags outline-detection"
    ),
    "omit it: texts are split into sentences that fit the model": (
        "split-sentences no-split sentence-split segment max-sentence-length max-len-a max-len-b remove-bpe post-process sentencepiece"
    ),
    "--from auto, the default, detects the language": "detect detect-language auto",
    "--glossary FILE": "dict dictionary terminology termbase tm translation-memory",
    "-o FILE names the output; an input is never overwritten": "in-place inplace",
    "a command translates one file; docs/recipes.md has find and xargs": "recursive dir folder",
    "--n-best N": "alternatives nbest",
    "--num-beams N": "beam-search decoding-method",
    "-m org/name downloads a model when it is first used": "package install update pull-policy",
    "-i FILE names the input, -o FILE the output": "src-file tgt-file source-file target-file",
    "omit it: llmkit models lists all models on this machine": "all installed local",
    "https://huggingface.co/models lists models; -m org/name uses one": "remote search filter sort author tags",
}

#: Options of other tools that have no option of ours as their equal (without dashes; those of one dash with theirs), each with what to
#: type here.
OPTIONS_ELSEWHERE = by_name(_OPTIONS)

#: Options that mean something else in one command: by the command, a hint and the names that it answers.
_OF_COMMAND = {
    "generate": {
        "-i FILE reads rows; for one text: cat FILE | llmkit generate -": "-f file fragment stdin binary-file prompt-file -bf",
        "--stop TEXT ends an answer": "-r",
        "llmkit reads text only": "-a -at",
        "-n N": "n",
        "--num-beams N and --length-penalty shape beam search": "early-stopping",
        "--json-schema or --regex shapes the answer": "-l",
        "--continue continues the last message of a row": "prefill-response prefill",
    },
    "translate": {
        "--from LANGUAGE": "-f -s -sl sl",
        "--to LANGUAGE": "-t -tl tl td",
        "--to LANGUAGE; docs/scale.md tells how several devices share the work": "tp",
        "--from LANGUAGE --to LANGUAGE": "lang-pair language-pair langpair -l",
        "--n-best N": "n",
        "-o FILE names the output": "suffix",
        "a command translates one file; docs/recipes.md has find and xargs": "-r",
        "--length-penalty N": "lenpen len-pen normalize alpha",
        "--max-new-tokens N": "max-length max-decoding-length",
        "--batch-size N": "mini-batch maxi-batch",
        "llmkit shows no alignment of words": "alignment print-alignment report-align with-align",
        "llmkit translates with the model's own tokens": "replace-unk phrase-table unkpen prefix-size",
    },
    "finetune": {
        "--dpo-beta N": "beta",
        "llmkit evaluate perplexity --adapter DIR measures a trained adapter": "test",
        "--max-steps N": "steps max-update train-steps max-iters max-iterations after-batches",
        "--chat-template FILE": "template",
        "the training file is the argument: llmkit finetune FILE": "-f -i -p file input data-files prompt",
        "--lora-r N": "-r",
        "--epochs N": "-e max-epoch max-epochs after-epochs after",
        "--batch-size N": "-b -bs mini-batch mini-batch-fit maxi-batch",
        "--learning-rate N": "-lr max-lr learn-rate learning-rate-multiplier",
        "--grad-accum N": "accumulate-grad-batches update-freq accum-count optimizer-delay",
        "--max-grad-norm N": "clip-norm",
        "--early-stopping N": "patience early-stopping-epochs",
        "--valid-split 5%": "test-size val-set-size validation-split-percentage",
        "--seed N": "random-state random-seed",
        "--config FILE": "-c",
        "omit it: the same command resumes an unfinished run": "restore-file train-from",
        "-o DIR names the output folder": "suffix save-model",
    },
    "perplexity": {
        "--limit N reads the first N rows": "samples",
        "--context N": "-c window ctx-size context-length max-model-len sequence-length seq-len block-size max-length",
        "-i FILE names the texts": "-f -p prompt",
        "llmkit evaluate perplexity --against REF": "-kld",
    },
    "bleu": {
        "-p FILE names the outputs, -r FILE the references": "-s -f -ref -hyp -sys",
        "llmkit has no test sets; -r FILE names the references": "-t -l",
    },
    "score": {
        "--metrics NAMES": "-M eval-metrics",
        "-p FILE names the outputs, -r FILE the references": "-s -f -ref -hyp -sys",
    },
    "choice": {
        "--labels A,B names the choices for every row": "classes candidate-labels label-names",
    },
    "code": {
        "--code-timeout SECONDS": "timeout",
        "llmkit generate -n N writes N programs per row": "n-samples",
    },
    "merge": {
        "llmkit writes no GGUF; docs/finetune.md tells how llama.cpp makes it": "gguf format outtype",
        "the adapter is the argument: llmkit merge ADAPTER -o FOLDER": "adapter adapter-path lora-model-dir lora lora-path",
    },
}

#: The same, by the command and the option.
OPTIONS_OF_COMMAND = {(command, name): hint for command, hints in _OF_COMMAND.items() for name, hint in by_name(hints).items()}
