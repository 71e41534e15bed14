"""Translation: languages however they are written, what reaches each family's model, and nothing lost in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Process, Run, byte_tokenizer, read_rows, seeded, write_rows
from hypothesis import given
from hypothesis import strategies as st

from llmkit.engines.base import ModelFacts
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.errors import InputError, UsageError
from llmkit.models.settings import ModelSettings
from llmkit.translation.checks import problems
from llmkit.translation.families import family
from llmkit.translation.languages import language
from llmkit.translation.pieces import clauses, split

SENTENCES = ["Thank you very much.", "Where is the station?", "I am tired.", "He has 3 cats and 2 dogs."]


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        ("French", "fr"), ("french", "fr"), ("fr", "fr"), ("fra", "fr"), ("fre", "fr"), ("fra_Latn", "fr"), ("Deutsch", "de"),
        ("pt-BR", "pt-BR"),
        ("zho_Hant", "zh-Hant"), ("zh-Hans", "zh-Hans"), ("Klingon", "tlh"), ("nob", "nb"),
    ],
)  # fmt: skip
def test_languages_are_known_by_name_and_code(written: str, tag: str) -> None:
    assert language(written).tag == tag


@pytest.mark.parametrize("written", ["", "xx", "Frensh", "en_", "1", "a" * 300])
def test_what_is_no_language_is_a_usage_error(written: str) -> None:
    with pytest.raises(UsageError, match="no language") as error:
        language(written)
    assert written != "Frensh" or "French" in (error.value.hint or "")


def test_scripts_tell_languages_apart_and_regions_do_not() -> None:
    assert language("zh").matches(language("zho_Hans"))
    assert not language("zh").matches(language("zho_Hant"))
    assert language("pt-BR").matches(language("por_Latn"))


def facts(
    model_type: str,
    *,
    tokens: tuple[str, ...] = (),
    reference: str = "org/model",
    prefixes: tuple[str, ...] = (),
    causal: bool = False,
    chat: bool = False,
) -> ModelFacts:
    return ModelFacts(reference, model_type, not causal, chat, (), prefixes, tokens)


def test_each_family_is_told_the_languages_in_its_own_way() -> None:
    en, fr = language("en"), language("fr")
    nllb = family(facts("m2m_100", tokens=("eng_Latn", "fra_Latn", "zho_Hant", "zho_Hans", "ab_cd"))).direction(en, fr)
    assert (nllb.source_token, nllb.target_token) == ("eng_Latn", "fra_Latn")
    m2m = family(facts("m2m_100", tokens=("__en__", "__fr__"))).direction(en, fr)
    assert (m2m.source_token, m2m.target_token) == ("__en__", "__fr__")
    mbart = family(facts("mbart", tokens=("en_XX", "fr_XX"))).direction(en, fr)
    assert (mbart.source_token, mbart.target_token) == ("en_XX", "fr_XX")
    t5 = family(facts("t5", prefixes=("summarize: ", "translate English to French: ", "translate English to German: ")))
    assert t5.direction(en, fr).prompt("Hi").text == "translate English to French: Hi"
    madlad = family(facts("t5", tokens=("<2fr>", "<2de>"))).direction(None, fr)
    assert madlad.prompt("Hi").text == "<2fr> Hi"
    many = family(facts("marian", tokens=(">>fra<<", ">>por<<"), reference="Helsinki-NLP/opus-mt-en-roa")).direction(en, fr)
    assert many.prompt("Hi").text == ">>fra<< Hi"
    one = family(facts("marian", reference="Helsinki-NLP/opus-mt-en-fr")).direction(None, None)
    assert (one.source, one.target, one.prompt("Hi").text) == (en, fr, "Hi")
    plain = family(facts("gpt2", causal=True)).direction(en, fr)
    assert (plain.prompt("Hi").text, plain.stop) == ("English: Hi\nFrench:", ("\n",))
    assert "from English to French" in str(family(facts("llama", causal=True, chat=True)).direction(en, fr).prompt("Hi").text)


def test_languages_that_a_model_lacks_are_refused() -> None:
    nllb = family(facts("m2m_100", tokens=("eng_Latn", "fra_Latn")))
    with pytest.raises(UsageError, match="does not know German"):
        nllb.direction(language("en"), language("de"))
    with pytest.raises(UsageError, match="needs the source language"):
        nllb.direction(None, language("fr"))
    with pytest.raises(UsageError, match="`from` and `to` are both French"):
        nllb.direction(language("fr"), language("fra"))
    with pytest.raises(UsageError, match="no target language given"):
        nllb.direction(language("en"), None)
    with pytest.raises(UsageError, match="does not know German"):
        family(facts("marian", reference="x/opus-mt-en-fr")).direction(language("de"), language("fr"))
    with pytest.raises(InputError, match="how to select languages"):
        family(facts("bart"))


def tiny(kind: str, folder: Path, tokens: list[str]) -> Path:
    """A real architecture with random weights, whose tokenizer has the family's language tokens behind the 256 bytes."""
    import transformers

    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>", *tokens], eos_token="</s>", pad_token="<pad>", add_eos="</s>")
    size = {"vocab_size": len(tokenizer), "d_model": 32, "pad_token_id": 258, "eos_token_id": 257}
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))}
    configs = {
        "M2M100": lambda: transformers.M2M100Config(**size, **sides, max_position_embeddings=300, decoder_start_token_id=257),
        "MBart": lambda: transformers.MBartConfig(**size, **sides, max_position_embeddings=300, decoder_start_token_id=257),
        "Marian": lambda: transformers.MarianConfig(**size, **sides, max_position_embeddings=300, decoder_start_token_id=258),
        "T5": lambda: transformers.T5Config(
            **size, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=258, initializer_factor=1.0,
            task_specific_params={"a": {"prefix": "translate English to French: "}},
        ),
    }  # fmt: skip
    model = getattr(transformers, {"Marian": "MarianMTModel"}.get(kind, f"{kind}ForConditionalGeneration"))
    seeded(lambda: model(configs[kind]()), folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "tokens", "read", "written"),
    [
        ("M2M100", ["eng_Latn", "fra_Latn"], [259, "ab", 257], "fra_Latn"),
        ("M2M100", ["__en__", "__fr__"], [259, "ab", 257], "__fr__"),
        ("MBart", ["en_XX", "fr_XX"], [259, "ab", 257], "fr_XX"),
        ("Marian", [">>fra<<", ">>spa<<"], [259, " ab", 257], None),
        ("T5", [], ["translate English to French: ab", 257], None),
        ("T5", ["<2fr>", "<2de>"], [259, " ab", 257], None),
    ],
    ids=["NLLB", "M2M100", "mBART-50", "Marian", "T5", "MADLAD"],
)
def test_the_language_tokens_reach_the_model(kind: str, tokens: list[str], read: list[object], written: str | None, tmp_path: Path) -> None:
    engine = TorchEngine(load(ModelSettings(str(tiny(kind, tmp_path / "model", tokens)))), chat=ChatSettings("none"))
    direction = family(engine.facts()).direction(language("en"), language("fr"))
    decoding = Decoding(max_new_tokens=5, first_token=direction.target_token, logprobs=True)
    request = engine.make_request(direction.prompt("ab"), decoding)
    expected = [token for part in read for token in (engine.encode(part) if isinstance(part, str) else [part])]
    assert list(request.tokens) == expected
    (answer,) = engine.generate([request], decoding)[0]
    assert answer.logprobs is not None
    first = answer.logprobs[0].token
    assert first == written if written else first not in tokens


