"""What each objective makes of samples: by its rules, and in the shares that chance should give."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from blank_rows import END, FIRST, LAST, LONG, MASK, PAD, PLAIN, START, WORDS, chi_square, rebuilt, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.batch import IGNORED
from paddock.data.neighbours import Neighbours
from paddock.data.preparing import rows
from paddock.data.preparing.blanks import Blanks
from paddock.data.preparing.causal import Causal
from paddock.data.preparing.masked import Masked
from paddock.data.preparing.paired import Paired
from paddock.data.preparing.prefixed import Prefixed, PrefixedPairs
from paddock.data.preparing.spans import Spans
from paddock.data.samples import Prepare
from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError
from paddock.model.spec import Prefix
from paddock.model.step import blank_positions

ORDINARY = np.arange(WORDS) >= PLAIN
CONTINUES = ORDINARY & (np.arange(WORDS) % 3 == 0)
SENTINELS = tuple(range(7, PLAIN))


def masked(length: int = 64, **how: object) -> Masked:
    return Masked(length, MASK, FIRST, LAST, PAD, ORDINARY, CONTINUES, **how)


def blanks(length: int = 64, **how: object) -> Blanks:
    return Blanks(length, MASK, LONG, START, END, PAD, **how)


def text(count: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(PLAIN, WORDS, count)


# Masked tokens


def test_masks_as_often_as_published() -> None:
    """15 % of the text, of which 80 % masks, 10 % other tokens, 10 % as they were; 13.8 is chi-square's 0.1 % at 2."""
    prepare, fates, chosen, asked = masked(), Counter[str](), 0, 0
    drawn = np.zeros(WORDS, int)
    for place in range(400):
        batch = prepare([sample(text(62, place), place=place)])
        ids, targets = batch.ids[0].numpy(), batch.targets[0].numpy()
        hidden = targets != IGNORED
        chosen, asked = chosen + 62, asked + int(hidden.sum())
        whole = np.where(hidden, targets, ids)
        assert whole.tolist() == [FIRST, *text(62, place), LAST]
        for now, then in zip(ids[hidden], targets[hidden], strict=True):
            fates["mask" if now == MASK else "same" if now == then else "other"] += 1
            drawn[now] += now not in (MASK, then)
    assert asked == round(0.15 * 62) * 400
    kept = 1 / (WORDS - PLAIN)  # a token drawn in its own place
    shares = [0.8, 0.1 * (1 - kept), 0.1 + 0.1 * kept]
    assert chi_square([fates["mask"], fates["other"], fates["same"]], shares) < 13.8
    assert drawn[:PLAIN].sum() == 0  # never a control token
    assert chi_square(drawn[PLAIN:].tolist(), [1 / (WORDS - PLAIN)] * (WORDS - PLAIN)) < 72.1  # 0.1 % at 39


def test_every_place_is_masked_as_often() -> None:
    prepare, found = masked(), np.zeros(64, int)
    for place in range(500):
        found += (prepare([sample(text(62), place=place)]).targets[0] != IGNORED).numpy()
    assert found[0] == found[63] == 0
    assert chi_square(found[1:63].tolist(), [1 / 62] * 62) < 100.9  # 0.1 % at 61


def test_control_tokens_in_the_text_are_never_chosen() -> None:
    inside = [*text(20), MASK, LONG, *text(10)]
    for place in range(50):
        batch = masked()([sample(inside, place=place)])
        assert batch.targets[0, 21] == batch.targets[0, 22] == IGNORED


def test_words_are_masked_whole() -> None:
    for place in range(100):
        batch = masked(whole_words=True)([sample(text(62, place), place=place)])
        hidden, words = (batch.targets[0] != IGNORED).numpy(), text(62, place)
        assert 1 <= hidden.sum() <= 12
        for at in range(1, 62):
            if CONTINUES[words[at]]:
                assert hidden[at + 1] == hidden[at]


def test_a_word_longer_than_the_share_is_still_masked() -> None:
    batch = masked(whole_words=True)([sample([22, 21, 21, 21, 24, 24])])  # 24 goes on with what is before it
    assert (batch.targets[0] != IGNORED).sum() >= 1


