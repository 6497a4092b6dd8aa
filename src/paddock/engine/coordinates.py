"""Where a native program is told that tokens stand: positions, what all of a text sees, frequencies of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from paddock.engine.runner import Rows
from paddock.model.position import frequencies
from paddock.model.recording import own_rope
from paddock.model.spec import Architecture, Prefix
from paddock.model.step import blank_positions


class Coordinates:
    """Of the sequences that run, by key; what was learned of one is kept until `forget`."""

    def __init__(self, architecture: Architecture) -> None:
        self.mask = architecture.mask if isinstance(architecture.mask, Prefix) else None
        self.rope = own_rope(architecture)
        self._prompts: dict[int, tuple[np.ndarray, int]] = {}
        self._rates: dict[int, tuple[int, np.ndarray]] = {}

    def of(self, rows: Rows) -> tuple[Sequence[int], int]:
        """Positions of the rows' tokens, two after each other for each where the model has two-part ones, and how many
        of the text's first slots all of it sees."""
        start, stop = rows.start, rows.start + len(rows.ids)
        if self.mask is None:
            return range(start, stop), 0
        if start == 0:
            places, prefix = blank_positions(self.mask, torch.tensor([rows.ids[: rows.prompt]]))
            self._prompts[rows.key] = places[0].numpy().astype(np.int32), int(prefix[0])
        prompt, first = self._prompts[rows.key]
        on = np.arange(max(start, len(prompt)), stop, dtype=np.int32) - len(prompt) + 1
        written = prompt[-1] + np.stack((np.zeros_like(on), on), axis=1)  # only the second part counts on
        return np.concatenate((prompt[start:stop], written)).reshape(-1).tolist(), first

    def rates(self, batch: Sequence[Rows]) -> np.ndarray | None:
        """(sequences, rotary pairs) float32: each sequence's frequencies, where they depend on its length."""
        if self.rope is None:
            return None
        for rows in batch:
            if self._rates.get(rows.key, (0,))[0] != rows.length:
                own = frequencies(self.rope, rows.length, torch.device("cpu"))
                self._rates[rows.key] = rows.length, own.numpy()
        return np.stack([self._rates[rows.key][1] for rows in batch])

    def forget(self, key: int) -> None:
        self._prompts.pop(key, None)
        self._rates.pop(key, None)
