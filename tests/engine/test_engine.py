"""The engine over a runner without a model: who gets what, when blocks come back, and what a failure reaches."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fake_runner import VOCABULARY, FakeRunner, written
from torch import Tensor

from paddock.engine.engine import AHEAD, Engine
from paddock.engine.generate import Generation
from paddock.engine.request import Request
from paddock.engine.runner import Rows
from paddock.engine.sampling import Sampling
from paddock.engine.speculative import Lookup
from paddock.errors import PaddockError, ResourceError, UsageError
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, RMSNorm

GREEDY = Sampling(temperature=0)
BLOCKS = Block(Attention(1, 1, 4), FeedForward(8, "silu", True), RMSNorm(1e-5))
ARCHITECTURE = Architecture("fake", VOCABULARY, 4, 1, BLOCKS, context=4096, head=Head(True))


def engine(blocks: int = 200, **options: Any) -> tuple[Engine, FakeRunner]:
    runner = FakeRunner(blocks, options.pop("chunk", None))
    return Engine(runner, ARCHITECTURE, **options), runner


def asked(one: Engine, prompt: Sequence[int], new: int = 20, **settings: Any) -> Generation:
    return Generation(one, Request(tuple(prompt), new, GREEDY, **settings))


def test_many_read_together_get_what_each_gets_alone() -> None:
    one, runner = engine(sequences=8)
    prompts = [[i, *range(i)] for i in range(16)]
    running = [asked(one, prompt) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    for _ in range(20):
        for answer, generation in zip(answers, running, strict=True):
            answer.append(next(generation).token)
    assert answers == [written(prompt, 20) for prompt in prompts]
    assert all(next(generation, None) is None for generation in running)
    assert max(len(batch) for batch in runner.batches) == 8
    stats = one.stats
    assert (stats.running, stats.waiting, stats.used) == (0, 0, 0)
    assert stats.free + stats.cached == stats.blocks == 200


def test_nothing_runs_when_nobody_asks() -> None:
    one, runner = engine()
    first, second = asked(one, [1, 2]), asked(one, [3])
    assert runner.batches == []
    next(first)
    assert len(runner.batches) == 1 and len(runner.batches[0]) == 1
    next(second)
    assert len(runner.batches[-1]) == 2  # the first writes on beside it


def test_who_takes_nothing_pauses() -> None:
    one, runner = engine()
    idle, busy = asked(one, [1, 2], 100), asked(one, [3], 100)
    next(idle)
    assert list(busy.completion().ids) == written([3], 100)
    sizes = [len(batch) for batch in runner.batches]
    assert sizes[1 : AHEAD + 1] == [2] * AHEAD and sizes[AHEAD + 1 :] == [1] * (100 - AHEAD)
    assert list(idle.completion().ids) == written([1, 2], 100)


@pytest.mark.parametrize("how", ["close", "drop", "cancel"])
def test_what_is_broken_off_frees_its_blocks_within_a_step(how: str) -> None:
    one, runner = engine(prefix_cache=False)
    other = asked(one, [5] * 50, 100)
    next(other)
    alone = one.stats.used
    for prompt in ([1] * 100, [2] * 1000):  # writing, and reading its prompt in pieces
        gone = asked(one, prompt, 100)
        if len(prompt) == 100:
            next(gone)
        else:
            gone._begun = True
            one.submit(gone._task)
            one.step()
        assert one.stats.used > alone
        if how == "close":
            gone.close()
            assert list(gone) == []
            with pytest.raises(PaddockError, match="broken off"):
                gone.completion()
        elif how == "cancel":
            one.drop(gone._task)
            one.step()
        del gone
        gc.collect()
        assert one.stats.used <= alone + 1  # the other may have begun another block
        alone = one.stats.used
    assert list(other.completion().ids) == written([5] * 50, 100)
    assert one.stats.used == 0 and len(runner.forgotten) == 3


def test_one_that_was_never_begun_is_no_burden() -> None:
    one, _ = engine()
    asked(one, [1])
    late = asked(one, [1])
    late.close()
    assert next(late, None) is None
    assert list(asked(one, [2], 3).completion().ids) == written([2], 3)
    assert one.stats.waiting == one.stats.used == 0


def test_a_runner_that_fails_fails_its_batch_and_nobody_else() -> None:
    one, runner = engine(prefix_cache=True)
    batch = [asked(one, [i] * 40) for i in range(3)]
    for generation in batch:
        next(generation)
    runner.fails = RuntimeError("the kernel crashed")
    late = asked(one, [7] * 40)
    errors = []
    for generation in [*batch, *batch]:
        with pytest.raises(RuntimeError, match="kernel crashed") as caught:
            generation.completion()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3
    stats = one.stats
    assert (stats.used, stats.cached, stats.running) == (0, 0, 0)  # what they had computed is not trusted either
    assert list(late.completion().ids) == written([7] * 40, 20)


def test_logits_that_are_not_numbers_fail_their_own_request() -> None:
    one, runner = engine()
    text = written([3], 20)
    poison = next(token for token in text[2:] if token not in written([4], 20) and token not in (3, 4))
    runner.poisoned = {poison}
    bad, good = asked(one, [3]), asked(one, [4])
    next(good)
    with pytest.raises(PaddockError, match="not numbers"):
        bad.completion()
    with pytest.raises(PaddockError, match="not numbers"):
        next(bad)
    assert [event.token for event in bad.events] == text[: text.index(poison) + 1]
    assert list(good.completion().ids) == written([4], 20)
    assert one.stats.used == 0


class Interrupted(FakeRunner):
    """Ctrl-C comes while it computes, after some of it was written."""

    def run(self, batch: Sequence[Rows]) -> Tensor:
        fails, self.fails = self.fails, None
        logits = super().run(batch)
        if fails is not None:
            raise fails
        return logits


def test_ctrl_c_in_the_runner_loses_nothing() -> None:
    runner = Interrupted(200)
    one = Engine(runner, ARCHITECTURE)
    running = [asked(one, [i] * 30) for i in range(4)]
    for generation in running:
        next(generation)
    for _ in range(3):
        runner.fails = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            running[0].completion()
    for i, generation in enumerate(running):
        assert list(generation.completion().ids) == written([i] * 30, 20)
    assert one.stats.used == 0


def test_ctrl_c_while_choosing_breaks_off_that_answer_only() -> None:
    one, _ = engine()
    running = [asked(one, [i] * 30) for i in range(4)]
    for generation in running:
        next(generation)
    task = running[1]._task
    take = task.answer.take
    calls = []

    def interrupted(logits: Tensor) -> Any:
        take(logits)
        calls.append(logits)
        raise KeyboardInterrupt

    task.answer.take = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        for generation in running:
            list(generation)
    assert len(calls) == 1
    for i, generation in enumerate(running):
        if i == 1:
            with pytest.raises(PaddockError, match="broken off"):
                generation.completion()
        else:
            assert list(generation.completion().ids) == written([i] * 30, 20)
    assert one.stats.used == 0


def test_a_small_cache_gives_the_same_text() -> None:
    one, _ = engine(blocks=9, sequences=6)
    prompts = [[i] * (10 + 9 * i) for i in range(6)]
    running = [asked(one, prompt, 60) for prompt in prompts]
    for _ in range(60):
        for generation in running:
            next(generation)
    assert [list(g.completion().ids) for g in running] == [written(prompt, 60) for prompt in prompts]
    assert one.stats.preemptions > 0
    with pytest.raises(ResourceError, match="GB"):
        asked(one, [1] * 100, 45)


def test_many_threads_share_the_steps() -> None:
    one, runner = engine(blocks=60, sequences=8)
    found: dict[int, list[int]] = {}
    failed: list[BaseException] = []
    rounds = 3

    def work(i: int) -> None:
        try:
            for again in range(rounds):
                generation = asked(one, [i, again, *range(i)], 40)
                if (i + again) % 5 == 0:
                    for _ in range(i % 7):
                        next(generation)
                    generation.close()
                else:
                    found[i, again] = list(generation.completion().ids)  # type: ignore[index]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)
    for (i, again), ids in found.items():  # type: ignore[misc]
        assert ids == written([i, again, *range(i)], 40)
    assert len(found) > 50 and one.stats.used == 0
    assert max(len(batch) for batch in runner.batches) > 1


def test_what_the_cache_knew_is_told() -> None:
    one, _ = engine()
    text = [i % VOCABULARY for i in range(100)]
    assert asked(one, text, 5).completion().cached_tokens == 0
    again = asked(one, text, 5).completion()
    assert (again.cached_tokens, list(again.ids)) == (96, written(text, 5))
    assert asked(one, text, 5, salt="mine").completion().cached_tokens == 0
    assert asked(one, text, 5, salt="mine").completion().cached_tokens == 96
    assert asked(one, text, 5, salt=None).completion().cached_tokens == 0
    assert one.stats.reused == 192
    one.clear()
    assert one.stats.cached == 0
    assert asked(one, text, 5).completion().cached_tokens == 0
    cold, _ = engine(prefix_cache=False)
    for _ in range(2):
        assert asked(cold, text, 5).completion().cached_tokens == 0
    assert cold.stats.cached == 0


def test_priorities_are_heeded_and_bounded() -> None:
    one, _ = engine(sequences=1)
    first = asked(one, [1], 5)
    next(first)
    order = []
    others = [asked(one, [2 + i], 2, priority=priority) for i, priority in enumerate((0, -1, 3))]
    for generation in others:
        generation._begun = True
        one.submit(generation._task)
    while one.step():
        order += [i for i, g in enumerate(others) if g._task.ended and i not in order]
    assert order == [2, 0, 1]
    with pytest.raises(UsageError, match="priority"):
        asked(one, [1], priority=101)


def test_guesses_change_the_steps_not_the_text() -> None:
    class Periodic(FakeRunner):
        def row(self, rows: Rows, stop: int) -> Tensor:
            logits = torch.zeros(VOCABULARY)
            logits[(stop % 7) + 1] = 9.0
            return logits

    runner = Periodic(200)
    one = Engine(runner, ARCHITECTURE)
    plain = asked(one, [0], 80).completion()
    steps = one.stats.steps
    completion = Generation(one, Request((0,), 80, GREEDY), None, Lookup(5)).completion()
    assert completion.ids == plain.ids
    assert completion.accepted_tokens > 50 and completion.proposed_tokens >= completion.accepted_tokens
    assert one.stats.steps - steps < steps / 3
    assert (one.stats.proposed, one.stats.accepted) == (completion.proposed_tokens, completion.accepted_tokens)


def test_a_guesser_that_fails_fails_its_request_only() -> None:
    class Broken(Lookup):
        def propose(self, key: int, tokens: Sequence[int], most: int) -> list[int]:
            raise ResourceError("no room for the draft model")

    one, _ = engine()
    other = asked(one, [1])
    bad = Generation(one, Request((2,), 20, GREEDY), None, Broken(3))
    next(other)
    with pytest.raises(ResourceError, match="draft"):
        bad.completion()
    assert list(other.completion().ids) == written([1], 20)


def test_a_request_that_cannot_be_read_is_refused_before_it_begins() -> None:
    one, runner = engine()
    with pytest.raises(UsageError, match="stop strings"):
        asked(one, [1], stop=("x",))
    assert runner.batches == []
