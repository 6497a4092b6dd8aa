"""What routers said in one forward, for losses that keep experts evenly used."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class Routing:
    """Takes the scores of each layer of experts as a forward passes it; a step carries one, if a loss wants them.

    `active`: of how many experts of each layer a token goes through. Once taken, it is closed: blocks that are computed
    again in a backward pass (`Step.recompute`) add nothing.
    """

    _scores: list[tuple[Tensor, int]] = field(default_factory=list)
    _closed: bool = False

    def add(self, scores: Tensor, active: int) -> None:
        """scores (batch, tokens, experts), before any softmax."""
        if not self._closed:
            self._scores.append((scores, active))

    def take(self) -> list[tuple[Tensor, int]]:
        """(scores, active) of every layer that has experts, the first layer's first. May be asked once."""
        self._closed = True
        taken, self._scores = self._scores, []
        return taken
