"""The built-in models on CTranslate2: what they answer is what torch answers, and what the engine can't do goes to torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PATIENCE, Run, read_rows, write_rows

import llmkit
from llmkit.engines.base import Engine
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import choose, open_engine
from llmkit.errors import InputError, TimeUpError, UsageError
from llmkit.models import builtin
from llmkit.models.card import read_card
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

STORIES, EN_FR = "builtin:stories", "builtin:en-fr"
_WHO = ("The old man", "My sister", "Our teacher", "The king", "A little girl", "They", "We", "The doctor")
_DOES = ("bought", "saw", "lost", "forgot", "loved")
_WHAT = ("the house.", "a red car.", "his book yesterday.", "three apples in the garden.", "nothing at all, did they?")
#: 200 everyday sentences.
SENTENCES = [f"{who} {does} {what}" for who in _WHO for does in _DOES for what in _WHAT]
ODD = [
    "",
    " ",
    "Once",
    "  two  spaces ",
    "caf\u00e9 \u00fc \u2603 \U0001f600",
    "\ud83d half",
    "<s> spelled out </s>",
    "a\n\nb\t",
    "\u4f60\u597d",
    "\x00",
]


@pytest.fixture(scope="module")
def torch_stories() -> Engine:
    return open_engine(ModelSettings(STORIES), engine="torch")


@pytest.fixture(scope="module")
def torch_en_fr() -> Engine:
    return open_engine(ModelSettings(EN_FR), engine="torch")


@pytest.fixture(scope="module")
def stories() -> Engine:
    return open_engine(ModelSettings(STORIES, threads=2), engine="ctranslate2")  # two calls of the library at once


@pytest.fixture(scope="module")
def en_fr() -> Engine:
    return open_engine(ModelSettings(EN_FR, threads=2), engine="ctranslate2")


def answers(engine: Engine, texts: list[str], decoding: Decoding, size: int = 25) -> list[tuple[str, str, int, int]]:
    requests = [engine.make_request(Prompt(text=text), decoding, i) for i, text in enumerate(texts)]
    found = [each for i in range(0, len(requests), size) for each in engine.generate(requests[i : i + size], decoding)]
    return [(a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens) for (a,) in found]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_new_tokens=40),
        Decoding(max_length=60),
        Decoding(max_new_tokens=24, num_beams=4),
        Decoding(max_new_tokens=40, stop=(". ", "and")),
        Decoding(max_new_tokens=480, truncate="left"),
    ],
    ids=["greedy", "total length", "beams", "stop strings", "to the end of the context"],
)
def test_stories_go_on_as_on_torch(torch_stories: Engine, stories: Engine, ragged: list[str], decoding: Decoding) -> None:
    texts = ragged[:4] if decoding.max_new_tokens == 480 else ragged + SENTENCES[::16] + ODD
    assert answers(stories, texts, decoding) == answers(torch_stories, texts, decoding)


@pytest.mark.parametrize(
    "decoding",
    [Decoding(max_new_tokens=64, num_beams=4), Decoding(max_new_tokens=64), Decoding(max_new_tokens=5, num_beams=4)],
    ids=["beams", "greedy", "cut off"],
)
def test_200_sentences_are_translated_as_on_torch(torch_en_fr: Engine, en_fr: Engine, decoding: Decoding) -> None:
    assert len(SENTENCES) == 200
    texts = SENTENCES + (ODD[2:] if decoding.num_beams == 1 else [])
    assert answers(en_fr, texts, decoding) == answers(torch_en_fr, texts, decoding)


def test_an_answer_does_not_depend_on_its_neighbors(stories: Engine, en_fr: Engine, ragged: list[str]) -> None:
    greedy, beams = Decoding(max_new_tokens=20), Decoding(max_new_tokens=40, num_beams=4)
    texts = ["", *ragged, "", "Once"]  # without a text there is the first token alone
    assert answers(stories, texts, greedy) == answers(stories, texts, greedy, size=1)
    assert answers(en_fr, SENTENCES[::9], beams) == answers(en_fr, SENTENCES[::9], beams, size=1)


def test_scores_are_torchs_within_a_ten_thousandth(
    torch_stories: Engine, stories: Engine, torch_en_fr: Engine, en_fr: Engine, ragged: list[str]
) -> None:
    for expected, engine in ((torch_stories, stories), (torch_en_fr, en_fr)):
        pairs = [(Prompt(text=text), " The end was good.") for text in ragged[:12]]
        for left, right in zip(expected.score_answers(pairs), engine.score_answers(pairs), strict=True):
            assert [token.token for token in left] == [token.token for token in right]
            assert [token.logprob for token in left] == pytest.approx([token.logprob for token in right], abs=1e-4)


def test_a_whole_context_is_scored(torch_stories: Engine, stories: Engine) -> None:
    tokens = [0, *(17 + i % 900 for i in range(512))]
    (left,), (right,) = (engine.score([tokens], [1]) for engine in (torch_stories, stories))
    assert len(left) == len(right) == 512
    assert left == pytest.approx(right, abs=1e-3)


def test_log_probabilities_of_answers_are_torchs(torch_en_fr: Engine, en_fr: Engine) -> None:
    decoding = Decoding(max_new_tokens=40, num_beams=4, logprobs=True)
    found = []
    for engine in (torch_en_fr, en_fr):
        ((answer,),) = engine.generate([engine.make_request(Prompt(text=SENTENCES[0]), decoding)], decoding)
        found.append(answer.logprobs or ())
    assert [t.token for t in found[0]] == [t.token for t in found[1]]
    assert [t.logprob for t in found[0]] == pytest.approx([t.logprob for t in found[1]], abs=1e-4)


@pytest.mark.parametrize("name", [STORIES, EN_FR])
def test_prompts_become_the_same_ids_and_errors(request: pytest.FixtureRequest, name: str) -> None:
    fixture = name.removeprefix("builtin:").replace("-", "_")
    expected, engine = request.getfixturevalue(f"torch_{fixture}"), request.getfixturevalue(fixture)

    def prepared(of: Engine, text: str, decoding: Decoding) -> object:
        try:
            return of.make_request(Prompt(text=text), decoding, 3)
        except InputError as exc:
            return (exc.message, exc.hint)

    for text in (*ODD, "word " * 700):
        for decoding in (Decoding(), Decoding(truncate="left"), Decoding(truncate="right", max_new_tokens=9), Decoding(max_length=12)):
            assert prepared(engine, text, decoding) == prepared(expected, text, decoding)
    for text in ODD:
        assert engine.encode(text) == expected.encode(text)
    for text in ODD[2:]:
        for split in ("spaces", "white space"):
            assert engine.encode_pair(Prompt(text=text), " yes", split=split) == expected.encode_pair(
                Prompt(text=text), " yes", split=split
            )
    assert (engine.bos, engine.eos, engine.context, engine.bos_remark()) == (expected.bos, expected.eos, expected.context, None)
    found, wanted = engine.facts(), expected.facts()
    assert replace(found, tokens=()) == replace(wanted, tokens=())
    assert sorted(found.tokens) == sorted(wanted.tokens)
    about = engine.identity.as_dict()
    assert about.pop("engine") == "ctranslate2"
    assert about | {"engine": "torch"} == expected.identity.as_dict()


@pytest.mark.parametrize("stop", [(), (" and",), ("king",)])
def test_a_stream_writes_what_torch_writes(torch_stories: Engine, stories: Engine, stop: tuple[str, ...]) -> None:
    decoding = Decoding(max_new_tokens=60, stop=stop)
    found = []
    for engine in (torch_stories, stories):
        for text in ("Once upon a time", ""):
            pieces: list[str] = []
            answer = engine.stream(engine.make_request(Prompt(text=text), decoding), decoding, pieces.append)
            assert "".join(pieces) == answer.text
            found.append((answer, [piece for piece in pieces if piece]))
    assert found[:2] == found[2:]


def test_an_encoder_decoder_streams_too(torch_en_fr: Engine, en_fr: Engine) -> None:
    decoding, found = Decoding(max_new_tokens=60), []
    for engine in (torch_en_fr, en_fr):
        pieces: list[str] = []
        answer = engine.stream(engine.make_request(Prompt(text=SENTENCES[3]), decoding), decoding, pieces.append)
        found.append((answer, "".join(pieces)))
    assert found[0] == found[1]


def test_the_languages_of_the_cards_are_those_known_without_reading_them() -> None:
    for name in builtin.names():
        languages = read_card(builtin.folder(name))[0].get("language")
        assert builtin.LANGUAGES[name] == (tuple(languages) if isinstance(languages, list) else ())


@pytest.mark.parametrize(
    ("settings", "decoding", "engine"),
    [
        (ModelSettings(STORIES), Decoding(), "ctranslate2"),
        (ModelSettings(EN_FR), Decoding(num_beams=4), "ctranslate2"),
        (ModelSettings(STORIES, device="cpu", dtype="float32"), Decoding(), "ctranslate2"),
        (ModelSettings(STORIES), None, "torch"),
        (ModelSettings("gpt2", device="cpu"), Decoding(), "ctranslate2"),
        (ModelSettings(STORIES, adapter="mine"), Decoding(), "ctranslate2"),
        (ModelSettings(STORIES, device="cuda"), Decoding(), "torch"),
        (ModelSettings(STORIES, dtype="bfloat16"), Decoding(), "torch"),
        (ModelSettings(STORIES, quantize="int8"), Decoding(), "ctranslate2"),
        (ModelSettings(STORIES, quantize="int4"), Decoding(), "torch"),
        (ModelSettings(STORIES, trust_remote_code=True), Decoding(), "torch"),
        (ModelSettings(STORIES), Decoding(temperature=1.0), "torch"),
        (ModelSettings(STORIES), Decoding(repetition_penalty=1.1), "torch"),
        (ModelSettings(STORIES), Decoding(no_repeat_ngram_size=2), "torch"),
        (ModelSettings(STORIES), Decoding(min_new_tokens=2), "torch"),
        (ModelSettings(STORIES), Decoding(num_beams=2, stop=("a",)), "torch"),
        (ModelSettings(EN_FR), Decoding(num_beams=2, length_penalty=0.5), "torch"),
        (ModelSettings(EN_FR), Decoding(num_beams=2, num_samples=2), "torch"),
        (ModelSettings(STORIES), Decoding(regex="a"), "torch"),
        (ModelSettings(STORIES), Decoding(prompt_lookup=2), "torch"),
        (ModelSettings(STORIES), Decoding(draft_model=STORIES), "torch"),
    ],
)
def test_auto_takes_ctranslate2_where_the_text_is_the_same(settings: ModelSettings, decoding: Decoding | None, engine: str) -> None:
    assert choose(settings, "auto", decoding)[0].name == engine


def test_what_the_engine_does_not_have_is_an_error_when_it_is_named(run: Run) -> None:
    for arguments, why in (
        (["--temperature", "1"], "sampling"),
        (["--repetition-penalty", "1.3"], "repetition penalty"),
        (["--dtype", "bfloat16"], "float32"),
        (["--device", "cuda"], "cuda"),
        (["--quantize", "int4"], "int4"),
    ):
        ran = run("generate", "Once", "--engine", "ctranslate2", *arguments)
        assert ran.code == 2
        assert why in ran.err
        assert ran.err.splitlines()[-1].startswith("hint:")
        assert ran.out == ""


@pytest.mark.parametrize("engine", ["auto", "ctranslate2"])
def test_a_built_in_model_that_is_not_there_is_an_error_that_names_the_near_one(run: Run, engine: str) -> None:
    ran = run("generate", "Once", "-m", "builtin:storys", "--engine", engine)
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "hint: did you mean 'stories'?"
    assert "ctranslate2" not in ran.err


def test_what_goes_to_torch_says_why_in_one_notice(run: Run) -> None:
    ran = run("generate", "Once", "--no-repeat-ngram-size", "2", "--max-new-tokens", "3")
    assert ran.code == 0
    assert [line for line in ran.err.splitlines() if "n-grams" in line] == [
        "builtin:stories can't run on the engine ctranslate2: it does not offer a ban on repeated n-grams; "
        "torch runs instead, which takes longer to start"
    ]
    assert "ctranslate2" not in run("generate", "Once", "--max-new-tokens", "3").err


def test_the_engine_refuses_by_itself_what_it_would_answer_otherwise(stories: Engine) -> None:
    request = stories.make_request(Prompt(text="Once"), Decoding())
    for decoding in (Decoding(temperature=1.0), Decoding(repetition_penalty=2.0), Decoding(num_beams=2, stop=("a",))):
        with pytest.raises(UsageError):
            stories.generate([request], decoding)


@pytest.mark.parametrize(
    "arguments", [["generate", "Once upon a time", "--max-new-tokens", "5"], ["translate", "Good morning", "--to", "fr"]]
)
def test_the_first_word_needs_neither_torch_nor_transformers(arguments: list[str]) -> None:
    heavy = (
        "torch", "transformers", "datasets", "huggingface_hub", "numpy", "yaml", "rich", "pandas", "pyarrow", "psutil", "ssl", "langcodes",
    )  # fmt: skip
    code = f"""
