"""GLM's blanks that are whole sentences, beside sentences cut by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from blank_rows import END, LONG, MASK, PAD, PLAIN, START, WORDS, chi_square, rebuilt, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.preparing.blanks import Blanks
from paddock.data.preparing.sentences import BLANK, CLOSING, ENDING, STOPPING, sentences


def blanks(length: int, **how: float) -> Blanks:
    given = {"long": 0.0, "whole": 1.0} | how
    return Blanks(length, MASK, LONG, START, END, PAD, sentence_mask=LONG, signs=SIGNS, **given)


# Whole sentences. Letters are words (capitals begin with a blank), "。" ends, "." ends before a blank, ")" closes.
SIGNS = np.zeros(WORDS, np.uint8)
LETTERS = {letter: PLAIN + number for number, letter in enumerate("abcdeABCDE.。)")}
for letter, sign in {".": STOPPING, "。": ENDING, ")": CLOSING, **dict.fromkeys("ABCDE", BLANK)}.items():
    SIGNS[LETTERS[letter]] = sign


def cut_by_hand(written: str) -> list[str]:
    """The sentences of a text in the letters above, one letter after another."""
    found, begun = [], 0
    for at in range(len(written)):
        behind = at + 1
        while behind < len(written) and written[behind] == ")":
            behind += 1
        follows = written[behind : behind + 1]
        if written[at] == "。" or (written[at] == "." and (follows in ("", "。") or follows.isupper())):
            if behind > begun:
                found.append(written[begun:behind])
            begun = behind
    return [*found, written[begun:]] if written[begun:] else found


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="".join(LETTERS), max_size=60))
def test_sentences_end_where_they_do_by_hand(written: str) -> None:
    ids = np.array([LETTERS[letter] for letter in written], np.int64)
    cut = sentences(ids, SIGNS)
    assert [written[start:stop] for start, stop in cut.tolist()] == cut_by_hand(written)
    assert cut_by_hand("a3.4.)B。)A.)") == ["a3.4.)", "B。)", "A.)"]


def test_blanks_are_whole_sentences_as_near_to_the_share_as_they_come() -> None:
    prepare = blanks(256)
    random, shares, orders = np.random.Generator(np.random.PCG64(3)), [], Counter[bool]()
    for place in range(300):
        parts = ["".join(random.choice(list("abcdeABCDE"), random.integers(1, 15))) + "。" for _ in range(20)]
        ids = np.array([LETTERS[letter] for letter in "".join(parts)])
        batch = prepare([sample(ids, place=place)])
        whole, spans = rebuilt(batch)
        assert whole == ids.tolist()
        assert (batch.ids == LONG).sum() == len(spans) and not (batch.ids == MASK).any()
        letters = {id: letter for letter, id in LETTERS.items()}
        cut = ["".join(letters[id] for id in span) for span in spans]
        assert not Counter(cut) - Counter(parts)
        shares.append(sum(map(len, cut)) / len(ids))
        assert batch.positions is not None
        begins = [int(batch.positions[0, at, 0]) for at in (batch.ids[0] == START).nonzero()[:, 0]]
        orders[begins == sorted(begins)] += len(begins) == 2
    assert np.mean(shares) == pytest.approx(0.15, abs=0.01)
    assert chi_square([orders[True], orders[False]], [0.5, 0.5]) < 10.8


def test_a_text_of_one_sentence_keeps_something_to_be_read() -> None:
    prepare = blanks(64)
    batch = prepare([sample(np.array([LETTERS[letter] for letter in "abAcdeBBa。"]))])
    assert not (batch.ids == LONG).any() and (batch.ids == MASK).any()
    long_one = np.array([LETTERS[letter] for letter in "a。" * 60])  # as many sentences as there is room for blanks
    crowded = blanks(196, share=0.9, mean=10.0)
    whole, spans = rebuilt(crowded([sample(long_one)]))
    assert whole == long_one.tolist() and len(spans) == 38  # (196 - 120) / 2
