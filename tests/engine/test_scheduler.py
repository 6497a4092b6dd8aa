"""The scheduler under random loads: everybody finishes with what they would have got alone, at every size of cache."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fake_runner import FakeRunner, following, written
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.engine.blocks import BLOCK, BlockManager
from paddock.engine.runner import Rows
from paddock.engine.scheduler import AGE, Scheduler, Sequence, Slice
from paddock.errors import ResourceError, UsageError


class Load:
    """A scheduler and a fake runner, stepped by hand."""

    def __init__(self, blocks: int, **options: Any) -> None:
        chunk = options.get("chunk")
        self.scheduler = Scheduler(BlockManager(blocks, chunk or BLOCK), **options)
        self.runner = FakeRunner(blocks, chunk)
        self.done: dict[int, Sequence] = {}
        self.alive: dict[int, Sequence] = {}
        self.order: list[int] = []
        self.serial = 0

    def add(self, prompt: list[int], new: int, priority: int = 0, salt: str | None = "", source: int = 0) -> Sequence:
        self.serial += 1
        sequence = Sequence(self.serial, prompt, len(prompt) + new - 1, salt, source)
        self.scheduler.submit(sequence, priority)
        self.alive[sequence.key] = sequence
        return sequence

    def rows(self, part: Slice) -> Rows:
        s = part.sequence
        assert s.table is not None
        stop = s.computed + part.size
        ids = [*s.tokens[s.computed : stop], *s.proposed[: part.proposed]]
        logits = 1 + part.proposed if stop == len(s.tokens) else 0
        return Rows(s.key, ids, s.computed, tuple(s.table.blocks), s.prompt, logits, s.limit)

    def step(self) -> list[Slice]:
        scheduler = self.scheduler
        parts = scheduler.plan()
        batch = [self.rows(part) for part in parts]
        self.check(parts, batch)
        logits = self.runner.run(batch).argmax(1).tolist()
        for part, rows in zip(parts, batch, strict=True):
            own, logits = logits[: rows.logits], logits[rows.logits :]
            self.take(part, own)
        return parts

    def take(self, part: Slice, chosen: list[int]) -> None:
        s = part.sequence
        if not chosen:
            self.scheduler.commit(s, part.size)
            return
        right = 0
        while right < part.proposed and s.proposed[right] == chosen[right]:
            right += 1
        s.proposed = ()
        s.tokens += chosen[: right + 1]
        self.scheduler.commit(s, part.size + right)
        if len(s.tokens) > s.limit:
            del s.tokens[s.limit + 1 :]
            self.scheduler.remove(s)
            self.done[s.key] = self.alive.pop(s.key)
            self.order.append(s.key)

    def check(self, parts: list[Slice], batch: list[Rows]) -> None:
        scheduler, blocks = self.scheduler, self.scheduler.blocks
        assert blocks.free + blocks.used + blocks.cached == blocks.total
        held = Counter(block for s in scheduler.running for block in s.table.blocks)
        assert blocks.holders == [held[block] for block in range(len(blocks.holders))]
        assert len(scheduler.running) <= scheduler.most
        assert scheduler.source_used == sum(s.source for s in scheduler.running) <= scheduler.source_blocks
        assert len({part.sequence.key for part in parts}) == len(parts)
        assert all(part.sequence in scheduler.running and part.size > 0 for part in parts)
        assert scheduler.waiting == sorted(scheduler.waiting, key=lambda s: s.rank)
        where = Counter([*scheduler.running, *scheduler.waiting, *scheduler.parked])
        assert where == Counter(self.alive.values())
        for rows in batch:
            first, last = rows.start // BLOCK, (rows.start + len(rows.ids) - 1) // BLOCK
            assert all(blocks.holders[rows.table[index]] == 1 for index in range(first, last + 1)), "a shared write"
        asleep = all(s.paused for s in self.alive.values())
        assert parts or asleep, "nothing to do, and not done"

    def run(self, most: int = 5000) -> None:
        for _ in range(most):
            if not self.alive:
                return
            self.step()
        raise AssertionError("not done")


PROMPTS = st.lists(st.sampled_from([1, 2]), min_size=1, max_size=6)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_every_load_finishes_with_what_each_gets_alone(data: st.DataObject) -> None:
    chunk = data.draw(st.sampled_from([None, None, 32]))
    cut = data.draw(st.booleans()) or chunk is not None
    most = data.draw(st.integers(1, 6))
    budget = data.draw(st.integers(most + 1, 80))
    sources = data.draw(st.sampled_from([0, 0, 5]))
    load = Load(
        data.draw(st.integers(6, 30)),
        source_blocks=sources,
        budget=budget,
        most=most,
        cut=cut,
        chunk=chunk,
        share_written=data.draw(st.booleans()),
    )
    expected = {}
    for _ in range(data.draw(st.integers(1, 10))):
        for _ in range(data.draw(st.integers(0, 12))):
            guess(load, data)
            load.step() if load.alive and not all(s.paused for s in load.alive.values()) else None
        prompt = [t for t in data.draw(PROMPTS) for _ in range(data.draw(st.sampled_from([3, 8, 16])))]
        new = data.draw(st.integers(1, 6 * BLOCK - len(prompt) + 1)) if len(prompt) < 6 * BLOCK else 1
        salt, source = data.draw(st.sampled_from(["", "a", None])), data.draw(st.integers(0, sources))
        s = load.add(prompt, new, data.draw(st.integers(-3, 3)), salt, source)
        expected[s.key] = (prompt, new)
        some = data.draw(st.sampled_from(sorted(load.alive)))
        match data.draw(st.sampled_from(["nothing", "cancel", "pause", "resume"])):
            case "cancel":
                load.scheduler.remove(load.alive.pop(some))
                expected.pop(some)
            case "pause" if load.alive[some] in load.scheduler.running:
                load.alive[some].paused = True
            case "resume":
                load.scheduler.resume(load.alive[some])
    for s in list(load.alive.values()):
        load.scheduler.resume(s)
    load.run()
    assert {key: s.tokens for key, s in load.done.items()} == {
        key: [*prompt, *written(prompt, new)] for key, (prompt, new) in expected.items()
    }
    assert load.scheduler.blocks.used == load.scheduler.source_used == 0


def guess(load: Load, data: st.DataObject) -> None:
    """Some who write are given guesses, right up to a point."""
    for s in load.alive.values():
        room = s.limit - len(s.tokens)
        if s.wanted == 1 and room > 0 and data.draw(st.booleans()):
            right = written(s.tokens, min(3, room))
            s.proposed = right[: data.draw(st.integers(0, 3))] + [0] * min(1, room - len(right))


def test_a_cache_for_one_serves_many() -> None:
    load = Load(5, budget=40, most=8)
    for i in range(8):
        load.add([i] * 20, 40)
    load.run()
    assert load.scheduler.preemptions > 0
    assert all(s.tokens[20:] == written([key - 1] * 20, 40) for key, s in load.done.items())


def test_sources_wait_for_room_and_leave_it_at_once() -> None:
    load = Load(400, most=8, source_blocks=10)
    first, second, third, small = (load.add([i], 5, source=size) for i, size in enumerate((6, 4, 7, 1)))
    load.step()
    assert load.scheduler.running == [first, second], "the third waits, and nobody goes past it"
    load.scheduler.remove(load.alive.pop(first.key))
    load.step()
    assert load.scheduler.running == [second], "4 of 10 are held, and it needs 7"
    load.scheduler.remove(load.alive.pop(second.key))
    load.step()
    assert load.scheduler.running == [third, small] and load.scheduler.source_used == 8
    load.run()
    with pytest.raises(ResourceError, match="11 blocks") as refused:
        load.add([1], 5, source=11)
    assert refused.value.expected == "at most 10"


def test_a_source_nobody_asks_for_gives_way() -> None:
    load = Load(400, most=8, source_blocks=10)
    paused = load.add([1], 30, source=6)
    load.step()
    paused.paused = True
    other = load.add([2], 3, source=5)
    while other.key in load.alive:
        load.step()
    assert paused in load.scheduler.parked and paused.key in load.scheduler.evicted
    load.scheduler.resume(paused)
    load.run()
    assert load.done[paused.key].tokens[1:] == written([1], 30)


def test_a_long_prompt_does_not_hold_up_short_ones() -> None:
    load = Load(400, budget=64, most=8)
    long = load.add([1] * 3000, 2)
    load.step()
    for i in range(4):
        load.add([5 + i] * 20, 2)
    for _ in range(8):
        load.step()
    assert len(load.done) == 4 and long.key in load.alive
    load.run()


def test_a_step_keeps_to_its_budget_and_uses_it() -> None:
    load = Load(400, budget=64, most=16)
    for i in range(12):
        load.add([i] * (10 + 37 * i), 20)
    sizes = []
    while load.alive:
        sizes.append(sum(part.size for part in load.step()))
        assert sizes[-1] <= 64
    assert sizes[:20] == [64] * 20


def test_priority_goes_first_and_waiting_counts_in_time() -> None:
    load = Load(100, budget=32, most=1)
    low = load.add([1] * 8, 2, priority=-1)
    high = load.add([2] * 8, 2, priority=2)
    middle = [load.add([3 + i] * 8, 2) for i in range(2)]
    load.run()
    assert load.order == [high.key, *(s.key for s in middle), low.key]
    load.scheduler.clock += AGE * 3
    low = load.add([1] * 8, 2, priority=-1)
    load.scheduler.clock += AGE * 3 + 1
    late = load.add([2] * 8, 2, priority=2)
    load.run()
    assert load.order[-2:] == [low.key, late.key]


def test_nobody_starves_behind_a_stream_of_the_important() -> None:
    load = Load(100, budget=32, most=2)
    for i in range(2):
        load.add([2, i], 8)
    low = load.add([1] * 8, 2, priority=-3)
    for i in range(4 * AGE):
        if len(load.alive) < 6:
            load.add([2, i % 50], 8)
        load.step()
    assert 3 * AGE / 4 < load.order.index(low.key) < 3 * AGE  # a step gives 2 tokens, a request takes 8


def test_prompts_are_cut_only_where_they_may_be() -> None:
    load = Load(100, budget=70, most=8, chunk=32)
    for i in range(5):
        load.add([i] * (30 + 33 * i), 5)
    while load.alive:
        load.step()
        for rows in load.runner.batches[-1]:
            stop = rows.start + len(rows.ids)
            assert stop >= rows.prompt or stop % 32 == 0
    whole = Load(100, budget=70, most=8, cut=False)
    for i in range(5):
        whole.add([i] * (30 + 33 * i), 5)
    whole.run()
    assert {len(rows.ids) for batch in whole.runner.batches for rows in batch if rows.start == 0} == {
        30, 63, 96, 129, 162,
    }  # fmt: skip


def test_the_second_of_two_equal_prompts_reads_only_its_end() -> None:
    load = Load(100)
    text = [following([i]) for i in range(100)]
    load.add(text, 3)
    load.run()
    again = load.add(text, 3)
    load.run()
    assert again.reused == load.scheduler.reused == 96
    alone = load.add(text, 3, salt=None)
    load.run()
    assert alone.reused == 0


@pytest.mark.parametrize("share_written", [False, True])
def test_written_tokens_are_shared_on_request(share_written: bool) -> None:
    load = Load(100, share_written=share_written)
    first = load.add([1] * 20, 61)
    load.run()
    second = load.add([*first.tokens, 7, 8], 2)
    load.run()
    assert second.reused == (80 if share_written else 16)
    assert second.tokens[-2:] == written([*first.tokens, 7, 8], 2)


def test_what_is_paused_gives_way() -> None:
    load = Load(4, budget=40, most=1)
    first = load.add([1] * 20, 40)
    load.step()
    first.paused = True
    second = load.add([2] * 20, 40)
    while second.key in load.alive:
        load.step()
    assert first in load.scheduler.parked
    load.scheduler.resume(first)
    load.run()
    assert first.tokens[20:] == written([1] * 20, 40)


def test_what_can_never_fit_is_refused_at_once() -> None:
    load = Load(4)
    with pytest.raises(ResourceError, match="65 tokens"):
        load.add([1] * 60, 6)
    load.add([1] * 60, 5)
    load.run()
    with pytest.raises(UsageError, match="tokens of a step"):
        Load(4, budget=8, most=8)


def test_a_reset_begins_everything_again() -> None:
    load = Load(40, budget=24, most=2)
    prompts = [[i] * (10 + 5 * i) for i in range(5)]
    sequences = [load.add(prompt, 20) for prompt in prompts]
    for _ in range(12):
        load.step()
    load.scheduler.reset(BlockManager(40), load.alive.values())
    load.run()
    assert [s.tokens[len(p) :] for s, p in zip(sequences, prompts, strict=True)] == [written(p, 20) for p in prompts]


def test_equal_prompts_end_one_after_another() -> None:
    load = Load(400, budget=128, most=16)
    sequences = [load.add([i] * 64, 40) for i in range(8)]
    begun = []
    while len(begun) < 8:
        load.step()
        begun += [s.key for s in sequences if len(s.tokens) > s.prompt and s.key not in begun]
        if len(begun) in range(1, 8):
            assert begun == sorted(begun)
    assert load.scheduler.clock <= 8
    load.run()
