"""BitFit (arXiv 2106.10199): of a model, only the biases are trained."""

from __future__ import annotations

import functools
from typing import Literal

from paddock.checkpoint.own_adapters import Own, read_numbers, write_own
from paddock.data.section import Section
from paddock.errors import UsageError
from paddock.model.scaling import with_copies
from paddock.training.methods.tuned import Base, Tuned


class BitFit(Section):
    """Every bias of the model, of linears, norms and heads."""

    name: Literal["bitfit"] = "bitfit"

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UsageError for a model without biases. `seed` draws nothing here."""
        biases = {name for name, _ in base.model.named_parameters() if name.rpartition(".")[2] == "bias"}
        if not biases - base.fresh:
            raise UsageError(
                f"this {base.model.architecture.family} model has no biases to train",
                fix="use lora, ia3 or adapter-v2, which brings biases of its own",
            )
        own = Own("BITFIT", base.name, {}, frozenset(biases | base.fresh))
        return Tuned(
            with_copies(base.model, biases - base.fresh), own.names, functools.partial(write_own, own), read_numbers
        )
