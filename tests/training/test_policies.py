"""Steps that went wrong: judged by what came before, and never otherwise than by that."""

from __future__ import annotations

import json
import math
import random

import pytest

from paddock.errors import DivergedError
from paddock.training.policies import BACK, HISTORY, MOST_ROLLBACKS, Rollback, Step, Verdict, Watch, ranges
from paddock.training.recipe import Training


def watch(**policies: str) -> Watch:
    return Watch(Training(steps=1000, **policies))  # type: ignore[arg-type]


def calm(watch: Watch, steps: int = HISTORY, start: int = 0) -> int:
    """That many ordinary steps: losses of 2 +- 0.05, norms about 1."""
    drawn = random.Random(start)
    for number in range(start, start + steps):
        assert watch.judge(Step(number, drawn.gauss(2.0, 0.05), drawn.uniform(0.8, 1.2), "")).update
    return start + steps


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_stop_names_the_step_and_the_samples(loss: float, norm: float) -> None:
    judge = watch()
    with pytest.raises(DivergedError, match=r"at step 8 \(samples 56-63\); the weights are as they were") as caught:
        judge.judge(Step(7, loss, norm, "56-63"))
    assert caught.value.exit_code == 1
    assert ("loss" in caught.value.what) == (not math.isfinite(loss))


def test_skip_lets_three_in_a_row_pass() -> None:
    judge = watch(on_nonfinite="skip")
    for number in range(3):
        verdict = judge.judge(Step(number, math.nan, 1.0, "0-7"))
        assert not verdict.update and verdict.events[0].kind == "nonfinite"
    with pytest.raises(DivergedError, match="the 3 steps before it were skipped"):
        judge.judge(Step(3, math.nan, 1.0, "0-7"))


def test_a_good_step_between_begins_the_count_anew() -> None:
    judge = watch(on_nonfinite="skip")
    for number in range(12):
        judge.judge(Step(number, 2.0 if number % 4 == 3 else math.nan, 1.0, ""))
    assert list(judge.losses) == [2.0, 2.0, 2.0]  # what is no number is in no mean


@pytest.mark.parametrize(
    ("loss", "norm", "flagged"), [(2.5, 1.0, True), (2.2, 1.0, False), (2.0, 11.0, True), (2.0, 9.0, False)]
)
def test_spikes_are_flagged_at_once(loss: float, norm: float, flagged: bool) -> None:
    judge = watch()
    verdict = judge.judge(Step(calm(judge), loss, norm, "8-15"))
    assert verdict.update and [event.kind for event in verdict.events] == (["spike"] if flagged else [])


def test_nothing_is_a_spike_before_there_is_a_history() -> None:
    judge = watch()
    assert judge.judge(Step(calm(judge, HISTORY - 1), 50.0, 50.0, "")) == Verdict(True)


def test_losses_that_hardly_differ_have_no_spikes_of_nothing() -> None:
    judge = watch()
    for number in range(HISTORY):
        judge.judge(Step(number, 2.0 + 1e-7 * (number % 2), 1.0, ""))
    assert judge.judge(Step(HISTORY, 2.0001, 1.0, "")).events == ()
    assert judge.judge(Step(HISTORY, 2.03, 1.0, "")).events != ()


def test_skipped_spikes_are_not_remembered_and_end_the_run_when_they_stay() -> None:
    judge = watch(on_spike="skip")
    number = calm(judge)
    before = judge.state()
    for more in range(3):
        assert not judge.judge(Step(number + more, 9.0, 1.0, "")).update
    assert {**judge.state(), "in_a_row": 0} == before
    with pytest.raises(DivergedError, match="diverged"):
        judge.judge(Step(number + 3, 9.0, 1.0, ""))


def test_rollback_says_where_to_and_passes_over_what_was_read() -> None:
    judge = watch(on_spike="rollback")
    number = calm(judge, 200)
    with pytest.raises(Rollback) as caught:
        judge.judge(Step(number, 9.0, 1.0, ""))
    assert (caught.value.step, caught.value.batch, caught.value.newest) == (200, 200, 200 - BACK)
    judge.pass_over(90, caught.value.batch)
    assert [judge.batch(step) for step in (0, 89, 90, 91)] == [0, 89, 201, 202]
    judge.pass_over(95, judge.batch(100))  # and once more, later: what was passed over stays so
    assert [judge.batch(step) for step in (89, 94, 95)] == [89, 205, 212]


def test_rollbacks_come_to_an_end() -> None:
    judge = watch(on_spike="rollback")
    for number in range(MOST_ROLLBACKS):
        judge.pass_over(number, 1000 * (number + 1))
    with pytest.raises(DivergedError, match="rolled back 10 times"):
        judge.pass_over(50, 10**6)


def test_the_state_is_plain_and_judges_alike_when_restored() -> None:
    judge, other = watch(on_spike="skip"), watch(on_spike="skip")
    number = calm(judge, 150)
    judge.judge(Step(number, 9.0, 1.0, ""))
    judge.pass_over(20, 40)
    other.restore(json.loads(json.dumps(judge.state())))
    assert other.state() == judge.state()
    for loss in (2.1, 9.0, 2.0, 2.4):
        assert other.judge(Step(number, loss, 1.0, "")) == judge.judge(Step(number, loss, 1.0, ""))


def test_ranges_are_short() -> None:
    assert ranges([]) == ""
    assert ranges([9, 7, 8, 3]) == "3, 7-9"
    assert ranges(list(range(10**4))) == "0-9999"