import sys
from llmkit.cli.app import run
assert run({arguments!r}) == 0
print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip()
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_job_names_its_engine_and_goes_on_with_no_other(run: Run, tmp_path: Path) -> None:
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": text} for text in SENTENCES[:6]]), tmp_path / "out.jsonl"
    ran = run("generate", "-i", rows, "-o", out, "--max-new-tokens", "8")
    assert ran.code == 0
    assert "builtin:stories on ctranslate2, cpu, float32" in ran.err
    record = json.loads(Path(f"{out}.run.json").read_text())
    assert record["identity"]["model.engine"] == "ctranslate2"
    assert record["versions"]["ctranslate2"]
    mine = read_rows(out)
    ran = run("generate", "-i", rows, "-o", out, "--max-new-tokens", "8", "--engine", "torch", "--overwrite")
    assert "on torch, cpu" in ran.err
    assert read_rows(out) == mine


def test_eight_bits_are_taken_when_the_engine_is_named(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("Good morning.\nThe house is small.\n")
    ran = run("translate", "-i", lines, "--to", "fr", "--engine", "ctranslate2", "--quantize", "int8")
    assert ran.code == 0
    assert "on ctranslate2, cpu, int8" in ran.err
    assert ran.out.splitlines() == ["Bonjour.", "La maison est petite."]


def test_a_batch_that_is_ended_ends_every_call_of_the_library(stories: Engine, ragged: list[str]) -> None:
    decoding, seen = Decoding(max_new_tokens=200), 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen > 100:
            raise TimeUpError("enough")

    requests = [stories.make_request(Prompt(text=text), decoding, i) for i, text in enumerate(ragged * 2)]
    with pytest.raises(TimeUpError):
        stories.generate(requests, decoding, check=check)
    before = seen
    assert answers(stories, ragged, replace(decoding, max_new_tokens=20))[0][3] == 20
    assert seen == before, "a call went on after its batch had ended"


def test_perplexity_and_choices_are_torchs_within_a_ten_thousandth(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": text} for text in SENTENCES[:8]])
    found = {}
    for engine in ("torch", "ctranslate2"):
        ran = run("evaluate", "perplexity", "-i", rows, "--json", "--engine", engine)
        assert ran.code == 0
        found[engine] = json.loads(ran.out)["scores"]
    assert found["torch"] == pytest.approx(found["ctranslate2"], rel=1e-5)


def test_a_stream_that_is_broken_off_ends_the_process_in_order() -> None:
    code = f"""
import sys
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import open_engine
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt
engine = open_engine(ModelSettings({STORIES!r}), engine="ctranslate2")
decoding = Decoding(max_new_tokens=400)
def write(piece):
    if piece:
        raise KeyboardInterrupt
try:
    engine.stream(engine.make_request(Prompt(text="Once upon a time"), decoding), decoding, write)
except KeyboardInterrupt:
    print("stopped")
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's threads are files on Linux alone")
def test_the_thread_that_loads_a_model_keeps_no_helpers_beside_those_that_run_it() -> None:
    # with more threads than cores, OpenMP lets none of them wait for another on the spot
    code = f"""
import os
import numpy
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import open_engine
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
engine = open_engine(ModelSettings({STORIES!r}, threads=2), engine="ctranslate2")
decoding = Decoding(max_new_tokens=40)
requests = [engine.make_request(Prompt(text=text), decoding) for text in ("Once upon a time", "One day")]
for _ in range(50):  # one that has been told to end may still be there for a moment
    engine.generate(requests, decoding)
    if threads() - before <= 2:
        break
print(threads() - before <= 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "True\n"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    package = Path(llmkit.__file__).parent
    copy = tmp_path / "llmkit"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "models" / "builtin" / "stories" / "ctranslate2" / "model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "llmkit", "generate", "Once"], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=PATIENCE, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 5
    assert "SHA-256" in done.stderr
    assert "install llmkit again" in done.stderr