def test_a_pivot_goes_through_the_language_between(run: Run, tmp_path: Path) -> None:
    model = tiny("M2M100", tmp_path / "model", ["eng_Latn", "fra_Latn", "deu_Latn"])
    options = ["-m", model, "--max-new-tokens", "6", "--json", "-q"]
    first = json.loads(run("translate", "ab", *options, "--from", "en", "--to", "fr").out)["translation"]
    then = json.loads(run("translate", first, *options, "--from", "fr", "--to", "de").out)["translation"]
    both = json.loads(run("translate", "ab", *options, "--from", "en", "--to", "de", "--pivot", "fr").out)
    assert (both["from"], both["to"], both["translation"]) == ("en", "de", then)
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "ab"}])
    out = tmp_path / "out.jsonl"
    many = ["translate", "-i", rows, "-o", out, "-m", model, "--max-new-tokens", "6", "--from", "en", "--to", "de"]
    assert run(*many, "--pivot", "fr").code == 3  # a random model writes to its limit
    assert json.loads(Path(f"{out}.run.json").read_text())["identity"]["pivot"] == "fr"
    assert run(*many).code == 2  # another run
    assert run("translate", "ab", "--to", "fr", "--pivot-model", model).code == 2
    assert run("translate", "ab", "--to", "fr", "--pivot", "de").code == 2  # en-fr does not know it


