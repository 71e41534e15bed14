"""What the training scripts of the built-in models promise: clean splits, and a loop that goes on where it ended."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts" / "builtin"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(SCRIPTS)
    yield
    for name in ("corpus", "loop", "muon", "segments", "stories", "en_fr"):
        sys.modules.pop(name, None)


def test_no_held_out_pair_shares_a_side_with_training(scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import corpus

    monkeypatch.setattr(corpus, "HELD_OUT_SENTENCES", 40)
    # each English sentence has several French ones, and each French one several English ones
    pairs = [(f"It is {i % 90}.", f"C’est le {i % 70} !") for i in range(700)] + [("IT IS 3", "c'est le 5")]
    with gzip.open(tmp_path / "tatoeba.eng-fra.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{en}\t{fr}\n" for en, fr in pairs)
    found = corpus.load_pairs(tmp_path)
    again = corpus.load_pairs(tmp_path)
    assert found == again
    assert found.test
    for held, others in ((found.test, (*found.train, *found.valid)), (found.valid, found.train)):
        for side in (0, 1):
            keys = {corpus._sentence_key(pair[side]) for pair in held}
            assert not keys & {corpus._sentence_key(pair[side]) for pair in others}


def test_books_are_held_out_whole_and_cleaned(scripts: None, tmp_path: Path) -> None:
    import corpus

    story = "“Well,” said the king -- and _so_ on.  He went away to sea that very day, and never came back to his house again."
    shared = "A paragraph of more than sixty characters that stands in an anthology and in a book of its own as well."
    for name in ("children", "fiction"):
        with gzip.open(tmp_path / f"gutenberg.{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for i in range(30):
                text = f"CHAPTER {i}\n\n{story} Part {i} of {name}.\n\n{shared if i % 2 else ''}"
                file.write(json.dumps({"id": f"{name}{i}", "title": f"{name} {i}", "text": text}) + "\n")
    books = corpus.load_books(tmp_path)
    assert (len(books.test), len(books.valid)) == (corpus.TEST_BOOKS, corpus.VALID_BOOKS)
    ids = [book.id for book in (*books.children, *books.fiction, *books.valid, *books.test)]
    assert len(ids) == len(set(ids)) == 60
    assert '"Well," said the king—and so on. He went' in books.test[0].paragraphs[0]
    held = {p for book in (*books.valid, *books.test) for p in book.paragraphs}
    assert shared in held
    assert not any(shared in book.paragraphs for book in (*books.children, *books.fiction))


def test_a_training_that_was_ended_goes_on_to_the_same_weights(scripts: None, tmp_path: Path) -> None:
    import loop
    import torch

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = torch.nn.ModuleList([torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)])
        return torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"layers": layers}), "out": torch.nn.Linear(6, 1)})

    def train(net: torch.nn.Module, folder: Path, last: int) -> None:
        def losses(step: int) -> Iterator[torch.Tensor]:
            if step == last:
                raise KeyboardInterrupt
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(8, 6, generator=generator)
            first, second = net["model"]["layers"]
            hidden = second(first(x).relu())
            yield (net["out"](hidden) - x.sum(1, keepdim=True)).square().mean()

        loop.run(net, loop.Schedule(steps=30, decay_from=15, warmup=3), folder, losses, dict, every=10)

    whole, parts = model(), model()
    train(whole, tmp_path / "whole", -1)
    with pytest.raises(KeyboardInterrupt):
        train(parts, tmp_path / "parts", 17)
    fresh = model()
    train(fresh, tmp_path / "parts", -1)
    for one, other in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["stories", "en_fr"])
def test_a_script_makes_a_model_folder_of_its_corpus_and_can_begin_from_one(
    scripts: None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    import corpus
    import torch
    from safetensors.torch import load_file

    script = importlib.import_module(name)
    monkeypatch.setattr(corpus, "HELD_OUT_SENTENCES", 20)
    for size, value in (("TOKENS_PER_STEP", 1024), ("VALID_WINDOWS", 2)) if name == "stories" else (("POSITIONS", 1024),):
        monkeypatch.setattr(script, size, value)
    for kind in ("children", "fiction"):
        with gzip.open(tmp_path / f"gutenberg.{kind}.jsonl.gz", "wt", encoding="utf-8") as file:
            for i in range(12):
                text = "\n\n".join(f"{kind} {i} said that {j} and {i * j} were good numbers, and went home." for j in range(90))
                file.write(json.dumps({"id": f"{kind}{i}", "title": f"{kind} {i}", "text": text}) + "\n")
    with gzip.open(tmp_path / "tatoeba.eng-fra.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"I have {i} cats.\tJ'ai {i} chats.\n" for i in range(300))

    def train(work: str, *options: str) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(
            sys, "argv", [name, str(tmp_path), str(tmp_path / work), "--no-compile", "--threads", str(torch.get_num_threads()), *options]
        )
        script.main()
        return dict(load_file(tmp_path / work / "model" / "model.safetensors"))

    trained = train("whole", "--steps", "2", "--decay-from", "1", "--every", "1")
    exported = train("whole", "--export")
    begun = train("begun", "--from", str(tmp_path / "whole" / "model"), "--steps", "0")
    other = train("other", "--steps", "1", "--decay-from", "0")
    for weights, same in ((exported, True), (begun, True), (other, False)):
        assert all(torch.equal(tensor, weights[key]) for key, tensor in trained.items()) is same
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_the_optimizer_is_torchs_in_bfloat16_and_near_it_in_float32(scripts: None, shape: tuple[int, int]) -> None:
    import torch
    from muon import Muon

    def trained(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> torch.Tensor:
        torch.manual_seed(1)
        parameter = torch.nn.Parameter(torch.randn(shape))
        optimizer = make([parameter])
        for _ in range(3):
            parameter.grad = torch.randn(shape)
            optimizer.step()
        return parameter.detach()

    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    theirs = trained(lambda matrices: torch.optim.Muon(matrices, **settings))
    assert torch.equal(trained(lambda matrices: Muon(matrices, **settings, dtype=torch.bfloat16)), theirs)
    assert torch.allclose(trained(lambda matrices: Muon(matrices, **settings, dtype=torch.float32)), theirs, atol=2e-3)


def test_segmentations_are_the_tokenizers_own_and_with_dropout_others_of_the_same_text(scripts: None) -> None:
    import numpy as np
    import segments
    from tokenizers import Tokenizer

    from llmkit.models.builtin import folder

    tokenizer = Tokenizer.from_file(str(folder("en-fr") / "tokenizer.json"))
    texts = ["Where is the station?", "L'été, il n'y a pas d'école !", "A  double space, naïve 日本 🙂"]
    plain = segments.Segments(tokenizer, texts, dropout=0, seed=1)
    dropped = segments.Segments(tokenizer, texts, dropout=0.3, seed=1)
    again = segments.Segments(tokenizer, texts, dropout=0.3, seed=1)
    drawn = [[dropped.draw(i, np.random.default_rng(seed)) for seed in range(8)] for i in range(3)]
    for i, text in enumerate(texts):
        whole = tokenizer.encode(text, add_special_tokens=False).ids
        assert plain.draw(i, np.random.default_rng(0)) == whole
        assert {tokenizer.decode(ids) for ids in drawn[i]} == {tokenizer.decode(whole)}
        assert len({tuple(ids) for ids in drawn[i]}) > 1
        assert [again.draw(i, np.random.default_rng(seed)) for seed in range(8)] == drawn[i]
