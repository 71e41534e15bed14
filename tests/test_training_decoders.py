"""What the decoder of an encoder-decoder begins with in training is what it begins with when it answers."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, byte_tokenizer, seeded, write_rows

MBART = ("ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR",
         "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN")  # fmt: skip
SIZES: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
}  # fmt: skip


def model(folder: Path, kind: str, languages: tuple[str, ...] = (), **more: Any) -> Path:
    import transformers

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>", *languages], bos_token="<s>", eos_token="</s>", pad_token="<pad>", add_eos="</s>")
    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "forced_eos_token_id": None}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **SIZES, **ids, **more)
    seeded(lambda: getattr(transformers, f"{kind}ForConditionalGeneration")(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


def first(run: Run, rows: Path, folder: Path, *options: object) -> str:
    done = run("finetune", rows, "-m", folder, "--dry-run", "--json", *options)
    assert done.code == 0, done.err
    shown: str = json.loads(done.out)["first"]
    return shown


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [{"source": "Hi.", "target": "Salut."}] * 4)


def test_mbart_25_is_trained_in_its_own_layout_and_asked_in_it(run: Run, tmp_path: Path, rows: Path) -> None:
    folder = model(tmp_path / "mbart", "MBart", MBART, decoder_start_token_id=None)
    assert json.loads((folder / "config.json").read_text())["decoder_start_token_id"] is None
    languages = ("--from", "en", "--to", "fr")
    assert first(run, rows, folder, *languages) == "Hi.</s>en_XX → fr_XX«Salut.</s>»"
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "Hi.", "completion": "Salut."}] * 4)
    assert first(run, pairs, folder, *languages) == "Hi.</s>en_XX → fr_XX«Salut.</s>»"
    both = write_rows(tmp_path / "both.jsonl", [{"translation": {"en": "Hi.", "fr": "Salut."}}] * 4)
    asked = write_rows(tmp_path / "asked.jsonl", [{"source": "Hi.", "source_lang": "en", "target_lang": "fr"}])
    learned = ("--full", "--max-steps", "60", "--learning-rate", "1e-2", "--eval-prompts", asked, "--eval-steps", "60")
    done = run("finetune", both, "-m", folder, "-o", tmp_path / "out", *learned)
    assert done.code == 0, done.err
    answers = [json.loads(line)["answers"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines() if "answers" in line]
    assert answers[-1][0]["text"] == "Salut."
    (command,) = re.findall(r"^llmkit .*$", (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)
    assert run(*shlex.split(command)[1:-1], "Hi.").out.strip() == "Salut."


def test_the_card_of_another_task_than_translation_generates(run: Run, tmp_path: Path, t5: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "Hi.", "completion": "Salut."}] * 4)
    assert run("finetune", pairs, "-m", t5, "-o", tmp_path / "out", "--max-steps", "1").code == 0
    (command,) = re.findall(r"^llmkit .*$", (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)
    done = run(*shlex.split(command)[1:], "--max-new-tokens", "2")
    assert (shlex.split(command)[1], done.code) == ("generate", 0), done.err


def test_a_forced_first_token_is_read_and_not_trained(run: Run, tmp_path: Path, rows: Path) -> None:
    folder = model(tmp_path / "bart", "Bart", decoder_start_token_id=257)
    assert first(run, rows, folder) == "Hi.</s> → </s>«Salut.</s>»"
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "forced_bos_token_id": 256}))
    assert first(run, rows, folder) == "Hi.</s> → </s><s>«Salut.</s>»"