def test_a_marian_model_of_the_hubs_form_is_read_with_both_its_tokenizers(run: Run, tmp_path: Path) -> None:
    """source.spm and target.spm, the form of OPUS-MT: the source is cut by one, the target scored by the other."""
    import sentencepiece
    from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel, MarianTokenizer

    folder = tmp_path / "opus-mt-en-fr"
    folder.mkdir()
    texts = {"source": ["the king and the queen", "a house by the sea"], "target": ["le roi et la reine", "une maison au bord de la mer"]}
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for side, lines in texts.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 20), model_prefix=str(folder / side), vocab_size=40, hard_vocab_limit=False, minloglevel=2
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        for i in range(model.get_piece_size()):
            pieces.setdefault(model.id_to_piece(i), len(pieces))
    pieces["<pad>"] = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces))
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="fr")
    pad = pieces["<pad>"]
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))}
    special = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad}
    config = MarianConfig(vocab_size=len(pieces), d_model=32, **sizes, max_position_embeddings=128, **special)
    seeded(lambda: MarianMTModel(config), folder)
    tokenizer.save_pretrained(folder)
    ran = run("translate", "the king", "-m", folder, "--to", "fr", "--max-new-tokens", "6", "--json", "-q")
    assert ran.code == 3  # a random model writes to its limit
    assert json.loads(ran.out)["from"] == "en"

    rows = write_rows(tmp_path / "pairs.jsonl", [{"source": "the king", "target": "le roi"}])
    found = json.loads(run("evaluate", "perplexity", "-m", folder, "-i", rows, "--json", "-q").out)
    batch = tokenizer("the king", text_target="le roi", return_tensors="pt")
    loss = float(AutoModelForSeq2SeqLM.from_pretrained(folder).double()(**batch).loss.detach())
    assert found["scores"]["mean_log_likelihood"] == pytest.approx(-loss, rel=1e-4)


@given(st.text(alphabet=st.sampled_from("ab.,;: \n\t!?é"), max_size=120), st.integers(3, 40))
def test_a_text_in_pieces_is_the_text_again(text: str, longest: int) -> None:
    fits: Callable[[str], bool] = lambda piece: len(piece) <= longest  # noqa: E731
    for cut in (split(text, "en", fits), clauses(text, fits)):
        assert cut.joined() == text
        assert all(piece.text == piece.text.strip() and fits(piece.text) for piece in cut.pieces if cut is not None and len(cut.pieces) > 0)


def test_sentences_are_pieces_and_abbreviations_do_not_end_them() -> None:
    cut = split("Dr. Smith came  home.  He slept.\n\nThen 3.5 kg!", "en", lambda _: True)
    assert [p.text for p in cut.pieces] == ["Dr. Smith came  home.", "He slept.", "Then 3.5 kg!"]
    assert [p.before for p in cut.pieces] == ["", "  ", "\n\n"]


