"""A shuffle that is computed: each sample once an epoch, equally likely everywhere, the same on every machine."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from paddock.data.order import Order, Permutation

UNLIKELY = 1e-4  # the seeds are fixed: what passes once passes always


def p_value(counts: Counter[int] | Counter[tuple[int, ...]], kinds: int, freedom: int) -> float:
    expected = sum(counts.values()) / kinds
    seen = sum((count - expected) ** 2 / expected for count in counts.values()) + expected * (kinds - len(counts))
    return float(chi2.sf(seen, freedom))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_each_epoch_has_each_sample_once(count: int, seed: int, epoch: int) -> None:
    order = Order(count, seed)
    places = range(epoch * count, (epoch + 1) * count)
    assert sorted(order[place] for place in places) == list(range(count))


@pytest.mark.parametrize("count", [4096, 4097, 65537])
def test_larger_ones_too(count: int) -> None:
    permutation = Permutation(count, 1)
    assert len({permutation[place] for place in range(count)}) == count


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_all_orders_are_equally_likely(count: int) -> None:
    kinds = math.factorial(count)
    seen = Counter(tuple(Permutation(count, seed)[at] for at in range(count)) for seed in range(25 * kinds))
    assert len(seen) == kinds
    assert p_value(seen, kinds, kinds - 1) > UNLIKELY


def test_a_sample_is_equally_likely_at_each_place_and_beside_each_other() -> None:
    count, places, steps = 50, Counter[int](), Counter[int]()
    for seed in range(1000):
        permutation = Permutation(count, seed)
        row = [permutation[place] for place in range(count)]
        places.update(place * count + sample for place, sample in enumerate(row))
        steps.update((after - before) % count for before, after in pairwise(row))
    assert p_value(places, count * count, (count - 1) ** 2) > UNLIKELY
    assert p_value(steps, count - 1, count - 2) > UNLIKELY


def test_seeds_and_epochs_differ() -> None:
    count = 1000
    first = [Order(count, 0)[place] for place in range(2 * count)]
    other = [Order(count, 1)[place] for place in range(count)]
    equal = [sum(a == b for a, b in zip(one, first[:count], strict=True)) for one in (first[count:], other)]
    assert max(equal) < 10  # about one by chance


def test_unshuffled_samples_come_as_they_lie() -> None:
    order = Order(3, 7, shuffle=False)
    assert [order[place] for place in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_large_order_takes_no_memory() -> None:
    order = Order(10**12, 5)
    assert all(0 <= order[place] < 10**12 for place in (0, 10**12 - 1, 10**15, 10**17))


GOLDEN = {
    (10, 0, 0): [2, 9, 1, 6, 3, 7, 0, 8],
    (1000, 42, 999): [573, 643, 903, 289, 474, 557, 200, 640],
    (10**9, 7, 10**9 * 3 + 5): [105107702, 757265020, 403826331, 66939827, 524858354, 751863864, 725182864, 53746708],
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_same_on_every_machine(case: tuple[int, int, int]) -> None:
    count, seed, start = case
    order = Order(count, seed)
    assert [order[place] for place in range(start, start + 8)] == GOLDEN[case]


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_the_same_whatever_python_hashes_by(hash_seed: str) -> None:
    program = "from paddock.data.order import Order; o = Order(1000, 42); print([o[p] for p in range(999, 1007)])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONHASHSEED": hash_seed}, check=True
    )
    assert done.stdout.strip() == str(GOLDEN[1000, 42, 999])
