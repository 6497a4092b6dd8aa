"""The sampler against transformers' own warpers and processors, one by one and together."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from paddock.engine.constraints import Constraints
from paddock.engine.sampler import History, _draw, _drawn_plainly, _nucleus, adjust, choose, distribution, generator
from paddock.engine.sampling import Sampling
from paddock.errors import PaddockError, UsageError
from paddock.kernels.native import library

PROMPT = [3, 7, 7, 11]
WRITTEN = [20, 3, 20, 20]


def logits_of(seed: int, size: int = 500) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 4


def ours(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (vocabulary,) the sampler draws from."""
    candidates = distribution(adjust(logits.clone(), History(PROMPT, WRITTEN), sampling, Constraints()), sampling)
    return torch.zeros(len(logits), dtype=torch.float64).index_put((candidates.ids,), candidates.probabilities)


def theirs(logits: torch.Tensor, *processors: Any) -> torch.Tensor:
    ids = torch.tensor([PROMPT + WRITTEN])
    return LogitsProcessorList(processors)(ids, logits.clone()[None])[0].double().softmax(0)


ALONE = [
    ({"temperature": 0.7}, TemperatureLogitsWarper(0.7)),
    ({"temperature": 3.0}, TemperatureLogitsWarper(3.0)),
    ({"top_k": 1}, TopKLogitsWarper(1)),
    ({"top_k": 40}, TopKLogitsWarper(40)),
    ({"top_k": 9999}, TopKLogitsWarper(9999)),
    ({"top_p": 0.9}, TopPLogitsWarper(0.9)),
    ({"top_p": 0.1}, TopPLogitsWarper(0.1)),
    ({"top_p": 1e-6}, TopPLogitsWarper(1e-6)),
    ({"min_p": 0.05}, MinPLogitsWarper(0.05)),
    ({"min_p": 1.0}, MinPLogitsWarper(1.0)),
    ({"typical_p": 0.2}, TypicalLogitsWarper(0.2)),
    ({"typical_p": 0.95}, TypicalLogitsWarper(0.95)),
    ({"repetition_penalty": 1.3}, RepetitionPenaltyLogitsProcessor(1.3)),
    ({"repetition_penalty": 0.7}, RepetitionPenaltyLogitsProcessor(0.7)),
]


@pytest.mark.parametrize(("settings", "warper"), ALONE, ids=lambda value: str(value)[:40])
def test_each_stage_equals_transformers(settings: dict[str, Any], warper: Any) -> None:
    for seed in range(20):
        logits = logits_of(seed)
        mine, reference = ours(logits, Sampling(**settings)), theirs(logits, warper)
        assert torch.equal(mine > 0, reference > 0)
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=0)


