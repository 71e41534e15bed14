"""What a mistaken command line is told: what to type instead, also when the name is another tool's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Run, write_rows

from llmkit.cli.elsewhere import COMMANDS_ELSEWHERE, OPTIONS_ELSEWHERE, OPTIONS_OF_COMMAND
from llmkit.cli.names import ALIASES, COMMANDS


@pytest.mark.parametrize(
    ("line", "wrong", "hint"),
    [
        ("run hello", "no such command 'run'", "llmkit generate"), ("chat", "no such command 'chat'", "llmkit generate"),
        ("train x", "no such command 'train'", "llmkit finetune"),
        ("trian x", "no such command 'trian'", "llmkit finetune"), ("lora", "no such command 'lora'", "llmkit finetune"),
        ("ppl", "no such command 'ppl'", "llmkit evaluate perplexity"), ("bleu", "no such command 'bleu'", "llmkit evaluate bleu"),
        ("eval", "no such command 'eval'", "llmkit evaluate"), ("evaluate ppl", "no such command 'ppl'", "evaluate perplexity"),
        ("download gpt2", "no such command 'download'", "-m org/name"), ("pull gpt2", "no such command 'pull'", "-m org/name"),
        ("serve", "no such command 'serve'", "has no server"), ("genrate x", "no such command 'genrate'", "did you mean 'generate'?"),
        ("evaluate perplexty", "no such command 'perplexty'", "did you mean 'perplexity'?"),
        ("models shw", "no such command 'shw'", "did you mean 'show'?"), ("zzz", "no such command 'zzz'", "'llmkit --help'"),
        ("--model gpt2 hello", "no such option --model", "llmkit generate --model gpt2 hello"),
        ("generate -p x", "no such option -p", "the prompt is the argument"),
        ("generate --prompt x", "no such option --prompt", "the prompt is the argument"),
        ("translate x --source en", "no such option --source", "--from and --to"),
        ("translate x --lang fr", "no such option --lang", "--from and --to"), ("translate x -t fr", "no such option -t", "--to"),
        ("generate x --data y", "no such option --data", "-i FILE"), ("finetune --dataset x", "no such option --dataset", "argument"),
        ("generate x --stream", "no such option --stream", "streamed"),
        ("generate x --do_sample", "no such option --do_sample", "--temperature"),
        ("generate x --load-in-4bit", "no such option --load-in-4bit", "--quantize int4"),
        ("generate x --bf16", "no such option --bf16", "--dtype bfloat16"),
        ("generate x --num-return-sequence 3", "no such option --num-return-sequence", "did you mean --num-samples?"),
        ("generate x --temperatur 1", "no such option --temperatur", "did you mean --temperature?"),
        ("generate x --zzz", "no such option --zzz", "'llmkit generate --help'"),
        ("generate x --temperature", "--temperature needs a value: --temperature NUMBER", "'llmkit generate --help'"),
        ("generate x --max_tokens", "--max_tokens needs a value", "'llmkit generate --help'"),
        ("generate x --json=3", "--json takes no value", "'llmkit generate --help'"),
        ("generate x --temperature hot", "--temperature: 'hot' is not a number", "'llmkit generate --help'"),
        ("evaluate perplexity a.txt", "unexpected argument: a.txt", "did you mean -i a.txt?"),
        ("evaluate bleu a.txt b.txt", "unexpected arguments: a.txt b.txt", "did you mean -p a.txt -r b.txt?"),
        ("rouge", "no such command 'rouge'", "evaluate score -p OUTPUTS -r REFERENCES --metrics"),
        ("mmlu", "no such command 'mmlu'", "evaluate choice"), ("login", "no such command 'login'", "hf auth login"),
        ("upload x", "no such command 'upload'", "use llmkit push"), ("convert x", "no such command 'convert'", "nothing to convert"),
        ("embed x", "no such command 'embed'", "no embeddings"), ("Generate x", "no such command 'Generate'", "did you mean 'generate'?"),
        ("generate x --greedy", "no such option --greedy", "--temperature 0 is greedy"),
        ("generate x --revision main", "no such option --revision", "-m org/name@revision"),
        ("generate x --tokenizer y", "no such option --tokenizer", "the model's folder"),
        ("generate x --dtype float64", "--dtype: 'float64' is not one of auto, float32, bfloat16, float16", "'llmkit generate --help'"),
        ("finetune x --resume-from-checkpoint y", "no such option --resume-from-checkpoint", "the same command resumes"),
        ("merge", "no ADAPTER given", "llmkit merge adapters/mine -o models/mine"), ("rerun", "no RECORD given", "llmkit rerun"),
        ("models show", "no REF given", "llmkit models show"), ("rerun none.json", "none.json: cannot be read: No such file", ".run.json"),
        ("models clear none", "no model is converted under the name 'none'", "'llmkit models'"),
        ("llama-perplexity", "no such command 'llama-perplexity'", "evaluate perplexity"),
        ("mlx_lm.generate", "no such command 'mlx_lm.generate'", "did you mean 'generate'?"),
        ("chat.completions.create", "no such command 'chat.completions.create'", "llmkit generate"),
        ("comet", "no such command 'comet'", "--metrics NAME"), ("play", "no such command 'play'", "'llmkit --help'"),
        ("gen x", "no such command 'gen'", "did you mean 'generate'?"), ("helo", "no such command 'helo'", "did you mean 'help'?"),
        ("gpt2", "no such command 'gpt2'", "llmkit generate -m gpt2"), ("models gpt2", "no such command 'gpt2'", "models show gpt2"),
        ("evaluate suite.toml", "no such command 'suite.toml'", "llmkit evaluate run suite.toml"),
        ("evaluate -m gpt2", "no such option -m", "llmkit evaluate perplexity -m gpt2"),
        ("generate -ngl 99 x", "no such option -ngl", "several devices"), ("generate -hf o/x y", "no such option -hf", "-m org/name"),
        ("generate -help", "no such option -help", "did you mean --help?"),
        ("finetune x --train.epoch 2", "no such option --train.epoch", "did you mean --epochs?"),
        ("finetune x --mask-prompt", "no such option --mask-prompt", "--full-loss"),
        ("generate x --iters 3", "no such option --iters", "--max-steps is an option of llmkit finetune"),
        ("generate x --src_lang en", "no such option --src_lang", "--from is an option of llmkit finetune and translate"),
        ("translate x --top-p 1", "no such option --top-p", "--top-p is an option of llmkit generate"),
        ("generate x --api-type y", "no such option --api-type", "--api-base URL names a server"),
        ("generate x --count", "no such option --count", "the number of tokens"),
        ("generate x --start 3", "no such option --start", "--limit N reads the first N rows"),
        ("generate x --zoutput", "no such option --zoutput", "did you mean --output?"),
        ("generate x --min-length 3", "no such option --min-length", "--min-new-tokens N"),
        ("generate x --override-kv a=b", "no such option --override-kv", "--chat-template FILE"),
        ("generate x --insecure", "no such option --insecure", "certificates are always checked"),
        ("generate x --nowordwrap", "no such option --nowordwrap", "not wrapped"),
        ("generate x --tools t", "no such option --tools", "a row's field tools"),
        ("generate x -r User:", "no such option -r", "--stop TEXT"),
        ("finetune x --ddp-find-unused-parameters", "no such option --ddp-find-unused-parameters", "several processes need no setting"),
        ("finetune x --beta 1", "no such option --beta", "--dpo-beta N"),
        ("finetune x --lora-bias all", "no such option --lora-bias", "--lora-alpha"),
        ("translate x --sl en", "no such option --sl", "--from LANGUAGE"),
        ("evaluate perplexity --ctx-size 8", "no such option --ctx-size", "--context N"),
        ("arena", "no such command 'arena'", "evaluate compare"), ("ocr", "no such command 'ocr'", "images or speech"),
        ("grpo", "no such command 'grpo'", "trained by DPO"), ("subtitles", "no such command 'subtitles'", "llmkit translate -i FILE"),
        ("images.generate", "no such command 'images.generate'", "images or speech"), ("wer", "no such command 'wer'", "--metrics wer"),
        ("generate x --num-gpu 2", "no such option --num-gpu", "several devices"),
        ("merge adapters/none -o m --offline", "adapters/none: there is no such folder", "an adapter is the folder"),
        ("models show models/none --offline", "models/none: there is no such folder", "built-in model"),
        ("merge a -o m -m openai:gpt", "openai:gpt is a model on a server", "a folder"),
        ("generate x --engine google", "--engine: 'google' is not one of auto, torch, ctranslate2", "'llmkit generate --help'"),
        ("generate x -max-new-tokens 5", "no such option -max-new-tokens", "did you mean --max-new-tokens?"),
        ("generate x -top_p 1", "no such option -top_p", "did you mean --top-p?"),
        ("generate x --Model gpt2", "no such option --Model", "did you mean --model?"),
        ("generate x \u2014max-new-tokens 5", "expected one text", "another dash than '-': type --max-new-tokens"),
        ("evaluate bleu \u2013p a", "unexpected arguments", "another dash than '-': type -p"),
        ("translate fr hello", "expected one text, not 2 arguments: 'hello'", 'llmkit translate "Good morning" --to fr'),
        ("generate x --temperature 1,2,3", "--temperature: '1,2,3' is not a number (0.7", "'llmkit generate --help'"),
        ("evaluate translate", "no such command 'translate'", "'llmkit translate' is a command by itself"),
        ("vllm", "no such command 'vllm'", "-m openai:NAME"), ("vllm-serve", "no such command 'vllm-serve'", "llmkit has no server"),
        ("distill", "no such command 'distill'", "llmkit finetune"),
        ("evaluate bleu what", "unexpected argument: what", "'llmkit evaluate bleu --help'"),
        ("merge a -o b --format gguf", "no such option --format", "writes no GGUF"),
        ("generate x -ngl=99", "no such option -ngl", "several devices"), ("generate x -md d.gguf", "no such option -md", "--draft-model"),
        ("generate x -st", "no such option -st", "one command is one answer"), ("generate x -sys be", "no such option -sys", "--system"),
        ("generate x -n=3", "-n=3: a value follows -n without '='", "-n 3"),
        ("evaluate bleu -p=a.txt -r b.txt", "-p=a.txt: a value follows -p without '='", "-p a.txt"),
        ("evaluate bleu -p a.txt -ref b.txt", "no such option -ref", "-r FILE the references"),
        ("translate x -sl en -tl fr", "no such option -sl", "--from LANGUAGE"),
        ("finetune x -lr 1e-4", "no such option -lr", "--learning-rate"),
        ("finetune x -r 8", "no such option -r", "--lora-r N"), ("finetune x --max-epoch 3", "no such option --max-epoch", "--epochs N"),
        ("evaluate perplexity -f wiki.txt", "no such option -f", "-i FILE names the texts"),
        ("evaluate code --timeout 3", "no such option --timeout", "--code-timeout SECONDS"),
        ("translate x --lang-pair en-fr", "no such option --lang-pair", "--from LANGUAGE --to LANGUAGE"),
        ("generate x --trust_remote_code True", "expected one text, not 2 arguments: 'True'", "remove True"),
        ("finetune x --use-dora true", "unexpected argument: true", "remove true"),
        ("run_translation", "no such command 'run_translation'", "use llmkit translate"),
        ("run-batch", "no such command 'run-batch'", "or -i FILE"),
        ("translate x --tp fr", "no such option --tp", "--to LANGUAGE"),
        ("translate x --ti fr", "no such option --ti", "did you mean --to?"),
        ("translate x --top-a 1", "no such option --top-a", "shape sampling (llmkit generate)"),
        ("evaluate perplexity --stream", "no such option --stream", "the answer to one prompt is always streamed"),
        ("translate - --input-format md", "--input-format needs --input", "did you mean -i -?"),
        ("translate -i - --input-format markdwn", "--input-format: 'markdwn' is not one of auto, txt, jsonl", "'llmkit translate --help'"),
        ("chat-completion", "no such command 'chat-completion'", "llmkit generate"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_as_typed_with_what_to_type_instead(
    run: Run, line: str, wrong: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*line.split())
    assert ran.code == (5 if "/none" in line else 2)
    error, told = ran.err.splitlines()
    assert error.startswith(f"error: {wrong}")
    assert told.startswith("hint: ")
    assert hint in told


def test_a_text_without_a_command_is_a_prompt(run: Run) -> None:
    assert "did you mean: llmkit generate 'Once upon a time'" in run("Once upon a time").err


def test_a_file_without_a_command_or_option_is_rows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "Once"}])
    assert "did you mean: llmkit generate -i rows.jsonl" in run("rows.jsonl").err
    assert "did you mean -i rows.jsonl?" in run("generate", "rows.jsonl", "-o", "out.jsonl").err
    ran = run("generate", "rows.jsonl", "--max-new-tokens", "1")
    assert ran.code == 0
    assert "-i rows.jsonl reads the rows of that file" in ran.err


def test_a_short_option_holds_its_value_also_without_a_space(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the cat\n")
    assert run("evaluate", "bleu", "-pa.txt", "-ra.txt").code == 0
    assert run("generate", "--stop", "-st", "Once", "-mbuiltin:stories", "--max-new-tokens", "1").code == 0


@pytest.mark.parametrize(
    ("typed", "ours"), [("--source-lang", "--from"), ("--src", "--from"), ("--target_lang", "--to"), ("--tgt", "--to")]
)
def test_names_of_other_tools_are_accepted(run: Run, typed: str, ours: str) -> None:
    value = {"--from": "en", "--to": "fr"}[ours]
    rest = ["--to", "fr"] if ours == "--from" else []
    assert run("translate", "Good morning.", typed, value, *rest).out == run("translate", "Good morning.", ours, value, *rest).out


def test_a_file_without_a_measure_names_two(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.txt").write_text("a\n")
    assert "llmkit evaluate perplexity -i out.txt, or score -p out.txt -r REFERENCES" in run("evaluate", "out.txt").err


@pytest.mark.parametrize(("option", "value"), [("--device", "CPU"), ("--dtype", "FP32"), ("--engine", "pytorch"), ("--quantize", "NONE")])
def test_values_are_read_in_any_case(run: Run, option: str, value: str) -> None:
    assert run("generate", "Once", "--max-new-tokens", "1", option, value).code == 0


def test_no_name_of_another_tool_hides_one_of_ours() -> None:
    assert not COMMANDS_ELSEWHERE.keys() & COMMANDS.keys()
    assert not OPTIONS_ELSEWHERE.keys() & (ALIASES.keys() - {"data"})


def test_a_name_of_another_tool_leads_only_to_names_that_exist() -> None:
    reference = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z][a-z0-9-]*", reference)) | {"--help", "--upgrade"}
    hints = " ".join([*OPTIONS_ELSEWHERE.values(), *OPTIONS_OF_COMMAND.values(), *COMMANDS_ELSEWHERE.values()])
    assert set(re.findall(r"--[a-z][a-z0-9-]*", hints)) <= options
    assert {f"--{name}" for name in ALIASES.values()} <= options
    lines = [hint.split() for hint in COMMANDS_ELSEWHERE.values() if hint.startswith("llmkit ") and not hint.startswith("llmkit has ")]
    assert {words[1].strip(",;") for words in lines} <= {*COMMANDS, "help"}


@pytest.mark.parametrize("line", ["help generate", "generate --help", "evaluate help bleu", "evaluate help", "help help"])
def test_help_before_a_command_is_its_page(run: Run, line: str) -> None:
    ran = run(*line.split())
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: llmkit {' '.join(word for word in line.split() if 'help' not in word)}".rstrip())


def test_a_value_that_nobody_typed_is_named_with_its_source(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text('input = "none.jsonl"\n')
    assert "c.toml: input: none.jsonl: cannot be read" in run("generate", "--config", "c.toml").err
    assert "error: none.jsonl: cannot be read" in run("generate", "-i", "none.jsonl").err


def test_control_characters_of_a_file_are_visible_in_a_message(run: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a\x85b\x1bc\n1\n", encoding="utf-8")
    message = run("generate", "-i", rows).err
    assert "\\x85" in message
    assert "\\x1b" in message