def test_documents_of_a_row_are_apart() -> None:
    batch = masked(16)([sample([*text(3), LAST], [*text(4), LAST]), sample(text(9))])
    assert batch.documents is not None and batch.positions is not None and batch.padding is not None
    assert batch.documents[0].tolist() == [0] * 5 + [1] * 6 + [15] * 5
    assert batch.positions[0, :11].tolist() == [*range(5), *range(6)]
    assert batch.padding[0].tolist() == [True] * 11 + [False] * 5
    whole = torch.where(batch.targets == IGNORED, batch.ids, batch.targets)
    assert whole[0, [0, 4, 5, 10]].tolist() == [FIRST, LAST, FIRST, LAST]
    together = masked(16, isolated=False)([sample([*text(3), LAST], [*text(4), LAST])])
    assert together.documents is None and (together.ids[0] == LAST).sum() == 2
    assert int((together.ids[0] == FIRST).sum()) == 1


def test_half_the_rows_follow() -> None:
    prepare, follows = masked(next_sentence=True), 0
    for place in range(600):
        piece, other = text(40, 2 * place), text(61, 2 * place + 1)
        batch = prepare([sample(piece, other, place=place)])
        assert batch.follows is not None and batch.segments is not None
        whole = torch.where(batch.targets == IGNORED, batch.ids, batch.targets)[0].tolist()
        ends = [at for at, token in enumerate(whole) if token == LAST]
        assert len(ends) == 2 and whole[0] == FIRST
        first, second = whole[1 : ends[0]], whole[ends[0] + 1 : ends[1]]
        assert batch.segments[0].tolist() == [0] * (ends[0] + 1) + [1] * (ends[1] - ends[0]) + [0] * (63 - ends[1])
        assert first == piece[: len(first)].tolist() and first
        assert not CONTINUES[second[0]] and len(first) + len(second) == 40
        expected = piece[len(first) :] if batch.follows[0] else other[int(np.argmin(CONTINUES[other])) :]
        assert second == expected[: len(second)].tolist()
        follows += int(batch.follows[0])
    assert chi_square([follows, 600 - follows], [0.5, 0.5]) < 10.8  # 0.1 % at 1


def test_neighbours_are_of_other_documents() -> None:
    tokens = Tokens.of([[number] * size for number, size in enumerate([5, 0, 12, 1, 7], start=PLAIN)])
    table = Neighbours(tokens, 5, seed=1)
    pieces = [table.texts(number) for number in range(len(table))]
    assert [piece.tolist() for piece, _ in pieces] == [
        [20] * 5, [22] * 5, [22] * 5, [22] * 2, [23], [24] * 5, [24] * 2,
    ]  # fmt: skip
    assert all(len(other) and other[0] != piece[0] and set(other) == {other[0]} for piece, other in pieces)
    assert [a.tolist() for a in table.texts(3)] == [a.tolist() for a in pieces[3]]
    with pytest.raises(UsageError, match="split the text into documents"):
        Neighbours(Tokens.of([[1, 2], []]), 5, seed=1)


# GLM's blanks


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 110), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]))
def test_blanks_hold_the_whole_text(count: int, place: int, long: float) -> None:
    prepare = blanks(128, long=long)
    batch = prepare([sample(text(count, place), place=place)])
    whole, _ = rebuilt(batch)
    assert whole == text(count, place).tolist()


def test_blanks_as_often_and_as_long_as_asked() -> None:
    prepare = blanks(256, long=0.0)
    cut, lengths, orders = 0, [], Counter[bool]()
    for place in range(300):
        batch = prepare([sample(text(200, place), place=place)])
        _, spans = rebuilt(batch)
        cut += sum(map(len, spans))
        lengths += [len(span) for span in spans]
        assert batch.positions is not None and batch.prefix is not None
        begins = [int(batch.positions[0, at, 0]) for at in (batch.ids[0] == START).nonzero()[:, 0]]
        orders[begins[0] < begins[1]] += 1
    assert cut == 300 * 30  # 15 % of 200, to the token
    assert np.mean(lengths) == pytest.approx(3.05, abs=0.15)  # Poisson(3), 0 counted as 1, the last one cut
    assert chi_square([orders[True], orders[False]], [0.5, 0.5]) < 10.8


