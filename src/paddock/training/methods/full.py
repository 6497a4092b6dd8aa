"""Fine-tuning of a model's own weights: all of them, or some layers and parts."""

from __future__ import annotations

import functools
from typing import Literal

from paddock.data.section import Section
from paddock.training.methods.tuned import Base, Tuned, whole


class Full(Section):
    """Every weight is trained."""

    name: Literal["full"] = "full"

    def attach(self, base: Base, seed: int) -> Tuned:
        """The model itself. `seed` draws nothing here."""
        return Tuned(base.model, None, functools.partial(whole, base), adapter=False)
