"""A runner without a model: its "keys and values" are the tokens themselves, so it notices every block that holds what
it should not. What comes next is a number made of all tokens so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paddock.engine.blocks import BLOCK
from paddock.engine.runner import Carried, Rows

VOCABULARY = 50


def following(text: Sequence[int]) -> int:
    """The token after `text`; depends on every one of them and on their order."""
    state = 7
    for token in text:
        state = (state * 31 + token + 1) % 1_000_003
    return state % VOCABULARY


def written(prompt: Sequence[int], count: int) -> list[int]:
    """What a sequence alone would write."""
    text = list(prompt)
    for _ in range(count):
        text.append(following(text))
    return text[len(prompt) :]


class FakeRunner:
    """`fails` is raised by the next run. `batches` are the rows of every run."""

    def __init__(self, blocks: int, chunk: int | None = None, source_blocks: int = 0) -> None:
        self.blocks, self.block_bytes, self.chunk = blocks, 1024, chunk
        self.source_blocks, self.source_block_bytes = source_blocks, 512
        self.slots: list[int | None] = [None] * (blocks * BLOCK)
        self.batches: list[list[Rows]] = []
        self.forgotten: list[int] = []
        self.fails: BaseException | None = None
        self.poisoned: set[int] = set()  # tokens whose logits are not numbers

    def run(self, batch: Sequence[Rows]) -> Tensor:
        self.batches.append(list(batch))
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        for rows in batch:  # all write before any reads: a block written through two tables shows
            for place, token in enumerate(rows.ids, rows.start):
                self.slots[rows.table[place // BLOCK] * BLOCK + place % BLOCK] = token
        wanted = [self.row(rows, stop) for rows in batch for stop in self.stops(rows)]
        return torch.stack(wanted) if wanted else torch.empty(0, VOCABULARY)

    def stops(self, rows: Rows) -> range:
        end = rows.start + len(rows.ids)
        return range(end - rows.logits + 1, end + 1)

    def row(self, rows: Rows, stop: int) -> Tensor:
        text = [self.slots[rows.table[place // BLOCK] * BLOCK + place % BLOCK] for place in range(stop)]
        logits = torch.zeros(VOCABULARY)
        logits[following([-1 if token is None else token for token in text])] = 9.0
        return logits * float("nan") if text[-1] in self.poisoned else logits

    def forget(self, key: int) -> None:
        self.forgotten.append(key)

    def carry(self, adapters: Mapping[int, Carried]) -> None:
        """Whatever the adapter, the same comes next."""