@pytest.mark.parametrize(
    ("source", "translation", "reason", "said"),
    [
        ("I have 12 cats.", "J'ai des chats.", "eos", "number 12 missing"),
        ("Hello %s, see {name}.", "Bonjour %s.", "eos", "placeholder {name} missing"),
        ("See https://a.org/x, please.", "Voir.", "eos", "https://a.org/x"),
        ("He went home to sleep.", "He went home to sleep.", "eos", "not translated"),
        ("He went home.", "", "eos", "the translation is empty"),
        ("He went home to sleep for many hours.", "Il.", "eos", "times as long"),
        ("He went home.", "Il est la il est la il est la il est la.", "eos", "repeats"),
        ("He went home.", "Il est", "length", "cut off"),
    ],
)
def test_losses_are_seen(source: str, translation: str, reason: str, said: str) -> None:
    assert any(said in problem for problem in problems(source, translation, reason))


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ("I have 12 cats.", "J'ai 12 chats."),
        ("Paris", "Paris"),
        ("OK", "OK"),
        ("Tom Smith", "Tom Smith"),
        ("100% of {x}", "100 % de {x}"),
        ("I have 2 cats.", "J'ai deux chats."),
        ("…", "…"),
    ],
)
def test_sound_translations_are_let_through(source: str, translation: str) -> None:
    assert problems(source, translation, "eos") == []


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("The man’s brother isn’t here.", "The man's brother isn't here."),
        ("He said “thank you”.", 'He said "thank you".'),
        ("The well\u2011known man is here.", "The well-known man is here."),
        ("Tom & Mary are here.", "Tom and Mary are here."),
        ("The sta\u00adtion\u00a0is here.", "The station is here."),
    ],
)
def test_the_built_in_model_reads_the_signs_of_word_processors_as_those_that_people_type(run: Run, written: str, plain: str) -> None:
    read, expected = (run("translate", text, "--to", "fr", "--quiet") for text in (written, plain))
    assert read == expected


def test_tags_placeholders_links_and_code_of_any_text_stay(run: Run, tmp_path: Path) -> None:
    marks = ("<b>", "</b>", "&amp;", "%1$s", "%d", "{name}", "{{ x }}", "${y}", "https://example.org/a_(b)", "`my_house`", ":+1:")
    source = tmp_path / "lines.txt"
    source.write_text("".join(f"The house {mark} is red.\n" for mark in marks))
    done = run("translate", "-i", source, "-o", tmp_path / "out.txt", "--to", "fr", "--num-beams", "1")
    assert done.code == 0, done.err
    lines = (tmp_path / "out.txt").read_text().splitlines()
    for line, mark in zip(lines, marks, strict=True):
        assert line.replace(f" {mark}", "").replace(f"{mark} ", "") == "La maison est rouge."


def test_a_sentence_is_translated(run: Run) -> None:
    ran = run("translate", "Thank you very much.", "--to", "fr")
    assert ran.code == 0
    assert re.fullmatch(r"Merci beaucoup.{1,2}\n", ran.out)
    assert run("translate", "Thank you very much.", "--src-lang", "eng_Latn", "--tgt_lang", "French", "-q").out == ran.out


def test_json_tells_the_languages(run: Run) -> None:
    found = json.loads(run("translate", "Thank you very much.", "--to", "fr", "--json", "-q").out)
    assert (found["from"], found["to"], found["translation"][:5]) == ("en", "fr", "Merci")


def test_standard_input_is_translated(process: Process) -> None:
    assert process("translate", "--to", "fr", stdin=b"Thank you very much.\n").out.startswith("Merci")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--to", "Frensh"], "did you mean 'French'"),
     (["--to", "de"], "does not know German"), (["--from", "fr", "--to", "fr"], "both French"),
     (["--from", "de", "--to", "fr"], "does not know German"), (["--to", "fr", "-o", "x.txt"], "needs --input")],
)  # fmt: skip
def test_languages_that_cannot_be_are_refused(run: Run, options: list[str], said: str) -> None:
    ran = run("translate", "Thank you very much.", *options)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


def test_the_source_language_is_told_from_the_text(run: Run) -> None:
    ran = run("translate", "Good morning, where is the station?", "--to", "fr", "--from", "auto")
    assert ran.code == 0
    assert "the model reads English" in ran.err


