"""What a row teaches, and which tokens of it are trained."""

from __future__ import annotations

import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import pytest
from conftest import byte_tokenizer, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.engines.chat import ChatSettings
from llmkit.errors import InputError, UsageError
from llmkit.rows import open_rows
from llmkit.rows.reading import Row
from llmkit.rows.samples import Sample, SampleFields, Samples, check_rows
from llmkit.training.examples import Encoder, Example, Examples, marked

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Qwen3's: thoughts are shown in the last turn alone.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "And é?"},
    {"role": "assistant", "content": "Ünd."},
]


def judged(tmp_path: Path, rows: list[dict[str, Any]], fields: SampleFields | None = None, **more: Any) -> Any:
    path = str(write_rows(tmp_path / "rows.jsonl", rows))
    return check_rows(open_rows(path), fields or SampleFields(), path, **more)


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"text": "a"}, "text"),
        ({"prompt": "a", "completion": "b"}, "prompt and completion"),
        ({"messages": CHAT}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sharegpt"),
        ({"instruction": "a", "input": "b", "output": "c"}, "alpaca"),
        ({"source": "a", "target": "b"}, "source and target"),
        ({"src": "a", "ref": "b"}, "source and target"),
        ({"translation": {"en": "a", "fr": "b"}}, "source and target"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}, "prompt and completion"),
    ],
)
def test_formats_are_known_by_their_fields(tmp_path: Path, row: dict[str, Any], format: str) -> None:
    assert judged(tmp_path, [row]).format == format


def test_the_format_is_judged_on_all_rows(tmp_path: Path) -> None:
    rows = [{"text": "a"}] * 30 + [{"prompt": "a", "completion": "b"}]
    with pytest.raises(InputError, match=r"30 of text \(first at line 1\), 1 of prompt and completion \(first at line 31\)"):
        judged(tmp_path, rows)


