"""Vocabularies made larger: old ids stay, a text is cut as before and then joined further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from paddock.errors import DataError, UsageError
from paddock.tokenizer import Tokenizer, load
from paddock.tokenizer.training.extending import Extended, Extension
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train

ENGLISH = "the goose and the duck swim over the lake, and the lake is cold. " * 10
CHINESE = "鹅在湖上游，鸭子跟着它游。湖水很冷，鹅很老，没有人告诉鸭子。\n" * 10
HARD = (ENGLISH, CHINESE, "goose鹅 x\n\n  y", "🙂 𠮷", "<sop> wetland", "")


def extended(tokenizer: Tokenizer, more: int = 40) -> Extended:
    extension = Extension(tokenizer)
    assert extension.add(["<sop>"], control=True) == []
    assert extension.add(["wetland", "t"]) == ["t"], "what is a piece is not added"
    extension.learn([CHINESE], len(extension) + more)
    return extension.finish()


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe"])
def test_old_pieces_stay_and_new_ones_are_spelt_by_them(kind: str, tmp_path: Path) -> None:
    old = train([ENGLISH], Plan(kind, 300 if kind == "bpe" else 320, coverage=1.0))
    made = extended(old)
    new = made.tokenizer
    assert [new.piece(id) for id in range(len(old))] == [old.piece(id) for id in range(len(old))]
    assert made.first == len(old) and len(new) == made.first + len(made.spelled) > len(old) + 40
    for place, ids in enumerate(made.spelled):
        text = b"".join(old.bytes_of(id) for id in ids)
        assert text.strip() == (new.bytes_of(made.first + place) or new.piece(made.first + place).encode()).strip()
    assert new.encode(ENGLISH) == old.encode(ENGLISH), "what learnt nothing is cut as it was"
    assert len(new.encode(CHINESE)) < 0.5 * len(old.encode(CHINESE))
    assert len(new.encode("wetland", add_special=False)) <= 2 < len(old.encode("wetland", add_special=False))
    assert new.specials.items() >= {**old.specials, "<sop>": made.first}.items()
    new.save(tmp_path)
    again, theirs = load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in HARD:
        assert new.decode(new.encode(text)) == text
        assert again.encode(text) == new.encode(text) == theirs(text, split_special_tokens=True)["input_ids"]
        assert again.encode(text, "parse") == theirs(text)["input_ids"]


def test_learning_in_two_goes_is_learning_in_one() -> None:
    """Merges rank behind the old ones: going on from 300 pieces gives the pieces that 330 would have had."""
    whole = train([ENGLISH + CHINESE], Plan("bpe", 330))
    extension = Extension(train([ENGLISH + CHINESE], Plan("bpe", 300)))
    extension.learn([ENGLISH + CHINESE], 330)
    made = extension.finish().tokenizer
    assert [made.piece(id) for id in range(330)] == [whole.piece(id) for id in range(330)]
    assert made.encode(CHINESE) == whole.encode(CHINESE)


@pytest.mark.parametrize("path", ["llama/tokenizer.model", "gpt-neox/20B_tokenizer.json"])
def test_real_ones(real: Callable[[str], Tokenizer], shared_data: Path, path: str) -> None:
    old = real(path)
    text = (shared_data / "text" / "zh_hongloumeng.txt").read_text()
    extension = Extension(old)
    extension.learn([text[:10_000]], len(old) + 300)
    made = extension.finish().tokenizer
    assert len(made) == len(old) + 300 and made.specials == old.specials
    assert made.encode(ENGLISH) == old.encode(ENGLISH)
    held_out = text[15_000:17_000]
    assert made.decode(made.encode(held_out)) == held_out
    assert len(made.encode(held_out)) < 0.85 * len(old.encode(held_out))


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_words_can_be_added_to_every_kind(kind: str) -> None:
    old = train([ENGLISH], Plan(kind, 280 if kind == "unigram" else 60))
    extension = Extension(old)
    extension.add(["wetland", "湖泊"])
    with pytest.raises(UsageError, match="cannot learn more pieces"):
        extension.learn([CHINESE], 400)
    made = extension.finish().tokenizer
    assert made.id_of("湖泊") == len(old) + 1 and made.id_of("湖泊") in made.encode("the 湖泊 lake")
    assert made.encode(ENGLISH) == old.encode(ENGLISH)


def test_what_is_refused(real: Callable[[str], Tokenizer]) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        Extension(real("t5/spiece.model"))
    extension = Extension(train([ENGLISH], Plan("bpe", 300)))
    for piece in ("", "  ", "x" * 2**17):
        with pytest.raises(UsageError, match="the piece"):
            extension.add([piece])
    with pytest.raises(UsageError, match="already"):
        extension.learn([CHINESE], len(extension))
    with pytest.raises(DataError, match="no text"):
        extension.learn([""], 400)
    assert extension.add(["<a>", "<a>"]) == ["<a>"], "twice is once"
