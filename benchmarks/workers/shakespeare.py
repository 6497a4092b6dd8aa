"""Tiny Shakespeare as characters: the first 90 % to train on, the rest held out, as nanoGPT splits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

BLOCK = 64


class Text:
    """`path`: the plain text. Its ids are the places of its characters in sorted order."""

    def __init__(self, path: str) -> None:
        text = Path(path).read_text(encoding="utf-8")
        known = sorted(set(text))
        self.vocabulary = len(known)
        number = {character: place for place, character in enumerate(known)}
        ids = torch.tensor([number[character] for character in text])
        cut = int(0.9 * len(ids))
        self.train, self.validation = ids[:cut], ids[cut:]
        self.rows_held_out = (len(self.validation) - 1) // BLOCK

    def draw(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and targets (rows, BLOCK) from random places, from PyTorch's own generator."""
        starts = torch.randint(len(self.train) - BLOCK, (rows,))
        whole = self.train[starts[:, None] + torch.arange(BLOCK + 1)]
        return whole[:, :-1].contiguous(), whole[:, 1:].contiguous()

    def held_out(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The whole validation split, each character but the first asked for once, 128 rows at a time."""
        end = self.rows_held_out * BLOCK
        ids, targets = self.validation[:end].view(-1, BLOCK), self.validation[1 : end + 1].view(-1, BLOCK)
        yield from zip(ids.split(128), targets.split(128), strict=True)
