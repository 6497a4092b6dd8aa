"""The block manager against a model of itself: whatever happens, every block is in one place and nothing shared is
written."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paddock.engine.blocks import BLOCK, BlockManager, Table, blocks_for


class Blocks(RuleBasedStateMachine):
    """Texts over two tokens, so that beginnings are often equal. `content` is what a storage would hold: the tokens a
    block's keys and values were computed from, all that came before included."""

    @initialize(blocks=st.integers(1, 12), granule=st.sampled_from([BLOCK, 2 * BLOCK]))
    def begin(self, blocks: int, granule: int) -> None:
        self.manager = BlockManager(blocks, granule)
        self.content: dict[int, object] = {}
        self.open: list[tuple[Table, list[int], object]] = []
        self.published: Counter[int] = Counter()

    @rule(text=st.lists(st.sampled_from([1, 2]), max_size=5), last=st.integers(0, 20), salt=st.sampled_from(["", "a"]))
    def opens(self, text: list[int], last: int, salt: str) -> None:
        tokens = [token for token in text for _ in range(BLOCK)] + [3] * last
        table = self.manager.open(tokens, len(tokens) - 1, salt)
        shared = table.known * BLOCK
        assert shared <= max(len(tokens) - 1, 0) and shared % self.manager.granule == 0
        assert len(table.blocks) == table.known
        for index, block in enumerate(table.blocks):
            assert self.content[block] == (salt, tuple(tokens[: (index + 1) * BLOCK]))
        self.open.append((table, tokens, salt))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), more=st.integers(0, 6 * BLOCK))
    def grows(self, data: st.DataObject, more: int) -> None:
        table, tokens, salt = data.draw(st.sampled_from(self.open))
        before, room = list(table.blocks), self.manager.available
        wanted = len(table.blocks) * BLOCK + more
        done = self.manager.grow(table, wanted)
        assert done == (blocks_for(more) <= room)
        assert table.blocks[: len(before)] == before
        if not done:
            assert table.blocks == before and self.manager.available == room
        for index, block in enumerate(table.blocks[len(before) :], len(before)):
            assert self.manager.holders[block] == 1
            self.content[block] = (salt, tuple(tokens[: (index + 1) * BLOCK]))  # computed: writes where nobody else is

    @precondition(lambda self: self.open)
    @rule(data=st.data(), part=st.floats(0, 1))
    def publishes(self, data: st.DataObject, part: float) -> None:
        table, tokens, _ = data.draw(st.sampled_from(self.open))
        held = min(len(tokens), len(table.blocks) * BLOCK)
        known = table.known
        self.manager.publish(table, tokens, int(held * part))
        assert known <= table.known <= held // BLOCK

    @precondition(lambda self: self.open)
    @rule(data=st.data(), keep=st.booleans())
    def closes(self, data: st.DataObject, keep: bool) -> None:
        chosen = data.draw(st.sampled_from(range(len(self.open))))
        self.manager.close(self.open.pop(chosen)[0], keep)

    @invariant()
    def every_block_is_in_one_place(self) -> None:
        if not hasattr(self, "manager"):
            return
        manager = self.manager
        held = Counter(block for table, _, _ in self.open for block in table.blocks)
        assert len(manager.holders) <= manager.total
        assert manager.holders == [held[block] for block in range(len(manager.holders))]
        assert manager.free + manager.used + manager.cached == manager.total
        assert manager.used == len(held)
        assert manager.available == manager.total - manager.used
        for table, _, _ in self.open:
            assert len(set(table.blocks)) == len(table.blocks)

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            for table, _, _ in self.open:
                self.manager.close(table)
            assert self.manager.used == 0


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(
    max_examples=200, stateful_step_count=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
class TestBlocksLong(Blocks.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=2000,
        stateful_step_count=80,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def filled(manager: BlockManager, tokens: list[int], salt: str | None = "") -> Table:
    table = manager.open(tokens, len(tokens) - 1, salt)
    assert manager.grow(table, len(tokens))
    manager.publish(table, tokens, len(tokens))
    return table


def test_a_prompt_finds_what_an_equal_beginning_left() -> None:
    manager = BlockManager(10)
    text = list(range(50))
    first = filled(manager, text)
    assert manager.open(text, 49, "").blocks == first.blocks[:3]
    assert manager.open(text[:48], 47, "").blocks == first.blocks[:2]  # the last token is always read
    assert manager.open([0, *text], 50, "").blocks == []
    manager.close(first)
    assert (manager.used, manager.cached, manager.free) == (3, 0, 7)


def test_salts_keep_to_themselves_and_none_shares_nothing() -> None:
    manager = BlockManager(20)
    text = list(range(40))
    for salt in ("a", "b"):
        manager.close(filled(manager, text, salt))
    manager.close(filled(manager, text, None))
    assert manager.cached == 4
    assert manager.open(text, 39, "").blocks == manager.open(text, 39, None).blocks == []
    assert manager.open(text, 39, "a").blocks != manager.open(text, 39, "b").blocks


def test_the_longest_unused_goes_first_and_a_beginning_outlives_its_ends() -> None:
    manager = BlockManager(6)
    old, new = [1] * 32, [2] * 32
    for text in (old, new, old):  # old is used again
        manager.close(filled(manager, text))
    big = manager.open([9] * 64, 63, None)
    assert manager.grow(big, 64)
    assert len(manager.open([*old, 0], 32, "").blocks) == 2
    manager.close(big)
    table = manager.open([9] * 96, 95, None)
    manager.grow(table, 48)
    assert len(manager.open([*new, 0], 32, "").blocks) == 0


def test_half_a_granule_is_not_found() -> None:
    manager = BlockManager(4, 2 * BLOCK)
    text = list(range(64))
    manager.close(filled(manager, text))
    manager.grow(manager.open([], 0, None), 1)  # takes the last of the four
    assert len(manager.open([*text, 0], 64, "").blocks) == 2


def test_what_failed_is_not_kept() -> None:
    manager = BlockManager(8)
    text = [5] * 48
    manager.close(filled(manager, text), keep=False)
    assert (manager.free, manager.cached) == (8, 0)
    shared = filled(manager, text)
    other = filled(manager, text)
    manager.close(other, keep=False)
    assert len(manager.open([*text, 1], 48, "").blocks) == 3  # somebody else still holds them
    manager.close(shared)


@pytest.mark.parametrize("wrong", [(0, 16), (5, 10), (5, 0)])
def test_senseless_sizes(wrong: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        BlockManager(*wrong)
