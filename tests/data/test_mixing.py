"""Sources in exact proportions, each with epochs of its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.batch import Batch
from paddock.data.mixing import Mixture, Phase
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.stream import BatchStream
from paddock.data.tokens import Tokens
from paddock.errors import UsageError


class Numbers:
    """Samples that say which source and which number they are."""

    row_tokens = 2.0

    def __init__(self, source: int, count: int) -> None:
        self.source, self.count = source, count

    def __len__(self) -> int:
        return self.count

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        assert 0 <= number < self.count
        return (np.array([self.source, number]),)


def mixture(counts: list[int], weights: list[float], phases: list[Phase] | None = None) -> Mixture:
    return Mixture([Numbers(at, count) for at, count in enumerate(counts)], weights, phases=phases or ())


def drawn(mixed: Mixture, places: range, seed: int = 3, shuffle: bool = True) -> list[tuple[int, int]]:
    stream = mixed.ordered(seed, shuffle)
    return [(int(source), int(number)) for ((source, number),) in map(stream.texts, places)]


def test_every_block_has_the_proportions() -> None:
    mixed = mixture([7, 50, 1000], [0.7, 0.2, 0.1])
    assert mixed.block == 1000
    for block in range(3):
        places = range(block * 1000, (block + 1) * 1000)
        assert Counter(source for source, _ in drawn(mixed, places)) == {0: 700, 1: 200, 2: 100}


def test_weights_sum_to_anything() -> None:
    places = range(300)
    assert drawn(mixture([5, 9], [7, 3]), places) == drawn(mixture([5, 9], [0.7, 0.3]), places)
    assert drawn(mixture([5, 9], [7e200, 3e200]), places) == drawn(mixture([5, 9], [7e-200, 3e-200]), places)


def test_small_weights_make_blocks_larger() -> None:
    assert mixture([5, 5], [0.9995, 0.0005]).block == 10_000
    assert mixture([5, 5, 5], [1, 1, 1]).block == 1000


@settings(deadline=None, max_examples=8)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=4), st.integers(0, 2**63 - 1))
def test_each_source_is_read_through_before_it_begins_anew(sources: list[tuple[int, int]], seed: int) -> None:
    counts, weights = [count for count, _ in sources], [float(weight) for _, weight in sources]
    mixed = mixture(counts, weights)
    seen = drawn(mixed, range(2 * mixed.block), seed)
    for source, count in enumerate(counts):
        numbers = Counter(number for which, number in seen if which == source)
        epochs, more = divmod(sum(numbers.values()), count)
        assert set(numbers.values()) <= {epochs, epochs + 1}
        assert sum(times == epochs + 1 for times in numbers.values()) == more
        assert epochs == 0 or len(numbers) == count


def test_a_place_is_found_without_walking() -> None:
    mixed = mixture([97, 31], [2, 1])
    assert drawn(mixed, range(1500)) == [drawn(mixed, range(place, place + 1))[0] for place in range(1500)]
    assert drawn(mixed, range(10**15, 10**15 + 3)) == drawn(mixed, range(10**15, 10**15 + 3))


def test_sources_are_spread_through_a_block() -> None:
    sources = np.array([source for source, _ in drawn(mixture([9, 9], [1, 1]), range(1000))])
    assert 400 < (np.diff(sources) != 0).sum() < 600


def test_phases_change_the_weights_and_lose_no_sample() -> None:
    mixed = mixture([5000, 5000], [], [Phase([0.9, 0.1], 1000), Phase([0.5, 0.5], 2000), Phase([0.1, 0.9])])
    seen = drawn(mixed, range(4000))
    shares = [Counter(source for source, _ in seen[a:b]) for a, b in ((0, 1000), (1000, 3000), (3000, 4000))]
    assert shares == [{0: 900, 1: 100}, {0: 1000, 1: 1000}, {0: 100, 1: 900}]
    assert len(set(seen)) == len(seen)
    in_turn = drawn(mixed, range(4000), shuffle=False)
    assert sorted(number for source, number in in_turn if source == 0) == list(range(2000))
    assert [use.samples for use in mixed.use(4000)] == [2000, 2000]


def test_the_report_counts_what_is_drawn() -> None:
    mixed = mixture([100, 400], [3, 1])
    uses = mixed.use(2000)
    assert [(use.samples, use.epochs, use.share, use.tokens) for use in uses] == [
        (1500, 15.0, 0.75, 3000), (500, 1.25, 0.25, 1000),
    ]  # fmt: skip
    assert [use.name for use in uses] == ["source 1", "source 2"]
    assert Counter(source for source, _ in drawn(mixed, range(2000))) == {0: 1500, 1: 500}
    assert mixed.use(0)[0].share == 0


def test_as_a_table_it_holds_everything_once() -> None:
    mixed = mixture([3, 2], [1, 9])
    assert [tuple(mixed.texts(number)[0]) for number in range(len(mixed))] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


@pytest.mark.parametrize("weights", [[1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1], [1, True], [1, "2"]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weight"):
        mixture([5, 5], weights)


def test_a_source_that_would_hardly_come_is_refused() -> None:
    with pytest.raises(UsageError, match="1e-09 of all"):
        mixture([5, 5], [1, 1e-9])


@pytest.mark.parametrize("samples", [None, 0, -1000, 1500])
def test_impossible_phases_are_refused(samples: int | None) -> None:
    with pytest.raises(UsageError, match="phase"):
        mixture([5, 5], [], [Phase([1, 1], samples), Phase([1, 2])])


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing"):
        Mixture([], [])


def test_a_stream_of_batches_draws_from_it() -> None:
    first, second = (Tokens.of([[at] * 900]) for at in (1, 2))
    stream = BatchStream(Mixture([Stream(first, 8), Stream(second, 8)], [1, 3]), Causal(8), 10, seed=0)
    batches: list[Batch] = [stream.at(step) for step in range(100)]
    assert sum(int((batch.ids[:, 0] == 1).sum()) for batch in batches) == 250
    assert len(list(stream.once())) == 23
