"""Guesses at the next tokens, to be checked many at once (arXiv 2211.17192, with the target's own sampler as judge).

A guess costs little when reading several tokens costs the model hardly more than one: while decoding, weights are
what takes the time to read. The engine keeps a guess only where the request's own sampler, with its own random number,
chooses that very token; so what is written is what would have been written, sampled or greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paddock.engine.blocks import BLOCK, BlockManager, Table
from paddock.engine.runner import Rows, Runner

COUNT = 5  # guesses at once, where nothing else is asked
MOST = 32
LONGEST = 4  # tokens of the text's end that are looked for
SHORTEST = 2
PIECE = 512  # tokens that a draft model reads at once


class Speculator(Protocol):
    """Proposes up to `most` tokens that may follow `tokens`, those of sequence `key`."""

    def propose(self, key: int, tokens: Sequence[int], most: int) -> Sequence[int]: ...

    def forget(self, key: int) -> None: ...


class Lookup:
    """Prompt lookup: where the text's last few tokens stood before, what followed them then is proposed.

    One for each request. Of several places the latest counts, of several lengths the longest.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._after: dict[tuple[int, ...], int] = {}  # a run of tokens -> where its latest follower stands
        self._seen = 0

    def propose(self, key: int, tokens: Sequence[int], most: int) -> list[int]:
        for end in range(max(self._seen, SHORTEST), len(tokens)):
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(tokens[end - size : end])] = end
        self._seen = max(self._seen, len(tokens))
        for size in range(min(LONGEST, len(tokens)), SHORTEST - 1, -1):
            start = self._after.get(tuple(tokens[len(tokens) - size :]))
            if start is not None:
                return self._copied(tokens, start, min(self.count, most))
        return []

    def forget(self, key: int) -> None:
        self._after, self._seen = {}, 0

    @staticmethod
    def _copied(tokens: Sequence[int], start: int, count: int) -> list[int]:
        """What follows from `start` on; where that reaches the text's end, its repetition."""
        found = list(tokens[start : start + count])
        period = len(tokens) - start
        while len(found) < count:
            found.append(found[len(found) - period])
        return found


class Guessing:
    """One text as the draft model knows it: its blocks, the tokens it has computed, where its prompt ended."""

    __slots__ = ("prompt", "table", "tokens")

    def __init__(self, table: Table, prompt: int) -> None:
        self.table, self.prompt = table, prompt
        self.tokens: list[int] = []


class Draft:
    """A smaller model of the same vocabulary writes ahead, greedily, through a runner and blocks of its own.

    context: the longest text it reads, None for any. Where its blocks run out, other texts' are taken: they are read
    again when it is their turn.
    """

    def __init__(self, runner: Runner, count: int, context: int | None) -> None:
        self.runner, self.count, self.context = runner, count, context
        self._blocks = BlockManager(runner.blocks, BLOCK)
        self._texts: dict[int, Guessing] = {}

    def propose(self, key: int, tokens: Sequence[int], most: int) -> list[int]:
        room = most if self.context is None else self.context - len(tokens)
        count = min(self.count, most, room)
        if count < 1:
            return []
        text = self._texts.pop(key, None) or Guessing(self._blocks.open((), 0, None), len(tokens))
        self._texts[key] = text  # the last in order: the latest used
        while not self._blocks.grow(text.table, len(tokens) + count):
            other = next(iter(self._texts))
            self.forget(other)
            if other == key:
                return []
        known = _agreed(text.tokens, tokens)
        guesses: list[int] = []
        new = list(tokens[known:])
        for _ in range(count):
            guesses.append(self._next(key, text, known, new))
            known, new = known + len(new), guesses[-1:]
        text.tokens = [*tokens, *guesses[:-1]]
        return guesses

    def forget(self, key: int) -> None:
        text = self._texts.pop(key, None)
        if text is not None:
            self._blocks.close(text.table)
            self.runner.forget(key)

    def _next(self, key: int, text: Guessing, start: int, ids: list[int]) -> int:
        """Reads `ids` from slot `start` on; the likeliest token after them."""
        for first in range(0, len(ids), PIECE):
            piece = ids[first : first + PIECE]
            last = first + PIECE >= len(ids)
            rows = Rows(
                key, piece, start + first, text.table.blocks, text.prompt, int(last), len(text.table.blocks) * BLOCK
            )
            logits = self.runner.run([rows])
        return int(logits[0].argmax())


def _agreed(known: Sequence[int], tokens: Sequence[int]) -> int:
    """How many first tokens need not be read: those computed already, but never the last."""
    most = min(len(known), len(tokens) - 1)
    return next((place for place in range(most) if known[place] != tokens[place]), most)
