"""Blocks of the key-value cache: who holds which, and which keep the beginning of a prompt for the next request.

    sequence A    table  [0, 1, 4]        block 0 and 1: the same prompt, held twice
    sequence B    table  [0, 1, 2]
    nobody        cached {3: ...}         kept for whoever begins like that; the longest unused goes first
                  free   [5, 6, ...]      free + used + cached = all

Only full blocks are ever shared, after they were computed, so a shared block is never written. Blocks of what the model
wrote are shared only on request: a token read as part of a prompt and one decoded may differ in their last bit, and a
cache must not change an answer. A block is found by the block before it and its own tokens, compared in full (no hash
that could be guessed or collide); the first block's predecessor is a salt, so that requests may keep to themselves.

No tensors here: the numbers mean places in whatever storage the runner has.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Sequence

BLOCK = 16  # tokens


def blocks_for(tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // BLOCK)


class Table:
    """The blocks of one sequence, in order. The first `known` of them can be found by others; `tip` is how the next
    block is known: its predecessor, or the salt; None where nothing is shared."""

    __slots__ = ("blocks", "known", "tip")

    def __init__(self, tip: Hashable | None) -> None:
        self.blocks: list[int] = []
        self.known = 0
        self.tip = tip


class BlockManager:
    """`blocks` in all. Beginnings are shared in multiples of `granule` tokens, itself one of BLOCK."""

    def __init__(self, blocks: int, granule: int = BLOCK) -> None:
        assert blocks > 0 and granule > 0 and granule % BLOCK == 0, f"{blocks} blocks, shared by {granule} tokens"
        self.total, self.granule = blocks, granule
        self.holders: list[int] = []  # of each block that was ever used: they are taken in order
        self._free: list[int] = []  # a heap of those given back: low numbers first keeps a sequence's blocks in a row
        self._cached: OrderedDict[int, None] = OrderedDict()  # known and held by nobody, longest unused first
        self._known: dict[Hashable, tuple[int, int]] = {}  # (predecessor, tokens) -> block, its name as predecessor
        self._keys: dict[int, Hashable] = {}  # block -> its key in _known
        self._named = 0

    @property
    def free(self) -> int:
        return self.total - len(self.holders) + len(self._free)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def used(self) -> int:
        return len(self.holders) - len(self._free) - len(self._cached)

    @property
    def available(self) -> int:
        """Blocks that can be had: free ones, and those kept in case somebody begins alike."""
        return self.free + len(self._cached)

    def open(self, tokens: Sequence[int], most: int, salt: Hashable | None) -> Table:
        """A table that begins with what is known of `tokens`, at most the first `most` of them.

        Only requests of equal `salt` share; None shares nothing.
        """
        table = Table(None if salt is None else ("salt", salt))
        if salt is None:
            return table
        found: list[tuple[int, Hashable]] = []
        tip: Hashable = table.tip
        for start in range(0, min(most, len(tokens)) - BLOCK + 1, BLOCK):
            known = self._known.get((tip, tuple(tokens[start : start + BLOCK])))
            if known is None:
                break
            block, tip = known
            found.append((block, tip))
        whole = len(found) * BLOCK // self.granule * self.granule // BLOCK
        for block, tip in found[:whole]:
            self._hold(block)
            table.blocks.append(block)
            table.tip = tip
        table.known = whole
        return table

    def grow(self, table: Table, tokens: int) -> bool:
        """Gives the table room for `tokens` in all, or changes nothing and says no."""
        lacking = blocks_for(tokens) - len(table.blocks)
        if lacking <= 0:
            return True
        if lacking > self.available:
            return False
        for _ in range(lacking):
            table.blocks.append(self._take())
        return True

    def publish(self, table: Table, tokens: Sequence[int], computed: int) -> None:
        """Lets others find the first `computed` of `tokens`, whose keys and values are in the table."""
        if table.tip is None:
            return
        for index in range(table.known, computed // self.granule * self.granule // BLOCK):
            key = (table.tip, tuple(tokens[index * BLOCK : (index + 1) * BLOCK]))
            known = self._known.get(key)
            if known is None:
                self._named += 1
                known = self._known[key] = (table.blocks[index], self._named)
                self._keys[known[0]] = key
            elif known[0] in self._cached:  # an equal block stays the known one; it was wanted just now
                self._cached.move_to_end(known[0])
            table.tip = known[1]
            table.known = index + 1

    def close(self, table: Table, keep: bool = True) -> None:
        """Takes the blocks back. What others may find stays known until room is needed, unless not to be kept."""
        for block in reversed(table.blocks):  # a block is then never forgotten before those that follow it
            self.holders[block] -= 1
            if self.holders[block]:
                continue
            if not keep:
                self._unlist(block)
            if block in self._keys:
                self._cached[block] = None
            else:
                heapq.heappush(self._free, block)
        table.blocks, table.known, table.tip = [], 0, None

    def clear(self) -> None:
        """Forgets every beginning: as of now nobody finds anything, and what runs goes on."""
        while self._cached:
            heapq.heappush(self._free, self._evict())
        for block in tuple(self._keys):
            self._unlist(block)

    def _take(self) -> int:
        if self._free:
            block = heapq.heappop(self._free)
        elif len(self.holders) < self.total:
            block = len(self.holders)
            self.holders.append(0)
        else:
            block = self._evict()
        self.holders[block] = 1
        return block

    def _hold(self, block: int) -> None:
        if not self.holders[block]:
            del self._cached[block]
        self.holders[block] += 1

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        self._unlist(block)
        return block

    def _unlist(self, block: int) -> None:
        key = self._keys.pop(block, None)
        if key is not None:
            del self._known[key]