def test_a_long_blank_is_half_the_text_or_more() -> None:
    shares = []
    for place in range(400):
        batch = blanks(128, long=1.0)([sample(text(100), place=place)])
        _, (span,) = rebuilt(batch)
        assert batch.prefix is not None and batch.ids[0, batch.prefix[0] - 1] == LONG
        shares.append(len(span))
    counts = np.bincount(shares, minlength=101)
    assert counts[:50].sum() == 0
    assert chi_square(counts[50:].tolist(), [1 / 51] * 51) < 86.7  # 0.1 % at 50


def test_a_long_blank_stands_where_a_prompt_s_does() -> None:
    batch = blanks(64, long=1.0)([sample(text(40))])
    assert batch.positions is not None and batch.prefix is not None
    read = int(batch.prefix) + batch.supervised
    positions, prefix = blank_positions(Prefix((LONG, MASK), START), batch.ids[:, :read])
    assert torch.equal(positions, batch.positions[:, :read]) and torch.equal(prefix, batch.prefix)


def test_the_paper_s_example() -> None:
    """x1 x2 [x3] x4 [x5 x6]: figure 2 of the paper, with positions from 0."""
    told = blanks(16)._written(np.arange(21, 27), np.array([2, 4]), np.array([3, 6]), MASK, _Backwards())
    ids, targets, positions, prefix = told
    assert ids.tolist() == [21, 22, MASK, 24, MASK, START, 25, 26, START, 23]
    assert targets.tolist() == [IGNORED] * 5 + [25, 26, END, 23, END]
    assert positions[:, 0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    assert positions[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    assert prefix == 5


class _Backwards:
    def permutation(self, count: int) -> list[int]:
        return list(range(count))[::-1]


# T5's spans, prefixes, pairs


def spans(length: int = 64) -> Spans:
    return Spans(length, SENTINELS, START, END, PAD)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 70), st.integers(0, 10**6))
def test_holes_and_what_was_in_them_are_the_text(count: int, place: int) -> None:
    prepare, whole = spans(), text(count, place)
    assert prepare.takes >= 70
    batch = prepare([sample(whole, place=place)])
    assert batch.source is not None
    source, target = batch.source[0].tolist(), [t for t in batch.targets[0].tolist() if t != IGNORED]
    assert batch.ids[0].tolist()[: max(1, len(target))] == [START, *target[:-1]]
    source = source[: source.index(END)]
    if count == 1:
        assert source == whole.tolist() and not target
        return
    assert target[-1] == END
    inside: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token < PLAIN:
            inside[token] = []
        else:
            inside[list(inside)[-1]].append(token)
    assert list(inside) == list(SENTINELS[: len(inside)]) == [token for token in source if token < PLAIN]
    assert [token for each in source for token in inside.get(each, [each])] == whole.tolist()
    assert all(a >= PLAIN or b >= PLAIN for a, b in itertools.pairwise(source))  # holes do not touch
    taken = sum(map(len, inside.values()))
    assert taken == min(max(1, round(0.15 * count)), count - 1)
    assert len(inside) == max(1, round(taken / 3))


@pytest.mark.parametrize("length", [4, 16, 64, 512])
def test_the_longest_text_fills_the_source(length: int) -> None:
    """T5's own lengths: 512 tokens of source come of 568 of text and leave 114 to write (its code says the same)."""
    prepare = Spans(length, tuple(range(100, 200)), START, END, PAD)
    assert prepare.sizes(prepare.takes)[0] <= length < prepare.sizes(prepare.takes + 1)[0]
    if length == 512:
        assert (prepare.takes, prepare.sizes(568)) == (568, (512, 114))


def test_every_token_is_in_a_hole_as_often() -> None:
    found = np.zeros(40, int)
    for place in range(3000):
        for start, stop in rows.placed(rows.composition(6, 2, _random(place)), 40, _random(place + 10**6)):
            found[start:stop] += 1
    assert found.sum() == 18000
    middle = found[5:35]  # towards the ends fewer holes have room
    assert chi_square(middle.tolist(), [1 / 30] * 30) < 120


def _random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_lengths_add_up_and_each_way_is_as_likely() -> None:
    found = Counter(tuple(rows.composition(5, 3, _random(seed)).tolist()) for seed in range(3000))
    assert len(found) == 6 and all(sum(way) == 5 and min(way) >= 1 for way in found)
    assert chi_square(list(found.values()), [1 / 6] * 6) < 20.5  # 0.1 % at 5