def test_all_stages_together_equal_transformers_in_its_order() -> None:
    grid = itertools.product((0.6, 1.0, 1.7), (0, 20), (0.8, 1.0), (0.0, 0.02), (0.7, 1.0), (1.0, 1.2))
    for seed, (temperature, top_k, top_p, min_p, typical_p, repetition) in enumerate(grid):
        logits = logits_of(seed)
        chain = [RepetitionPenaltyLogitsProcessor(repetition), TemperatureLogitsWarper(temperature)]
        chain += [TopKLogitsWarper(top_k)] if top_k else []
        chain += [TopPLogitsWarper(top_p)] if top_p < 1 else []
        chain += [MinPLogitsWarper(min_p)] if min_p else []
        chain += [TypicalLogitsWarper(typical_p)] if typical_p < 1 else []
        sampling = Sampling(temperature, top_k, top_p, min_p, typical_p, repetition)
        mine, reference = ours(logits, sampling), theirs(logits, *chain)
        assert torch.equal(mine > 0, reference > 0), sampling
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [500, 5000])
def test_the_short_way_to_a_nucleus_is_the_long_way(size: int) -> None:
    short = long = 0
    for seed in range(60):
        logits = logits_of(seed, size)
        sampling = Sampling(temperature=(0.7, 1.0, 9.0)[seed % 3], top_p=(0.3, 0.9, 0.999)[seed // 3 % 3], min_p=1e-5)
        quick, whole = distribution(logits, sampling), distribution(logits, sampling, stages=[])
        assert torch.equal(quick.ids, whole.ids)
        torch.testing.assert_close(quick.probabilities, whole.probabilities, atol=1e-12, rtol=0)
        found = _nucleus(logits, sampling) is not None
        short, long = short + found, long + (not found)
    assert short > 20 and long > 5


@pytest.mark.parametrize("size", [5, 500, 5000])
def test_the_short_way_to_what_min_p_keeps_is_the_long_way(size: int) -> None:
    for seed in range(60):
        logits = logits_of(seed, size)
        logits[1:][logits_of(seed + 1, size)[1:] < 0] = float("-inf") if seed % 2 else 1.0
        sampling = Sampling(
            temperature=(0.3, 1.0, 9.0)[seed % 3], min_p=(1e-6, 0.05, 1.0)[seed // 3 % 3], typical_p=0.9
        )
        quick, whole = distribution(logits, sampling), distribution(logits, sampling, stages=[])
        assert torch.equal(quick.ids, whole.ids)
        torch.testing.assert_close(quick.probabilities, whole.probabilities, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [5, 500, 5000])
def test_the_short_way_to_a_draw_is_the_long_way(size: int) -> None:
    short = long = 0
    for seed in range(40):
        logits = logits_of(seed, size)
        logits[1:][logits_of(seed + 1, size)[1:] < 0] = float("-inf") if seed % 2 else 1.0
        sampling = Sampling(temperature=(1e-4, 0.7, 1.0, 9.0)[seed % 4])
        for number in (0.0, 0.3, 0.9, 0.99, 0.9999, 1 - 2**-53):
            quick = _drawn_plainly(logits, sampling, number)
            whole, _ = _draw(distribution(logits, sampling), number, None)
            assert quick in (None, whole)
            short, long = short + (quick is not None), long + (quick is None)
    assert short > 100 and (long > 5 or size < 500)


@pytest.mark.skipif(library() is None, reason="there are no native kernels in this build")
@pytest.mark.parametrize("settings", [{}, {"top_k": 40}, {"top_p": 0.9}, {"top_k": 900, "top_p": 0.99}], ids=str)
def test_native_help_draws_the_same(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[int]:
        sampling = Sampling(temperature=1.3, **settings)
        stream = generator(1)
        return [choose(logits_of(seed, 2000), History(), sampling, stream).token for seed in range(100)]

    native = drawn()
    monkeypatch.setattr("paddock.engine.sampler.library", lambda: None)
    assert drawn() == native


def test_equal_logits_at_the_border_of_top_k_all_stay() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0])
    assert (ours(logits, Sampling(top_k=2)) > 0).tolist() == [False, True, True, True, False]


def test_nucleus_keeps_the_token_that_reaches_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert (ours(logits, Sampling(top_p=0.51)) > 0).tolist() == [True, True, False]
    assert (ours(logits, Sampling(top_p=0.49)) > 0).tolist() == [True, False, False]


def test_presence_and_frequency_count_written_tokens_only() -> None:
    logits = torch.zeros(30)
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    scores = adjust(logits, History(PROMPT, WRITTEN), sampling, Constraints())
    expected = torch.zeros(30)
    expected[20], expected[3] = -(0.5 + 3 * 0.25), -(0.5 + 0.25)
    assert torch.equal(scores, expected)


def test_bias_comes_before_the_repetition_penalty() -> None:
    scores = adjust(
        torch.zeros(30), History([4]), Sampling(logit_bias={4: 6.0, 5: -1.5}, repetition_penalty=2.0), Constraints()
    )
    assert scores[4] == 3.0
    assert scores[5] == -1.5
    assert scores.count_nonzero() == 2


def test_draws_follow_the_distribution() -> None:
    logits, count = logits_of(3, 40), 20_000
    sampling = Sampling(temperature=1.5, top_k=12)
    uniform, counts = generator(7), torch.zeros(40)
    for _ in range(count):
        counts[choose(logits, History(), sampling, uniform).token] += 1
    expected = ours(logits, sampling).float() * count
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi_square < 31.26  # 11 degrees of freedom, one in a thousand


def test_one_uniform_number_per_token_and_none_when_greedy() -> None:
    logits = logits_of(1)
    uniform, twin = generator(5), random.Random(5)
    choose(logits, History(), Sampling(temperature=0), uniform)
    choose(logits, History(), Sampling(), uniform)
    twin.random()
    assert uniform.random() == twin.random()


def test_same_seed_same_tokens_other_seed_other_tokens() -> None:
    def tokens(seed: int) -> list[int]:
        uniform = generator(seed)
        return [choose(logits_of(i), History(), Sampling(temperature=2.0), uniform).token for i in range(30)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_the_draw_runs_from_likely_to_unlikely_and_ties_by_id() -> None:
    class Fixed(random.Random):
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    logits = torch.tensor([0.25, 0.25, 0.5]).log()
    for value, token in [(0.0, 2), (0.49, 2), (0.51, 0), (0.74, 0), (0.76, 1), (math.nextafter(1, 0), 1)]:
        assert choose(logits, History(), Sampling(), Fixed(value)).token == token


def test_a_draw_on_a_border_belongs_to_the_upper_side() -> None:
    class Half(random.Random):
        def random(self) -> float:
            return 0.5

    assert choose(torch.zeros(4), History(), Sampling(), Half()).token == 2  # intervals [0, 1/4), [1/4, 1/2), ...


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, 2.0])
    assert choose(logits, History(), Sampling(temperature=0), generator(0)).token == 1


def test_logprobs_are_of_the_raw_distribution() -> None:
    logits = logits_of(9)
    sampling = Sampling(temperature=0.5, top_k=3, logit_bias={0: 50.0}, repetition_penalty=1.5)
    choice = choose(logits, History(PROMPT, WRITTEN), sampling, generator(0), alternatives=5)
    raw = logits.log_softmax(0)
    assert choice.logprob == pytest.approx(float(raw[choice.token]), abs=1e-5)
    values, ids = raw.topk(5)
    assert [id for id, _ in choice.top] == ids.tolist()
    assert [value for _, value in choice.top] == pytest.approx(values.tolist(), abs=1e-5)


def test_a_trace_changes_nothing_and_tells_every_stage() -> None:
    sampling = Sampling(0.8, 30, 0.9, 0.01, 0.95, 1.2, seed=1)
    for seed in range(20):
        logits, history = logits_of(seed), History(PROMPT, WRITTEN)
        plain = choose(logits, history, sampling, generator(seed))
        traced = choose(logits, history, sampling, generator(seed), trace=True)
        trace = traced.trace
        assert trace is not None
        assert plain.token == traced.token == trace.token
        names = [stage.name for stage in trace.stages]
        assert names == ["raw", "penalties", "temperature", "top_k", "top_p", "min_p", "typical_p"]
        survivors = [stage.survivors for stage in trace.stages]
        assert survivors == sorted(survivors, reverse=True)
        assert trace.draw is not None
        assert trace.below <= trace.draw < trace.below + trace.probability + 1e-12
        assert trace.raw == pytest.approx(math.exp(plain.logprob))


def test_a_trace_of_neutral_settings_has_one_stage() -> None:
    trace = choose(logits_of(0), History(), Sampling(), generator(0), trace=True).trace
    assert trace is not None
    assert [stage.name for stage in trace.stages] == ["raw"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_numbers_are_refused(value: float) -> None:
    logits = logits_of(0)
    logits[5] = value
    with pytest.raises(PaddockError, match="not numbers"):
        choose(logits, History(), Sampling(), generator(0))


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_nothing_left_to_choose_is_refused(temperature: float) -> None:
    everything = Constraints(banned=tuple(range(10)))
    with pytest.raises(UsageError, match="forbidden"):
        choose(torch.zeros(10), History(), Sampling(temperature=temperature), generator(0), constraints=everything)


def test_extreme_logits_survive_every_stage() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, float("-inf")])
    for settings in ({"temperature": 1e-4}, {"typical_p": 0.5}, {"top_p": 1e-9}, {"min_p": 1.0}, {"top_k": 4}):
        assert choose(logits, History(), Sampling(**settings), generator(0)).token == 0  # type: ignore[arg-type]
