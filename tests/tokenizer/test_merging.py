"""Joining by score: the heap beside the rule carried out literally."""

from __future__ import annotations

import random

import pytest

from paddock.errors import TokenizerError
from paddock.tokenizer.merging import Joining, find_byte_ids, join


def literally(word: str, ids: dict[str, int], scores: list[float]) -> list[str]:
    """Again and again: of all neighbours that make a piece, the best score, the leftmost of equals."""
    parts = list(word)
    while True:
        best, at = None, -1
        for place in range(len(parts) - 1):
            id = ids.get(parts[place] + parts[place + 1])
            if id is not None and (best is None or scores[id] > best):
                best, at = scores[id], place
        if best is None:
            return parts
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_the_heap_does_what_the_rule_says() -> None:
    rng = random.Random(0)
    for _ in range(1500):
        letters = "ab" if rng.random() < 0.5 else "abc▁"
        pieces = {"".join(rng.choices(letters, k=rng.randint(2, 5))) for _ in range(rng.randint(0, 12))}
        ids = {piece: id for id, piece in enumerate(sorted(pieces))}
        scores = [float(rng.randint(-4, 0)) for _ in ids]  # many equal scores
        word = "".join(rng.choices(letters, k=rng.randint(0, 16)))
        assert join(word, ids, scores) == literally(word, ids, scores)


@pytest.mark.parametrize("pieces", [["▁a", "ab", "▁▁", "▁▁▁a"], ["a▁", "▁a", "a▁b", "▁a▁"]])
def test_cutting_before_blanks_changes_nothing(pieces: list[str]) -> None:
    """A vocabulary with a blank inside a piece is not cut; either way the ids are those of the whole text."""
    ids = {piece: id for id, piece in enumerate([*"▁ab", *pieces])}
    scores = [-float(id) for id in range(len(ids))]
    joining = Joining(ids, scores)
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choices("ab ", k=rng.randint(1, 14)))
        whole = literally("▁" + text.replace(" ", "▁"), ids, scores)
        assert joining.encode(text, True) == [ids[piece] for piece in whole]
        assert joining.encode(text, True) == joining.encode(text, True)  # from the cache


def test_characters_that_are_no_piece() -> None:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    assert find_byte_ids(["x", *bytes_]) == list(range(1, 257))
    assert find_byte_ids(bytes_[1:]) is None
    assert Joining({"a": 0}, [0.0], byte_ids=list(range(100, 356)), prefix=False).encode("é", True) == [295, 269]
    assert Joining({"a": 0}, [0.0], unknown=9, prefix=False).encode("ébb", True) == [9, 9, 9]
    with pytest.raises(TokenizerError, match="cannot spell 'é'"):
        Joining({"a": 0}, [0.0], prefix=False).encode("é", True)


def test_the_blank_before_a_text() -> None:
    ids = {"▁": 0, "a": 1, "▁a": 2}
    joining = Joining(ids, [0.0, 0.0, 0.0])
    assert joining.encode("a", True) == [2]
    assert joining.encode("a", False) == [1]
    assert Joining(ids, [0.0, 0.0, 0.0], prefix=False).encode("a", True) == [1]