def test_a_file_of_lines_keeps_its_lines(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("Good morning.\n\n  I am tired. Where is the station?\n\n\nYes.\n")
    assert run("translate", "-i", source, "-o", out, "--to", "fr").code == 0
    lines = out.read_text().split("\n")
    assert len(lines) == len(source.read_text().split("\n"))
    assert [not line.strip() for line in lines] == [False, True, False, True, True, False, True]
    assert lines[2].startswith("  ")
    assert re.search(r"[.!] \S.* \?$", lines[2])


def test_rows_are_translated_as_a_job_and_scored_without_glue(process: Process, run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": i, "source": s, "reference": "Bonjour."} for i, s in enumerate(SENTENCES)])
    out = tmp_path / "out.jsonl"
    assert run("translate", "-i", rows, "-o", out, "--to", "fr").code == 0
    found = read_rows(out)
    assert found[0]["translation"].startswith("Merci")
    assert {"id", "source", "finish_reason", "prompt_tokens", "completion_tokens"} <= found[0].keys()
    assert "already complete" in run("translate", "-i", rows, "-o", out, "--to", "fr").err
    assert run("rerun", f"{out}.run.json").code == 0
    piped = run("translate", "-i", rows, "--to", "fr", "-q")
    score = process("evaluate", "bleu", "-i", "-", "--json", stdin=piped.out.encode())
    assert score.code == 0, score.err
    assert json.loads(score.out)["rows"] == 4


def test_batching_does_not_change_a_translation(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": " ".join(SENTENCES[: 1 + i % 4])} for i in range(9)])
    answers = []
    for size in (1, 16):
        out = tmp_path / f"{size}.jsonl"
        assert run("translate", "-i", rows, "-o", out, "--to", "fr", "--batch-size", size).code == 0
        answers.append([row["translation"] for row in read_rows(out)])
    assert answers[0] == answers[1]


def test_what_a_model_loses_word_for_word_is_put_back(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "Good morning."}, {"text": "Call 0123456789 or see https://example.org/a?b=c now."}])
    out = tmp_path / "out.jsonl"
    ran = run("translate", "-i", rows, "-o", out, "--to", "fr")
    assert ran.code == 0
    assert "translated again" in ran.err
    assert all(kept in str(read_rows(out)[1]["translation"]) for kept in ("0123456789", "https://example.org/a?b=c"))


def test_what_may_be_lost_is_flagged_in_the_row_the_summary_and_the_exit_code(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"text": "Yes."}, {"text": "I have never been to the city where my brother lives."}])
    out = tmp_path / "out.jsonl"
    ran = run("translate", "-i", rows, "-o", out, "--to", "fr", "--max-new-tokens", "4")
    assert ran.code == 3
    assert "1 of 2 rows failed" in ran.err
    good, bad = read_rows(out)
    assert "error" not in good
    assert "cut off" in bad["error"]
    assert bad["translation"]


def test_a_text_longer_than_the_context_is_translated_whole(run: Run, tmp_path: Path) -> None:
    text = "I am tired, and he is tired, and we are tired, and they are tired " * 40
    rows = write_rows(tmp_path / "in.jsonl", [{"text": text}])
    ran = run("translate", "-i", rows, "--to", "fr", "-q", "--num-beams", "1")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert found["prompt_tokens"] > 256
    assert len(found["translation"]) > 0.5 * len(text)


def test_languages_are_listed(run: Run) -> None:
    assert run("translate", "--languages", "-q").out == "from\ten\tEnglish\ten\nto\tfr\tFrench\tfr\n"


def test_a_causal_model_translates_by_prompt(run: Run, gpt2: Path) -> None:
    ran = run("translate", "Hi", "-m", gpt2, "--from", "en", "--to", "fr", "--max-new-tokens", "5", "--json", "-q")
    assert ran.code == 3  # a random model writes to its limit
    assert "\n" not in json.loads(ran.out)["translation"]
