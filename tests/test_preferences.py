"""Preferences: rows with a better and a worse answer train a model by DPO, with the resume, dry run and card of any run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, read_rows, write_rows

USER, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Yes."), ("assistant", "No.")))


def test_the_loss_is_that_of_the_paper_and_of_trl() -> None:
    import torch

    from llmkit.training.preference import preference_loss

    # (chosen, rejected) by the model and by the reference; TRL's "sigmoid" loss: -logsigmoid(beta * (logratios - ref_logratios))
    policy, reference = [(-10.0, -12.0), (-30.0, -20.0)], [(-11.0, -11.5), (-25.0, -24.0)]
    beta = 0.1
    logits = [(a - b) - (c - d) for (a, b), (c, d) in zip(policy, reference, strict=True)]
    assert logits == [1.5, -9.0]
    expected = [math.log1p(math.exp(-beta * value)) for value in logits]
    loss, margins = preference_loss(torch.tensor(policy).flatten(), torch.tensor(reference).flatten(), beta)
    assert float(loss) == pytest.approx(sum(expected), abs=1e-6)
    assert float(loss) == pytest.approx(0.6209576 + 1.2411539, abs=1e-5)
    assert margins.tolist() == pytest.approx([0.15, -0.9])
    start, _ = preference_loss(torch.tensor([-3.0, -4.0]), torch.tensor([-3.0, -4.0]), beta)
    assert float(start) == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_batch_gives_the_loss_and_gradients_of_each_answer_alone(name: str, request: pytest.FixtureRequest) -> None:
    import torch

    from llmkit.engines.torch.loading import load
    from llmkit.engines.torch.scoring import plain_head
    from llmkit.models.settings import ModelSettings
    from llmkit.training.batches import Collator
    from llmkit.training.examples import Example
    from llmkit.training.preference import batch_loss, preference_loss

    seq2seq = name == "t5"
    model = load(ModelSettings(str(request.getfixturevalue(name)), device="cpu", dtype="float32")).model.eval()

    def example(tokens: list[int], prompt: int, **more: Any) -> Example:
        from array import array

        mask = bytes([0] * prompt + [1] * (len(tokens) - prompt))
        return Example(array("i", tokens), mask, None, 0, 0, array("i", [5, 6, 7]) if seq2seq else None, **more)

    pairs = [
        example([9, 10, 11, 12], 2, rejected=example([9, 10, 13, 14, 15, 16], 2), reference=(-3.0, -4.0)),
        example([20, 21, 22], 1, rejected=example([20, 23], 1), reference=(-2.0, -1.0)),
    ]
    found = []
    for sequence in (part for pair in pairs for part in pair.parts):
        ids = torch.tensor([list(sequence.tokens)])
        inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": ids[:, :-1]} if seq2seq else {"input_ids": ids[:, :-1]}
        scores = model(**inputs).logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, :, 0]
        found.append((scores * torch.tensor(list(sequence.loss_mask[1:]))).sum())
    plain, _ = preference_loss(torch.stack(found), torch.tensor([-3.0, -4.0, -2.0, -1.0]), 0.2)
    plain.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    batch = Collator(0, name == "llama", seq2seq)(pairs)
    few = {"input_ids": torch.tensor([[5, 6]])} | ({"decoder_input_ids": torch.tensor([[5, 6]])} if seq2seq else {})
    head = plain_head(model, few)
    assert head is not None
    loss, _ = batch_loss(model, head, batch, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for n, p in model.named_parameters():
        if n in expected:
            assert torch.allclose(p.grad, expected[n], rtol=1e-3, atol=1e-4 * float(expected[n].abs().max())), n


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    words = ["king", "queen", "house", "sea", "child", "garden", "river", "letter"]
    return write_rows(tmp_path / "rows.jsonl", [{"prompt": f"Say {w}: ", "chosen": f"the {w}", "rejected": f"a {w} no"} for w in words])


def test_the_better_answers_become_likelier_and_the_run_resumes_bit_for_bit(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    training = ["finetune", rows, "-m", gpt2, "--valid", rows, "--max-steps", "8", "--batch-size", "4", "--grad-accum", "2"]
    training += ["--lora-r", "4", "--learning-rate", "1e-2", "--save-steps", "2", "--keep", "last", "--lora-dropout", "0.1"]
    done = run(*training, "-o", tmp_path / "ad")
    assert done.code == 0, done.err
    assert "preferences are trained with DPO, beta 0.1" in done.err
    log = read_rows(tmp_path / "ad" / "metrics.jsonl")
    trained = [entry for entry in log if "loss" in entry]
    assert trained[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # the model is its reference: its own dropout is off
    assert trained[-1]["loss"] < 0.5
    assert trained[-1]["reward_accuracy"] > 0.9
    record = json.loads((tmp_path / "ad" / "run.json").read_text())
    assert record["identity"]["loss.beta"] == 0.1
    assert record["result"]["format"] == "preference"
    figures = record["result"]["figures"]
    assert figures["after"]["preference_accuracy"]["value"] == 100
    assert "| preference accuracy |" in (tmp_path / "ad" / "README.md").read_text()
    stopped = run(*training, "-o", tmp_path / "stopped", "--max-time", "0.001s")
    assert stopped.code == 124
    assert run(*training, "-o", tmp_path / "stopped").code == 0
    for name in ("adapter_model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "ad" / name).read_bytes()
    other = run(*training, "-o", tmp_path / "ad", "--dpo-beta", "0.3")
    assert other.code == 2
    assert "loss.beta was 0.1, is 0.3" in other.err


def test_the_reference_is_the_adapter_that_the_training_went_on_with(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    sft = write_rows(tmp_path / "sft.jsonl", [{"prompt": f"Say {i}: ", "completion": "the king"} for i in range(4)])
    assert run("finetune", sft, "-m", gpt2, "-o", tmp_path / "one", "--max-steps", "4", "--learning-rate", "3e-2").code == 0
    done = run("finetune", rows, "-m", gpt2, "--adapter", tmp_path / "one", "-o", tmp_path / "two", "--max-steps", "1")
    assert done.code == 0, done.err
    (entry,) = [entry for entry in read_rows(tmp_path / "two" / "metrics.jsonl") if "loss" in entry]
    assert entry["loss"] == pytest.approx(math.log(2), abs=1e-4)


ROWS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."},
    "messages after a prompt": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "texts after a prompt of messages": {"prompt": [USER], "chosen": "Yes.", "rejected": "No."},
    "an answer after a text": {"prompt": "Hi", "chosen": [GOOD], "rejected": [BAD]},
    "whole conversations": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "whole conversations beside their prompt": {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "whole conversations beside their prompt as messages": {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "answers to a question": {"question": "Hi", "chosen": "Yes.", "rejected": "No."},
    "answers to an instruction": {"instruction": "Hi", "input": "", "chosen": "Yes.", "rejected": "No."},
    "LLaMA-Factory's messages after a conversation": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Yes."},
        "rejected": {"from": "gpt", "value": "No."},
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_preferences_of_every_kind_are_shown_with_both_answers(run: Run, tmp_path: Path, row: dict[str, Any], llama: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    rows = write_rows(tmp_path / "rows.jsonl", [row] * 2)
    done = run("finetune", rows, "-m", llama, "--chat-template", template, "--dry-run", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["formats"] == {"preference": 2}
    better, worse = facts["first"].split("<s>")[1:]
    assert better.startswith("user: Hi")
    assert "«Yes.</s>" in better
    assert "«No.</s>" in worse
    assert better.split("«")[0] == worse.split("«")[0]
    assert better.count("Hi") == 1
    assert facts["unused_columns"] == {}


@pytest.mark.parametrize("options", [["--prompt-field", "q"], ["--template", "{q}"]])
def test_the_prompt_of_a_preference_may_be_named(run: Run, tmp_path: Path, gpt2: Path, options: list[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"q": "Hi", "prompt": "no", "chosen": "Yes.", "rejected": "No."}])
    done = run("finetune", rows, "-m", gpt2, "--dpo", *options, "--dry-run", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["first"].count("Hi«") == 2
    assert facts["unused_columns"] == {"prompt": 1}


def test_a_row_of_another_format_is_a_preference_when_that_is_asked(run: Run, tmp_path: Path, gpt2: Path) -> None:
    row = {"prompt": "Hi", "completion": "Yes.", "chosen": "Yes.", "rejected": "No."}
    rows = write_rows(tmp_path / "rows.jsonl", [row])
    plain, asked = (json.loads(run("finetune", rows, "-m", gpt2, "--dry-run", "--json", *more).out)["formats"] for more in ([], ["--dpo"]))
    assert (plain, asked) == ({"prompt and completion": 1}, {"preference": 1})


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "Yes."}, [], "line 1: fields 'chosen' and 'rejected' are the same"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": ""}, [], "line 1: field 'rejected' is empty"),
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "Ho"}, BAD]}, [], "answer different conversations"),
        ({"chosen": [USER], "rejected": [USER, BAD]}, [], "line 1"),
        ({"prompt": "Hi", "completion": "Yes."}, ["--dpo"], "no field 'chosen'"),
        ({"q": "Hi", "chosen": "Yes.", "rejected": "No."}, [], "name the field with --prompt-field and --dpo"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": 3}, [], "field 'rejected' is a number"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}, ["--dpo", "--completion-field", "chosen"], "cannot be combined"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}, ["--dpo", "--text-field", "chosen"], "cannot be combined"),
        ({"prompt": "Hi", "completion": "Yes."}, ["--dpo-beta", "0.2"], "--dpo-beta applies to rows with 'chosen' and 'rejected'"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}, ["--full-loss"], "--full-loss and preferences cannot be combined"),
        ({"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}, ["--dpo-beta", "0"], "must be above 0"),
    ],
)
def test_preferences_that_can_not_be_trained_are_refused(
    run: Run, tmp_path: Path, gpt2: Path, row: dict[str, Any], options: list[str], message: str
) -> None:
    done = run("finetune", write_rows(tmp_path / "rows.jsonl", [row]), "-m", gpt2, "--dry-run", *options)
    assert done.code == 2, done.err
    assert message in done.err


def test_preferences_are_validated_on_preferences_and_other_rows_on_other_rows(run: Run, tmp_path: Path, rows: Path, gpt2: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "the king"}] * 3)
    for train, valid in ((rows, texts), (texts, rows)):
        done = run("finetune", train, "-m", gpt2, "-o", tmp_path / "out", "--valid", valid, "--max-steps", "1")
        assert done.code == 2
        assert "validation rows of" in done.err
