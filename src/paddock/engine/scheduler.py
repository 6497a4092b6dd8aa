"""Which tokens of which sequences the next step reads.

There is no prompt phase and no decode phase: every sequence has tokens, some of them computed, and wants the rest. A
step has a budget of tokens. Sequences that want one token (they are writing) come first, all of them; those that read
share what is left, so that a long prompt does not hold up a short one.

    waiting ──admit──> running ──finish──> gone        waiting is ordered by rank: arrival, less priority
       ^                  │
       └────preempt───────┘  no block left: the last in rank gives its own back and reads everything again later

Rank never changes, and everybody who comes later ranks lower in time: nobody starves. The first in rank can always
have the blocks of all others, and one that could not run alone is refused when it comes: no deadlock. The same holds
of the room for source texts, which an encoder-decoder's sequence has whole from its first step to its last. No tensors
here.
"""

from __future__ import annotations

import bisect
from collections import abc
from collections.abc import Hashable
from typing import NamedTuple

from paddock.engine.blocks import BLOCK, BlockManager, Table, blocks_for
from paddock.errors import ResourceError, UsageError

AGE = 256  # steps of waiting that weigh as much as one unit of priority


class Sequence:
    """One text being read and written.

    tokens: prompt, then what was written. computed: how many of them have keys and values. limit: the most slots it
    will ever need. proposed: guesses at what follows, to be checked in the next step. paused: nobody takes what it
    writes at present. reused: prompt tokens found in the cache when it first ran. source: blocks of its source text.
    """

    __slots__ = (
        "computed", "key", "limit", "paused", "prompt", "proposed", "rank", "reused", "salt", "served", "source",
        "table", "tokens",
    )  # fmt: skip

    def __init__(
        self, key: int, prompt: abc.Sequence[int], limit: int, salt: Hashable | None = "", source: int = 0
    ) -> None:
        self.key, self.prompt, self.limit, self.salt, self.source = key, len(prompt), limit, salt, source
        self.tokens = list(prompt)
        self.computed = 0
        self.proposed: abc.Sequence[int] = ()
        self.paused = False
        self.rank = (0, key)
        self.served = 0
        self.reused: int | None = None
        self.table: Table | None = None

    @property
    def wanted(self) -> int:
        return len(self.tokens) - self.computed


class Slice(NamedTuple):
    """What one step reads of a sequence: `size` of its tokens from `computed` on, then `proposed` guesses."""

    sequence: Sequence
    size: int
    proposed: int


