"""Options of `llmkit finetune` that decide what is trained: each acts, is in the identity, and is refused where it has no effect."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import STORIES, Copy, Run, write_rows
from test_identity import command_options

ALPACA = [{"instruction": "Name the capital of France.", "input": "", "output": "Paris"}] * 3


def first(run: Run, *arguments: object) -> str:
    """The first example as --dry-run shows it, what is trained between « and »."""
    done = run("finetune", *arguments, "--dry-run", "--json")
    assert done.code == 0, done.err
    return str(json.loads(done.out)["first"])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", [{"source": "Hello.", "target": "Bonjour."}] * 4)


def test_from_and_to_give_the_rows_the_prompt_of_translate(run: Run, pairs: Path) -> None:
    plain = first(run, pairs, "-m", STORIES)
    asked = first(run, pairs, "-m", STORIES, "--from", "en", "--to", "fr")
    assert plain == "<s>Hello.«Bonjour.</s>»"
    assert "English" in asked
    assert "French" in asked
    assert asked.endswith("« Bonjour.</s>»")


@pytest.mark.parametrize(("variable", "value"), [("LLMKIT_TO", "fr"), ("LLMKIT_FROM", "en"), ("LLMKIT_DPO_BETA", "0.3")])
def test_variables_for_other_rows_are_passed_over(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    rows = write_rows(tmp_path / "text.jsonl", [{"text": "Hello."}])
    monkeypatch.setenv(variable, value)
    assert first(run, rows, "-m", STORIES) == "<s>«Hello.</s>»"


def test_languages_for_rows_without_a_source_and_a_target_are_refused(run: Run, tmp_path: Path, pairs: Path) -> None:
    rows = write_rows(tmp_path / "text.jsonl", [{"text": "Hello."}])
    done = run("finetune", rows, "-m", STORIES, "--to", "fr", "--dry-run")
    assert done.code == 2
    assert "--from and --to apply to rows with a source and a target; these rows are text" in done.err
    unknown = run("finetune", pairs, "-m", STORIES, "--to", "Frensh", "--dry-run")
    assert unknown.code == 2
    assert "--to: 'Frensh' is not a language; did you mean" in unknown.err


_TRAINED: dict[str, Path] = {}


def trained_once(run: Run, tmp_path: Path, arguments: list[object]) -> bytes:
    """The folder `ad` that these arguments train; the same ones train it once a session. Gives its record."""
    key = " ".join(map(str, arguments[6:]))
    if key in _TRAINED:
        shutil.copytree(_TRAINED[key], tmp_path / "ad")
    else:
        done = run(*arguments)
        assert done.code == 0, done.err
        _TRAINED[key] = shutil.copytree(tmp_path / "ad", Path(tempfile.mkdtemp()) / "ad")
    return (tmp_path / "ad" / "run.json").read_bytes()


#: Another value of each option, and the name of what it changes.
CHANGES = [
    (["--from", "en", "--to", "de"], "data.languages.target"),
    (["--no-watch"], "optimization.watch"),
    (["--keep", "last", "--valid-split", "50%"], "checkpoint.result"),
    (["--prompt-field", "source", "--completion-field", "other"], "data.fields.completion"),
    (["--template", "Say {source}: ", "--completion-field", "target"], "data.fields.template"),
    (["--text-field", "other"], "data.fields.text"),
    (["--input-format", "jsonl"], "data.format"),
    (["--encoding", "latin-1"], "data.encoding"),
    (["--limit", "6"], "data.limit"),
    (["--max-length", "31"], "loss.max_length"),
    (["--full-loss"], "loss.full_loss"),
    (["--packing", "off"], "loss.packing"),
    (["--lora-r", "8"], "lora.r"),
    (["--lora-alpha", "8"], "lora.alpha"),
    (["--lora-dropout", "0.1"], "lora.dropout"),
    (["--target-modules", "q_proj"], "lora.targets"),
    (["--target-parameters", "all"], "lora.parameters"),
    (["--rslora"], "lora.rslora"),
    (["--dora"], "lora.dora"),
    (["--full"], "lora.r"),
    (["--epochs", "2"], "optimization.epochs"),
    (["--max-steps", "2"], "optimization.max_steps"),
    (["--batch-size", "4"], "optimization.batch_size"),
    (["--grad-accum", "2"], "optimization.grad_accum"),
    (["--learning-rate", "1e-3"], "optimization.learning_rate"),
    (["--lr-scheduler", "cosine"], "optimization.schedule"),
    (["--warmup-ratio", "0.2"], "optimization.warmup"),
    (["--weight-decay", "0.1"], "optimization.weight_decay"),
    (["--max-grad-norm", "2"], "optimization.max_grad_norm"),
    (["--neftune", "5"], "optimization.neftune"),
    (["--gradient-checkpointing"], "optimization.gradient_checkpointing"),
    (["--seed", "3"], "optimization.seed"),
    (["--lora-plus-ratio", "16"], "optimization.lora_plus"),
    (["--save-steps", "1"], "checkpoint.steps"),
    (["--threads", "1"], "threads"),
    (["--valid-split", "50%"], "data.valid_share"),
    (["--early-stopping", "2", "--valid-split", "50%"], "optimization.early_stopping"),
    (["--eval-steps", "1", "--valid-split", "50%"], "checkpoint.evaluate_steps"),
    (["--eval-prompts", "prompts.jsonl"], "prompts_sha256"),
    (["--eval-max-new-tokens", "3", "--eval-prompts", "prompts.jsonl"], "eval_max_new_tokens"),
    (["--valid", "rows.jsonl"], "valid_sha256"),
]
#: Options that this walk does not change: they make another run by other means, or decide nothing of what is trained.
OTHERS = {
    **dict.fromkeys(("--output", "--overwrite", "--restart", "--extend"), "what becomes of a folder"),
    **dict.fromkeys(("--dry-run", "--find-lr", "--json", "--debug", "--quiet", "--config", "--report-to"), "what is shown"),
    **dict.fromkeys(
        ("--model", "--train", "--max-errors", "--chat-template", "--keep-checkpoints", "--device", "--dtype", "--offline", "--verbose",
         "--max-time", "--trust-remote-code"),
        "the test below: none changes a byte of the result",
    ),
    **dict.fromkeys(("--dpo", "--dpo-beta"), "of preferences: test_preferences"), "--adapter": "test_continued_training",
    "--fsdp": "needs several processes: test_finetune_runs",
    "--quantize": "needs bitsandbytes: test_continued_training", "--chat-template-kwargs": "test_template_values_everywhere",
}  # fmt: skip


def test_every_option_is_tried_or_listed() -> None:
    assert {f"--{name.replace('_', '-')}" for name in command_options("finetune")} == {
        {"--no-watch": "--watch"}.get(word, word) for options, _ in CHANGES for word in options if word.startswith("--")
    } | OTHERS.keys()


@pytest.mark.parametrize(("options", "name"), CHANGES, ids=lambda part: part if isinstance(part, str) else part[0])
def test_another_value_of_an_option_is_another_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], name: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"source": f"Hello {i}.", "target": "Bonjour.", "other": "Salut."} for i in range(8)])
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Once"}])
    monkeypatch.chdir(tmp_path)
    base = ["--from", "en", "--to", "fr"] if "--from" in options else ["--valid-split", "50%"] if "--keep" in options else []
    same = ["--max-steps", "1", "--max-length", "32"]
    out = ["finetune", rows, "-m", STORIES, "-o", tmp_path / "ad"]
    record = trained_once(run, tmp_path, [*out, *same, *base])
    again = run(*out, *same, *options)
    assert (tmp_path / "ad" / "run.json").read_bytes() == record
    assert again.code == 2
    assert name in again.err
    assert "--overwrite replaces it" in again.err


def test_what_decides_nothing_changes_no_byte_of_the_result(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"source": f"Hello {i}.", "target": "Bonjour.", "other": "Salut."} for i in range(8)])
    same = ["--max-steps", "1", "--max-length", "32"]
    record = trained_once(run, tmp_path, ["finetune", rows, "-m", STORIES, "-o", tmp_path / "ad", *same])
    weights = (tmp_path / "ad" / "adapter_model.safetensors").read_bytes()
    others: list[object] = [
        "--keep-checkpoints",
        "3",
        "--max-errors",
        "2",
        "--chat-template",
        "none",
        "--max-time",
        "1h",
        "--offline",
        "-v",
    ]
    others += ["--device", "cpu", "--dtype", "float32", "--trust-remote-code", "--train", rows.rename(tmp_path / "renamed.jsonl")]
    again = run("finetune", "-m", STORIES, "-o", tmp_path / "ad", *same, *others)
    assert again.code == 0, again.err
    assert "already trained" in again.err
    assert (tmp_path / "ad" / "run.json").read_bytes() == record
    assert run("finetune", "-m", STORIES, "-o", tmp_path / "ad", *same, *others, "--overwrite").code == 0
    assert (tmp_path / "ad" / "adapter_model.safetensors").read_bytes() == weights


def test_keep_last_takes_the_weights_of_the_last_step(run: Run, tmp_path: Path, texts: Path, gpt2: Path, words: list[str]) -> None:
    others = write_rows(tmp_path / "others.jsonl", [{"text": w[::-1] * 3} for w in words])
    same = ["finetune", texts, "-m", gpt2, "--valid", others, "--max-steps", "20", "--eval-steps", "2", "--learning-rate", "5e-2"]
    same += ["--batch-size", "4", "--lr-scheduler", "constant"]
    for keep in ("best", "last"):
        assert run(*same, "-o", tmp_path / keep, "--keep", keep).code == 0
    best, last = (json.loads((tmp_path / keep / "run.json").read_text())["result"] for keep in ("best", "last"))
    assert (best["kept_step"] < 20, last["kept_step"]) == (True, 20)
    assert best["output_sha256"] != last["output_sha256"]


def test_lora_plus_trains_the_second_matrices_at_a_rate_of_their_own(run: Run, tmp_path: Path, texts: Path, gpt2: Path) -> None:
    from safetensors.torch import load_file

    same = ["finetune", texts, "-m", gpt2, "--max-steps", "1", "--learning-rate", "1e-3"]
    moved = {}
    for name, more in (("plain", []), ("plus", ["--lora-plus-ratio", "4"])):
        assert run(*same, *more, "-o", tmp_path / name).code == 0
        matrices = load_file(tmp_path / name / "adapter_model.safetensors")
        moved[name] = max(float(value.abs().max()) for key, value in matrices.items() if "lora_B" in key)
    # the first step of AdamW moves each weight by the rate (Kingma and Ba 2015), and B begins at 0
    assert moved == pytest.approx({"plain": 1e-3, "plus": 4e-3}, rel=0.01)


@pytest.mark.parametrize("rank", ["300", "100000"])
def test_a_rank_above_every_layer_is_refused_for_that_and_not_for_its_memory(run: Run, tmp_path: Path, texts: Path, rank: str) -> None:
    done = run("finetune", texts, "-m", STORIES, "-o", tmp_path / "ad", "--max-steps", "1", "--lora-r", rank)
    assert done.code == 2, done.err
    assert f"--lora-r {rank} is above the width of every layer" in done.err


def test_what_to_keep_needs_validation_rows(run: Run, pairs: Path) -> None:
    done = run("finetune", pairs, "-m", STORIES, "--dry-run", "--keep", "last")
    assert done.code == 2
    assert "--keep needs validation rows" in done.err
    assert "--valid FILE" in done.err


def test_without_the_watch_a_loss_of_zero_is_trained_on(run: Run, tmp_path: Path, gpt2: Path, copy_of: Copy) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = copy_of(gpt2)
    tensors = load_file(model / "model.safetensors")
    letter = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]["a"]
    for name, value in (("ln_f.weight", 0.0), ("ln_f.bias", 1.0), ("wte.weight", 0.0)):  # sure of the letter a after anything
        tensors[f"transformer.{name}"].fill_(value)
    tensors["transformer.wte.weight"][letter] = torch.ones(32) * 100
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "a" * 20}] * 4)
    same = ["finetune", rows, "-m", model, "--max-length", "8", "--epochs", "6"]
    assert run(*same, "-o", tmp_path / "watched").code == 6
    done = run(*same, "-o", tmp_path / "unwatched", "--no-watch")
    assert done.code == 0, done.err


def test_alpaca_rows_have_alpacas_layout_in_training_and_in_generation(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "alpaca.jsonl", ALPACA)
    shown = first(run, rows, "-m", STORIES)
    assert shown == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName the capital of France.\n\n### Response:\n«Paris</s>»"
    )
    with_input = write_rows(tmp_path / "input.jsonl", [{"instruction": "Add.", "input": "1 and 2", "output": "3"}])
    assert "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n«3" in first(run, with_input, "-m", STORIES)
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": shown.removeprefix("<s>").partition("«")[0]}])
    answers = []
    for name, path in (("layout", rows), ("written", asked)):
        assert run("generate", "-i", path, "-m", STORIES, "-o", tmp_path / f"{name}.jsonl", "--max-new-tokens", "8").code == 0
        answer = json.loads((tmp_path / f"{name}.jsonl").read_text().splitlines()[0])
        answers.append((answer["prompt_tokens"], answer["text"]))
    assert answers[0] == answers[1]


def test_a_chat_model_is_asked_an_instruction_by_its_template(run: Run, tmp_path: Path, gpt2: Path) -> None:
    rows = write_rows(tmp_path / "alpaca.jsonl", ALPACA)
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    assert first(run, rows, "-m", gpt2, "--chat-template", template).startswith("[user] Name the capital of France.\n[assistant] «Paris")


def test_a_template_makes_the_prompt_as_it_does_in_generate(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"topic": "bees", "answer": "Bees hum."}])
    assert first(run, rows, "-m", STORIES, "--template", "About {topic}: ") == "<s>About bees: «Bees hum.</s>»"
    named = write_rows(tmp_path / "named.jsonl", [{"topic": "bees", "note": "Bees hum.", "answer": "no"}])
    options = ["--template", "About {topic}: ", "--completion-field", "note"]
    assert first(run, named, "-m", STORIES, *options) == "<s>About bees: «Bees hum.</s>»"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--template", "Say {topic}", "--prompt-field", "topic"],
            "--template and --prompt-field cannot be combined: both give the prompt",
        ),
        (["--template", "Say {topic}", "--text-field", "topic"], "--template and --text-field cannot be combined: both give the prompt"),
        (["--template", "Say it"], "--template names no field"),
        (["--template", "Say {other}"], "line 1: no field 'other'"),
        (["--template", "Say {topic}", "--completion-field", "other"], "line 1: no field 'other'"),
        (["--template", "Say {answer}"], "line 1: no field 'completion'"),
    ],
)
def test_a_template_that_can_not_be_meant_is_refused(run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"topic": "bees", "answer": "Bees hum."}])
    done = run("finetune", rows, "-m", STORIES, "--dry-run", *options)
    assert done.code == 2
    assert message in done.err


def test_a_tracker_that_is_not_installed_is_named_with_what_to_install(run: Run, pairs: Path, tmp_path: Path) -> None:
    done = run("finetune", pairs, "-m", STORIES, "-o", tmp_path / "ad", "--report-to", "mlflow")
    assert done.code == 5
    assert "--report-to mlflow: it is not installed" in done.err
    assert "hint: pip install mlflow" in done.err
    assert not (tmp_path / "ad").exists()


def test_a_chat_template_for_rows_of_text_is_said_to_have_no_effect(run: Run, tmp_path: Path, gpt2: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the king"}] * 3)
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages[0].content }}")
    done = run("finetune", rows, "-m", gpt2, "--dry-run", "--chat-template", template)
    assert done.code == 0
    assert f"warning: --chat-template {template} has no effect" in done.err
