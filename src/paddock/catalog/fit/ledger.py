"""What is held at the same time, by kind: blocks are taken and dropped in the order of a training step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from paddock.kernels.memory import LARGEST


@dataclass(eq=False)
class Block:
    """A tensor's memory."""

    kind: str
    bytes: int


class Ledger:
    """held: bytes by kind, now. at_peak: the same when their sum was highest so far. small_at_peak: of those, the bytes
    of blocks that lie in the heap while a model trains (`kernels.memory`), rather than mapped by themselves."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.at_peak: Counter[str] = Counter()
        self.small_at_peak = 0
        self._total = self._peak = self._small = 0

    def take(self, kind: str, size: float) -> Block:
        """A new block of `size` bytes."""
        block = Block(kind, round(size))
        self.held[kind] += block.bytes
        self._total += block.bytes
        self._small += block.bytes if block.bytes < LARGEST else 0
        if self._total > self._peak:
            self._peak, self.at_peak, self.small_at_peak = self._total, self.held.copy(), self._small
        return block

    def drop(self, *blocks: Block) -> None:
        """Frees them."""
        for block in blocks:
            self.held[block.kind] -= block.bytes
            self._total -= block.bytes
            self._small -= block.bytes if block.bytes < LARGEST else 0

    def pass_by(self, kind: str, size: float) -> None:
        """Takes and frees."""
        self.drop(self.take(kind, size))
