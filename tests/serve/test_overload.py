"""Requests that come when they come, whoever still waits: below what the server can do, far above it, and after that.

What a second holds is measured first, on the machine at hand. Figures are printed; what is asserted are the counts, and
times with room for a machine that others use too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from loaded import Loaded
from loadgen import Ask, Crowd, Result, percentile

from paddock.serve.settings import Settings

TOKENS, SECONDS = 32, 15.0
pytestmark = pytest.mark.slow


def ask(number: int, after: float) -> Ask:
    content = f"Tell me the story of the {number}. dog"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "stream": True, "temperature": 0}
    return Ask({**body, "max_tokens": TOKENS, "min_tokens": TOKENS}, after=after)


def arrivals(rate: float, seconds: float, seed: int, begin: float = 0.0) -> list[float]:
    """Moments at which requests come, `rate` a second on average and with no regard to one another."""
    chance, moments, now = random.Random(seed), list[float](), begin
    while (now := now + chance.expovariate(rate)) < begin + seconds:
        moments.append(now)
    return moments


def first_tokens(results: Sequence[Result]) -> list[float]:
    return [result.arrivals[0][0] - result.began for result in results if result.ended]


@pytest.fixture(scope="module")
def loaded() -> Any:
    with Loaded(Settings(template="alpaca", parallel=16, queue=64)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def capacity(loaded: Loaded) -> float:
    """Whole answers a second with all seats taken."""
    Crowd(loaded.address, [ask(number, 0.0) for number in range(16)]).results()
    rates = []
    for turn in range(3):
        results = Crowd(loaded.address, [ask(100 * turn + number, 0.0) for number in range(80)]).results()
        assert all(result.ended for result in results)
        rates.append(80 / max(result.finished for result in results))
    print(f"\n{TOKENS} tokens each: {', '.join(f'{rate:.0f}' for rate in rates)} answers a second")
    return sorted(rates)[1]


def test_below_capacity_everybody_is_served(loaded: Loaded, capacity: float) -> None:
    idle = first_tokens(Crowd(loaded.address, [ask(number, 0.1 * number) for number in range(30)]).results())
    moments = arrivals(0.8 * capacity, SECONDS, seed=3)
    results = Crowd(loaded.address, [ask(number, when) for number, when in enumerate(moments)]).results()
    assert all(result.ended and result.error is None for result in results)
    waits = first_tokens(results)
    print(
        f"\n{len(results)} requests at 80 %: first token p50 {percentile(waits, 0.5):.3f} s, p99"
        f" {percentile(waits, 0.99):.3f} s; with nobody else there p50 {percentile(idle, 0.5):.3f} s"
    )
    assert percentile(waits, 0.99) < 1.0
    loaded.check_idle()


def test_overload_costs_those_who_are_refused_and_ends_with_itself(loaded: Loaded, capacity: float) -> None:
    crowd = arrivals(3 * capacity, SECONDS, seed=4)
    after = arrivals(0.5 * capacity, SECONDS, seed=5, begin=SECONDS)
    results = Crowd(loaded.address, [ask(number, when) for number, when in enumerate([*crowd, *after])]).results()
    assert {result.status for result in results} == {200, 429}
    assert all(result.ended for result in results if result.status == 200), "whoever is let in gets his answer"
    during, later = results[: len(crowd)], results[len(crowd) :]
    good = sum(result.ended for result in during) / max(result.finished for result in during if result.ended)
    calm = [result for result in later if result.began > SECONDS + 10]
    print(
        f"\n{len(crowd)} requests at 300 %: {good / capacity:.0%} of capacity done; 10 s after it at 50 %: "
        f"{sum(result.ended for result in calm)} of {len(calm)} served, first token p99"
        f" {percentile(first_tokens(calm), 0.99):.3f} s"
    )
    assert good > 0.5 * capacity
    assert calm and all(result.ended for result in calm)
    assert percentile(first_tokens(calm), 0.99) < 1.0
    loaded.check_idle()