def test_bad_rows_are_named_by_line_and_left_out_when_allowed(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a"}, {"txt": "b"}, {"text": 3}, {"text": " "}, {"text": "c"}]
    with pytest.raises(InputError, match=r"3 of 5 rows can't be used: .*line 2: no field.*line 3: .*a number.*line 4: .*empty"):
        judged(tmp_path, rows)
    found = judged(tmp_path, rows, max_errors=3)
    assert [s.text for s in found.samples] == ["a", "c"]
    assert len(found.bad) == 3


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "a"}], "no assistant message to train on"),
        ([{"role": "assistant", "content": "a"}], "no assistant message to train on"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}], "no assistant message to train on"),
        (
            [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "assistant", "content": "c"}],
            "has role 'system'; only the first may",
        ),
        ([{"role": "user", "content": "a"}, *[{"role": "assistant", "content": "c"}] * 2], "both have role 'assistant'"),
        ([{"role": "user"}], "has no text 'content'"),
        ("hi", "not a JSON list"),
    ],
)
def test_conversations_that_teach_nothing_or_are_out_of_order_are_bad_rows(tmp_path: Path, messages: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        judged(tmp_path, [{"messages": messages}])


def test_fields_can_be_named_and_names_must_go_together(tmp_path: Path) -> None:
    found = judged(tmp_path, [{"q": "a", "a": "b", "text": "t"}], SampleFields(prompt="q", completion="a"))
    assert (found.samples[0].prompt, found.samples[0].completion) == ("a", "b")
    with pytest.raises(UsageError, match="must be used together"):
        SampleFields(prompt="q")
    with pytest.raises(UsageError, match="cannot be combined"):
        SampleFields(text="t", prompt="q", completion="a")


@given(st.lists(st.text(min_size=1).filter(lambda t: t.strip()), min_size=1, max_size=60))
def test_equal_rows_never_stand_on_both_sides_of_a_split(texts: list[str]) -> None:
    found = check_rows((Row(i, i + 1, {"text": t}) for i, t in enumerate(texts)), SampleFields(), "rows", share=0.3)
    train, valid = ([s.text or "" for s in side] for side in (found.samples, found.held_out))
    assert sorted(train + valid) == sorted(texts)
    assert not set(train) & set(valid)


def test_samples_and_examples_come_back_from_disk_as_they_went() -> None:
    samples, examples = Samples(), Examples()
    kept = [
        Sample("text", None, "00", text="lone \ud800 and \x00"),
        Sample("messages", 7, "01", messages=tuple(CHAT), first=2),
    ]
    kept_examples = [
        Example(array("i", [1, 2, 3]), b"\x00\x01\x01", 5, 9, 2),
        Example(array("i", [4]), b"\x00", None, 0, 0, array("i", [8, 9])),
        Example(array("i", [4]), b"\x00", 2, 0, 0, array("i")),
    ]
    for number in range(3):  # written and read by turns
        for sample in kept:
            samples.append(sample)
        for example in kept_examples:
            examples.append(example)
        for spool, items in ((samples, kept), (examples, kept_examples)):
            both = items * (number + 1)
            assert (list(spool), spool[-1], spool[1:-1:2]) == (both, items[-1], both[1:-1:2])
    with pytest.raises(IndexError):
        examples[len(examples)]
    assert (examples.tokens, examples.trained, examples.width) == (15, 6, 3)


def peak_of_training_rows(path: Path, count: int, length: int) -> int:
    """Peak of Python's memory, in bytes, while `count` rows of `length` characters become examples of at most 64 tokens."""
    text = "A row of some length. " * (length // 22)
    with path.open("w") as file:
        file.writelines(f'{{"text": "{i} {text}"}}\n' for i in range(count))
    of = encoder(max_length=64)
    tracemalloc.start()
    try:
        found = check_rows(open_rows(str(path)), SampleFields(), str(path), share=0.1)
        examples = of.examples(found.samples, str(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(examples) == len(found.samples)
    assert len(found.samples) + len(found.held_out) == count
    return peak


def test_memory_does_not_grow_with_the_training_rows(tmp_path: Path) -> None:
    few, many = (peak_of_training_rows(tmp_path / f"{count}.jsonl", count, 44) for count in (500, 5_000))
    assert many - few < 500_000  # 110 bytes a row: less than the row itself as an object


@pytest.mark.slow
@pytest.mark.parametrize(("count", "length"), [(1_000_000, 44), (5_000, 8_800)])
def test_memory_does_not_grow_with_a_million_training_rows_or_with_long_ones(tmp_path: Path, count: int, length: int) -> None:
    path = tmp_path / "rows.jsonl"
    used = peak_of_training_rows(path, count, length)
    assert path.stat().st_size > 40_000_000
    assert used < 20_000_000


def encoder(template: str | None = None, **more: Any) -> Encoder:
    tokenizer: Any = byte_tokenizer(["<s>", "</s>", "<|im_start|>", "<|im_end|>"], bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return Encoder(tokenizer, ChatSettings(), more.pop("max_length", None), **more)


def trained(of: Encoder, sample: Sample) -> list[str]:
    """What is trained of each example, and checks that the whole can be read back."""
    out = []
    for example, _ in of.encode(sample):
        tokens = [t for t, yes in zip(example.tokens, example.loss_mask, strict=True) if yes]
        out.append(of.tokenizer.decode(tokens))
    return out


def test_a_text_is_trained_whole_with_its_end(tmp_path: Path) -> None:
    found = encoder().encode(Sample("text", 1, "", text="café"))[0][0]
    assert marked(found, encoder().tokenizer.decode) == "<s>«café</s>»"


def test_of_a_prompt_and_completion_the_completion_is_trained() -> None:
    sample = Sample("prompt and completion", 1, "", prompt="Q: é?\nA:", completion=" 7 é")
    assert trained(encoder(), sample) == [" 7 é</s>"]
    assert trained(encoder(full_loss=True), sample) == ["Q: é?\nA: 7 é</s>"]


def test_a_token_that_would_cross_from_prompt_to_completion_is_cut() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**letters, "ab": 256}, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    of = Encoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer), ChatSettings(), None)
    assert trained(of, Sample("prompt and completion", 1, "", prompt="xa", completion="bc")) == ["bc"]
    assert [len(e.tokens) for e, _ in of.encode(Sample("text", 1, "", text="xab"))] == [2]


def test_of_a_conversation_each_turn_of_the_assistant_is_trained_with_its_end() -> None:
    sample = Sample("messages", 1, "", messages=tuple(CHAT))
    of = encoder(CHATML)
    assert trained(of, sample) == ["Hello!<|im_end|>\nÜnd.<|im_end|>\n</s>"]
    (example, _), *_ = of.encode(sample)
    assert marked(example, of.tokenizer.decode) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>\n»"
        "<|im_start|>user\nAnd é?<|im_end|>\n<|im_start|>assistant\n«Ünd.<|im_end|>\n</s>»"
    )


def test_a_template_that_rewrites_earlier_turns_makes_an_example_of_each() -> None:
    sample = Sample("messages", 1, "", messages=tuple(CHAT))
    found = trained(encoder(FORGETFUL), sample)
    assert found == ["<think></think>Hello!<|im_end|>\n</s>", "<think></think>Ünd.<|im_end|>\n</s>"]


def test_only_the_completion_of_a_conversational_prompt_is_trained() -> None:
    sample = Sample("prompt and completion", 1, "", messages=tuple(CHAT), first=3)
    assert trained(encoder(CHATML), sample) == ["Ünd.<|im_end|>\n</s>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]", "writes its generation prompt"),
        (
            "{% for m in messages %}{{ m.content }}|{% endfor %}{% if add_generation_prompt %}>>{% endif %}",
            "right after its generation prompt",
        ),
        ("{{ raise_exception('no') }}", "refuses the conversation"),
    ],
)
def test_templates_whose_answers_can_not_be_found_are_refused(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(template).encode(Sample("messages", 1, "", messages=tuple(CHAT)))


def test_a_model_without_a_template_refuses_conversations() -> None:
    with pytest.raises(UsageError, match="needs a chat template"):
        encoder().encode(Sample("messages", 1, "", messages=tuple(CHAT)))


def test_long_rows_are_cut_and_those_that_lose_all_that_is_trained_are_left_out() -> None:
    of = encoder(max_length=6)
    samples = [
        Sample("text", 1, "", text="abcdefghij"),
        Sample("prompt and completion", 2, "", prompt="abcdefghij", completion="k"),
        Sample("text", 3, "", text="ab"),
    ]
    found = of.examples(samples, "rows")
    assert [len(e.tokens) for e in found] == [6, 4]
    assert (found.truncated, found.longest, found.empty) == (2, 13, [2])