def test_a_prefix_is_read_and_the_rest_is_asked_for() -> None:
    cuts = Counter[int]()
    for place in range(900):
        whole = text(10)
        batch = Prefixed(12, PAD)([sample(whole, place=place)])
        assert batch.prefix is not None
        cut = int(batch.prefix[0])
        cuts[cut] += 1
        assert batch.ids[0].tolist() == [*whole[:9], PAD, PAD, PAD]
        assert batch.targets[0].tolist() == [IGNORED] * (cut - 1) + whole[cut:].tolist() + [IGNORED] * 3
    assert sorted(cuts) == list(range(1, 10))
    assert chi_square([cuts[cut] for cut in range(1, 10)], [1 / 9] * 9) < 26.1  # 0.1 % at 8


def test_a_prefix_for_an_encoder() -> None:
    whole = text(10)
    batch = PrefixedPairs(11, START, END, PAD)([sample([*whole, END])])
    assert batch.source is not None and batch.source_padding is not None
    cut = int(batch.source_padding.sum()) - 1
    assert batch.source[0].tolist() == [*whole[:cut], END] + [PAD] * (10 - cut)
    rest = [*whole[cut:], END]
    assert batch.targets[0].tolist() == rest + [IGNORED] * (11 - len(rest))
    assert batch.ids[0].tolist() == [START, *rest[:-1]] + [PAD] * (11 - len(rest))


def test_a_pair() -> None:
    batch = Paired(16, START, END, PAD)([sample([21, 22, 23], [31, 32, END]), sample([24], [33])])
    assert batch.source is not None and batch.source_padding is not None
    assert batch.source.tolist() == [[21, 22, 23, END, 0, 0, 0, 0], [24, END, 0, 0, 0, 0, 0, 0]]
    assert batch.source_padding.sum(1).tolist() == [4, 2]
    assert batch.ids[:, :4].tolist() == [[START, 31, 32, PAD], [START, 33, PAD, PAD]]
    assert batch.targets[:, :4].tolist() == [[31, 32, END, IGNORED], [33, END, IGNORED, IGNORED]]


@pytest.mark.parametrize(
    "texts, told",
    [
        (([21] * 16, [22]), "a pair of 16 and 1 tokens"),
        (([21], [22] * 16), "a pair of 1 and 16 tokens"),
        (([], [22]), "a pair of 0 and 1 tokens"),
        (([21],), "has 1 texts"),
    ],
)
def test_pairs_that_rows_cannot_hold(texts: tuple[list[int], ...], told: str) -> None:
    with pytest.raises(DataError) as refusal:
        Paired(16, START, END, PAD)([sample(*texts, place=77)])
    assert told in str(refusal.value) and "sample 77" in str(refusal.value)


# All of them

ALL: list[Callable[[], Prepare]] = [
    lambda: Causal(64),
    masked,
    lambda: masked(whole_words=True),
    blanks,
    spans,
    lambda: Prefixed(64, PAD),
    lambda: PrefixedPairs(64, START, END, PAD),
]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("texts", [([],), ([21],), ([], []), ([START, END],), ([21], [], [22, 23])], ids=str)
def test_texts_of_nothing_or_nearly(make: Callable[[], Prepare], texts: tuple[list[int], ...]) -> None:
    prepare = make()
    batch = prepare([sample(*texts), sample(text(30))])
    assert batch.ids.shape[0] == 2 and batch.ids.shape == batch.targets.shape
    assert batch.supervised > 0  # of the second row


@pytest.mark.parametrize("make", ALL[1:])
def test_a_sample_too_long_for_its_row_is_refused(make: Callable[[], Prepare]) -> None:
    prepare = make()
    full = prepare([sample(text(prepare.takes), place=p) for p in range(20)])
    assert full.ids.shape[1] <= 64
    with pytest.raises(DataError, match=f"sample 5 has {prepare.takes + 1} tokens"):
        prepare([sample(text(prepare.takes + 1), place=5)])


@pytest.mark.parametrize("make", ALL)
def test_a_row_does_not_depend_on_its_neighbours(make: Callable[[], Prepare]) -> None:
    prepare = make()
    together = prepare([sample(text(30, p), place=p) for p in range(3)])
    alone = prepare([sample(text(30, 1), place=1)])
    assert torch.equal(together.ids[1], alone.ids[0]) and torch.equal(together.targets[1], alone.targets[0])
