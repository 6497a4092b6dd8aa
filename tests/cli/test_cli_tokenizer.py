"""`paddock tokenizer`: train, show, compare, extend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from paddock import load
from paddock.engine.locate import bundled
from paddock.tokenizer import load as load_tokenizer

CHINESE = "鹅在湖上游，鸭子跟着它游。湖水很冷，鹅很老，没有人告诉鸭子。\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    lines = ({"text": f"The goose number {n} swims over lake {n}. {CHINESE}"} for n in range(40))
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "unigram", "wordpiece"])
def test_train_show_and_compare(paddock: Callable, corpus: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "own"
    size = {"unigram": "310", "wordpiece": "120"}.get(kind, "340")
    run = paddock("tokenizer", "train", corpus, "-k", kind, "--vocab-size", size, "-o", folder, "--special", "[gMASK]")
    assert run.code == 0 and "[gMASK]" in run.out and "JSON lines" in run.err, run.err
    made = load_tokenizer(folder)
    assert "[gMASK]" in made.specials and AutoTokenizer.from_pretrained(folder)("goose")["input_ids"] == made.encode(
        "goose"
    )
    run = paddock("tokenizer", "show", folder)
    assert run.code == 0 and made.kind in run.out and "[gMASK]" in run.out and "Han" in run.out
    told = json.loads(paddock("tokenizer", "show", folder, "--json").out)
    assert told["size"] == len(made) and told["fingerprint"] == made.fingerprint()
    (tmp_path / "zh.txt").write_text(CHINESE)
    plot = tmp_path / "bars.svg"
    run = paddock("tokenizer", "compare", folder, bundled(), "-t", corpus, "-t", tmp_path / "zh.txt", "--plot", plot)
    assert run.code == 0 and "tok/word" in run.out and "own" in run.out and plot.stat().st_size > 1000
    run = paddock("tokenizer", "compare", folder, bundled(), "-t", tmp_path / "zh.txt", "--json", "--characters", "20")
    row = json.loads(run.out)["rows"]["zh.txt"]
    assert row["own"]["tokens_per_character"] < 1.2 < row[bundled().name]["tokens_per_character"]
    assert row["own"]["characters"] == 20 and json.loads(run.out)["cut"] == ["zh.txt"]


def test_train_refuses(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("x")
    (tmp_path / "empty.txt").write_text("")
    for arguments, code, said in (
        ([corpus, "--vocab-size", "300", "-o", tmp_path / "taken"], 2, "--force"),
        ([corpus, "--vocab-size", "300", "-k", "bppe", "-o", tmp_path / "x"], 2, "did you mean 'bpe'"),
        ([corpus, "--vocab-size", "100", "-o", tmp_path / "x"], 2, "--vocab-size 257"),
        ([tmp_path / "empty.txt", "--vocab-size", "300", "-o", tmp_path / "x"], 3, "no text"),
        ([tmp_path / "none", "--vocab-size", "300", "-o", tmp_path / "x"], 3, "is not there"),
        ([corpus, "-o", tmp_path / "x"], 2, "--vocab-size"),
    ):
        run = paddock("tokenizer", "train", *arguments)
        assert run.code == code and said in run.err, run.err
    assert not (tmp_path / "x").exists()
    run = paddock("tokenizer", "train", corpus, "--vocab-size", "5000", "-o", tmp_path / "small")
    assert run.code == 0 and "no more pairs" in run.err


def test_compare_refuses(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([bundled(), bundled(), "-t", corpus], "named twice"),
        ([bundled(), "-t", tmp_path / "none"], "is not there"),
        ([bundled(), "-t", corpus, "--plot", tmp_path / "a.jpg"], ".png or .svg"),
        ([tmp_path / "none", "-t", corpus], "none"),
        ([bundled()], "--text"),
    ):
        run = paddock("tokenizer", "compare", *arguments)
        assert run.code in (2, 3) and said in run.err, run.err


def test_extend_grows_the_model(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("wetland\n\nbirdhouse\nwetland\n")
    target = tmp_path / "grown"
    old = load(bundled())
    first = len(old.tokenizer)
    size = first + 88
    run = paddock(
        *("tokenizer", "extend", bundled(), "--add", tmp_path / "terms.txt", "--special", "<sop>", "-o", target),
        *("--train-on", corpus, "--vocab-size", size, "--json"),
    )
    assert run.code == 0, run.err
    told = json.loads(run.out)
    assert (told["size"], told["new"], told["rows"], told["documents"]) == (size, 88, size, 40)
    new = load(target)
    text = "Once upon a time, there was a little"
    ids = old.tokenizer.encode(text)
    assert new.tokenizer.encode(text) == ids
    assert torch.equal(new.logits(ids)[:, :first], old.logits(ids))
    assert new.tokenizer.encode("<sop>", "parse")[-1] == first and len(new.tokenizer.encode(CHINESE)) < 30
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(target), AutoTokenizer.from_pretrained(target)
    again = tokenizer(CHINESE, return_tensors="pt")["input_ids"]
    assert again[0].tolist() == new.tokenizer.encode(CHINESE)
    with torch.no_grad():
        assert torch.allclose(theirs(again).logits[0], new.logits(again[0].tolist()), atol=1e-4)


def test_extend_a_tokenizer_alone_and_refusals(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    paddock("tokenizer", "train", corpus, "--vocab-size", "300", "-o", tmp_path / "own")
    run = paddock("tokenizer", "extend", tmp_path / "own", "--special", "<new>", "-o", tmp_path / "more")
    assert run.code == 0 and "no model beside" in run.out
    assert load_tokenizer(tmp_path / "more").specials["<new>"] == 300
    for arguments, said in (
        ([tmp_path / "own", "-o", tmp_path / "x"], "nothing to add"),
        ([tmp_path / "own", "--train-on", corpus, "-o", tmp_path / "x"], "go together"),
        ([tmp_path / "own", "--special", "<a>", "-o", tmp_path / "own", "--force"], "the model itself"),
        ([tmp_path / "own", "--special", "<a>", "-o", tmp_path / "more"], "--force"),
        ([tmp_path / "own", "--train-on", corpus, "--vocab-size", "10", "-o", tmp_path / "x"], "already"),
        ([tmp_path / "own", "--add", tmp_path / "none", "-o", tmp_path / "x"], "missing"),
    ):
        run = paddock("tokenizer", "extend", *arguments)
        assert run.code in (2, 3) and said in run.err, run.err
    assert not (tmp_path / "x").exists()