class Scheduler:
    """budget: tokens of a step (an uncut prompt may take more). most: sequences running at once.

    cut: whether prompts may be read in pieces; pieces end at multiples of `chunk` where one is given. share_written:
    later prompts may find what was written too, not only what was read. source_blocks: of all source texts together.
    """

    def __init__(
        self,
        blocks: BlockManager,
        budget: int = 512,
        most: int = 64,
        cut: bool = True,
        chunk: int | None = None,
        share_written: bool = False,
        source_blocks: int = 0,
    ) -> None:
        if not 0 < most < budget:
            raise UsageError(f"{most} sequences share {budget} tokens of a step", expected="more tokens than sequences")
        self.blocks, self.budget, self.most, self.cut, self.chunk = blocks, budget, most, cut, chunk
        self.share_written, self.source_blocks = share_written, source_blocks
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []  # by rank
        self.parked: set[Sequence] = set()  # preempted, and nobody asks for them
        self.evicted: list[int] = []  # keys whose state is to be forgotten; whoever runs the steps takes them
        self.clock = 0
        self.preemptions = self.reused = 0

    def submit(self, sequence: Sequence, priority: int = 0) -> None:
        """Raises ResourceError for a sequence that not even an empty cache could hold."""
        if blocks_for(sequence.limit) > self.blocks.total:
            raise ResourceError(
                f"{sequence.limit} tokens do not fit the cache",
                expected=f"at most {self.blocks.total * BLOCK}",
                fix="ask for fewer new tokens (max_new_tokens), or shorten the prompt",
            )
        if sequence.source > self.source_blocks:
            raise ResourceError(
                f"a source text of {sequence.source} blocks does not fit",
                expected=f"at most {self.source_blocks}",
                fix="shorten the text, or split it",
            )
        sequence.rank = (self.clock - priority * AGE, sequence.key)
        sequence.served = self.clock
        self._wait(sequence)

    @property
    def source_used(self) -> int:
        """Blocks of the source texts of what runs."""
        return sum(sequence.source for sequence in self.running)

    def resume(self, sequence: Sequence) -> None:
        """Somebody asks for it again."""
        sequence.paused = False
        if sequence in self.parked:
            self.parked.remove(sequence)
            self._wait(sequence)

    def remove(self, sequence: Sequence, keep: bool = True) -> None:
        """Ends a sequence, wherever it stands; its blocks are there for others at once."""
        if sequence.table is not None:
            self._give_back(sequence, keep)
        elif sequence in self.parked:
            self.parked.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def reset(self, blocks: BlockManager, alive: abc.Iterable[Sequence]) -> None:
        """Begins anew with an empty cache, whatever state a step that broke off left: all read their tokens again."""
        self.blocks, self.running, self.waiting, self.parked = blocks, [], [], set()
        for sequence in alive:
            sequence.table, sequence.computed, sequence.proposed = None, 0, ()
            self.evicted.append(sequence.key)
            self._put_off(sequence)

    def plan(self) -> list[Slice]:
        """The next step. What it names has its blocks; tell `commit` what came of each slice."""
        self.clock += 1
        before = self.preemptions
        slices = self._writing()
        left = self.budget - sum(part.size + part.proposed for part in slices)
        self._reading(slices, left, admit=self.preemptions == before)
        return slices

    def commit(self, sequence: Sequence, computed: int) -> None:
        """`computed` more tokens have their keys and values; what was written is in `tokens` already."""
        sequence.computed += computed
        table = sequence.table
        end = sequence.computed if self.share_written else min(sequence.computed, sequence.prompt)
        if table is not None and (table.known + 1) * BLOCK <= end:
            self.blocks.publish(table, sequence.tokens, end)

    def _writing(self) -> list[Slice]:
        slices: list[Slice] = []
        spare = (self.budget - len(self.running)) // 2  # tokens that guesses may take
        for sequence in tuple(self.running):
            table = sequence.table
            if sequence.paused or table is None or len(sequence.tokens) - sequence.computed != 1:
                continue
            guesses = min(len(sequence.proposed), spare)
            if guesses and not self.blocks.grow(table, sequence.computed + 1 + guesses):
                guesses = 0  # nobody gives way to a guess
            if self._room(sequence, table, slices):
                slices.append(Slice(sequence, 1, guesses))
                spare -= guesses
        return slices

    def _room(self, sequence: Sequence, table: Table, slices: list[Slice]) -> bool:
        """Room for one more token, if need be taken from the last in rank; no if that is the sequence itself."""
        while not self.blocks.grow(table, sequence.computed + 1):
            victim = max(self.running, key=lambda other: (other.paused, other.rank))
            self._preempt(victim)
            slices[:] = [part for part in slices if part.sequence is not victim]
            if victim is sequence:
                return False
        return True

    def _reading(self, slices: list[Slice], left: int, admit: bool) -> None:
        reading = [s for s in self.running if not s.paused and len(s.tokens) - s.computed > 1]
        if not reading and not self.waiting:
            return
        # The first gets what is left of it but a little for each of the others: so prompts end one after another, and
        # a short one does not wait for a long one. Where pieces cannot be small they take turns instead.
        fine = self.cut and self.chunk is None
        reading.sort(key=lambda s: s.rank if fine else (s.served, s.key))
        newcomers = min(len(self.waiting), self._seats()) if admit else 0
        parts, first = len(reading) + newcomers, True
        for _ in range(parts):
            if left <= 0:
                return
            sequence = reading.pop(0) if reading else self._admitted()
            while sequence is None and self._park():
                sequence = self._admitted()
            if sequence is None:
                return
            others = min(BLOCK, left // (2 * parts)) if fine else left // parts
            count = self._piece(sequence, left - others * (parts - 1), left, first)
            parts -= 1
            if count:
                slices.append(Slice(sequence, count, 0))
                sequence.served, first = self.clock, False
                left -= count

    def _piece(self, sequence: Sequence, share: int, left: int, first: bool) -> int:
        """How many tokens to read now: about `share`, but only up to a place where the text may be cut.

        One that has to be read in one go may exceed what is left if it is the `first` of the step.
        """
        wanted = sequence.wanted
        if wanted <= share:
            return wanted
        stop = sequence.computed + share
        if stop < sequence.prompt or not self.cut:
            if not self.cut:
                stop = len(sequence.tokens)
            elif self.chunk is not None:
                later = max(stop // self.chunk * self.chunk, (sequence.computed // self.chunk + 1) * self.chunk)
                stop = min(later, sequence.prompt)
        count = stop - sequence.computed
        return count if first or count <= left else 0

    def _admitted(self) -> Sequence | None:
        """The first in rank begins, with blocks for all the tokens it has; none does if they are not there."""
        sequence = self.waiting[0]
        if sequence.source > self.source_blocks - self.source_used:
            return None
        prompt, tokens = sequence.prompt, sequence.tokens
        most = len(tokens) - 1 if self.share_written else min(prompt, len(tokens) - 1)
        table = self.blocks.open(tokens, most, sequence.salt)
        # Those that write need a block each before long: whoever came now would be the first to give way.
        growing = sum(other is not sequence for other in self.running)
        lacking = blocks_for(len(tokens)) - len(table.blocks)
        if lacking + growing > self.blocks.available or not self.blocks.grow(table, len(tokens)):
            self.blocks.close(table)
            return None
        del self.waiting[0]
        sequence.table, sequence.computed = table, table.known * BLOCK
        self.reused += sequence.computed
        if sequence.reused is None:
            sequence.reused = sequence.computed
        self.running.append(sequence)
        return sequence

    def _seats(self) -> int:
        """How many more may run; whoever only holds a place gives way to those that wait."""
        while self.waiting and len(self.running) >= self.most and self._park():
            pass
        return self.most - len(self.running)

    def _park(self) -> bool:
        """Takes the blocks of a sequence that nobody asks for at present, if there is one."""
        paused = [sequence for sequence in self.running if sequence.paused]
        if paused:
            self._preempt(max(paused, key=lambda sequence: sequence.rank))
        return bool(paused)

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self._give_back(sequence, keep=True)
        self._put_off(sequence)

    def _give_back(self, sequence: Sequence, keep: bool) -> None:
        assert sequence.table is not None
        self.running.remove(sequence)
        self.blocks.close(sequence.table, keep)
        sequence.table, sequence.computed, sequence.proposed = None, 0, ()
        self.evicted.append(sequence.key)

    def _put_off(self, sequence: Sequence) -> None:
        if sequence.paused:
            self.parked.add(sequence)
        else:
            self._wait(sequence)

    def _wait(self, sequence: Sequence) -> None:
        bisect.insort(self.waiting, sequence, key=lambda other: other.rank)
