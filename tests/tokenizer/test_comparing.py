"""Tokenizers described and measured side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paddock.errors import DataError, UsageError
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.comparing import Comparison
from paddock.tokenizer.comparing_plot import plot
from paddock.tokenizer.describing import describe, script
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train

TEXT = "the goose and the duck 鹅鸭鹅 the goose"


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return train([TEXT * 20], Plan("bpe", 300))


def test_figures_by_hand(own: Tokenizer) -> None:
    comparison = Comparison({"own": own})
    comparison.add("text", ["ab 鹅x", "𠮷"])
    measured = comparison.rows["text"]["own"]
    ids = own.encode("ab 鹅x") + own.encode("𠮷")
    assert (measured.tokens, measured.characters, measured.bytes, measured.words) == (len(ids), 6, 11, 4)
    assert measured.bytes_per_token == 11 / len(ids) and measured.tokens_per_word == len(ids) / 4
    assert measured.tokens_per_character == len(ids) / 6 and measured.ideographs == 2
    whole = [own.bytes_of(id).decode("utf-8", "ignore") for id in ids]
    assert measured.parts == sum(not text for text in whole) / len(ids) and measured.unknown == 0
    assert measured.coverage == ("鹅" in {text.strip() for text in whole}) / 2


def test_what_is_unknown_and_what_has_no_words(own: Tokenizer) -> None:
    bert = train([TEXT * 20], Plan("wordpiece", 60))
    comparison = Comparison({"bert": bert, "own": own})
    comparison.add("a", ["the ☃ goose ☃"])
    row = comparison.rows["a"]
    assert row["bert"].unknown == 0.5 and row["own"].unknown == 0 and row["bert"].coverage is None
    comparison.add("b", ["... !"])
    assert comparison.rows["b"]["own"].tokens_per_word is None
    with pytest.raises(DataError, match="c holds no text"):
        comparison.add("c", [""])


def test_chinese_weakness_is_seen(shared_data: Path, real: Callable[[str], Tokenizer]) -> None:
    names = {"LLaMA": "llama/tokenizer.model", "NeoX": "gpt-neox/20B_tokenizer.json", "GPT-2": "gpt2/vocab.json"}
    chinese = (shared_data / "text" / "zh_hongloumeng.txt").read_text()
    english = (shared_data / "text" / "tinystories_sample.txt").read_text()[:20_000]
    own = train([chinese[:60_000]], Plan("sentencepiece-bpe", 5000))
    comparison = Comparison({**{name: real(path) for name, path in names.items()}, "own": own})
    comparison.add("English", [english])
    comparison.add("Chinese", [chinese[400_000:410_000]])
    seeds = (shared_data / "instruct" / "belle_zh_seed_tasks.jsonl").read_text().splitlines()
    comparison.add("modern", [json.loads(line)["instruction"] for line in seeds])
    per = {label: {name: m.tokens_per_character for name, m in row.items()} for label, row in comparison.rows.items()}
    assert per["modern"]["LLaMA"] == pytest.approx(1.37, abs=0.01) and 1.5 < per["Chinese"]["LLaMA"] < 1.8
    assert per["Chinese"]["GPT-2"] > 2 and per["Chinese"]["own"] < 0.9
    assert all(each < 0.35 for name, each in per["English"].items() if name != "own")
    row = comparison.rows["Chinese"]
    assert row["LLaMA"].coverage is not None and row["LLaMA"].coverage < 0.75
    assert row["own"].coverage is not None and row["own"].coverage > 0.97
    assert row["LLaMA"].parts > 0.5 > row["own"].parts


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_plot(own: Tokenizer, tmp_path: Path, name: str) -> None:
    comparison = Comparison({"one": own, "two": own})
    comparison.add("text", [TEXT])
    comparison.add("signs", ["..."])
    plot(comparison, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    plot(comparison, tmp_path / name)
    assert (tmp_path / name).read_bytes() == data
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        plot(comparison, tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("path", "kind", "size", "ideographs", "byte_pieces", "step"),
    [
        ("llama/tokenizer.model", "SentencePiece BPE", 32000, 700, 256, "put '▁' before"),
        ("gpt-neox/20B_tokenizer.json", "byte-level BPE", 50277, 302, 256, "split as GPT-2 does, spell bytes"),
        ("bert/vocab.txt", "WordPiece", 30522, 244, 0, "split at blanks and punctuation"),
    ],
)
def test_real_ones_described(
    real: Callable[[str], Tokenizer], path: str, kind: str, size: int, ideographs: int, byte_pieces: int, step: str
) -> None:
    told = describe(real(path))
    assert (told["kind"], told["size"], told["ideographs"]) == (kind, size, ideographs)
    assert told["byte_pieces"] == byte_pieces and step in told["steps"]
    assert next(iter(told["scripts"])) == "Latin" and all(len(each["text"]) > 10 for each in told["longest"])
    json.dumps(told)


def test_scripts() -> None:
    names = {
        "the": "Latin",
        "鹅": "Han",
        "ひ": "Hiragana",
        "12": "digits",
        " ": "blanks",
        "?!": "signs",
        "▁да": "Cyrillic",
    }
    assert {text: script(text) for text in names} == names
