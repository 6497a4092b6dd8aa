"""LLaMA-Adapter: learned prompts behind gates that begin shut (V1, arXiv 2303.16199)."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from pydantic import Field

from paddock.checkpoint.own_adapters import Own, read_numbers, write_own
from paddock.data.section import Section
from paddock.model.prompts import fresh_prompts, prompts_at, top_layers, with_prompts
from paddock.training.methods.tuned import Base, Tuned

Count = Annotated[int, Field(ge=1, le=1024)]


class AdapterV1(Section):
    """Prompts in the top layers, and a gate for each head; the model's own weights stay as they are.

    prompts: vectors per layer. layers: how many of the highest layers have them; by default all but the lowest two.
    """

    name: Literal["adapter-v1"] = "adapter-v1"
    prompts: Count = 10
    layers: Count | None = None

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UsageError for more layers than there are."""
        layers = top_layers(base.model, self.layers)
        model = with_prompts(base.model, fresh_prompts(base.model, self.prompts, layers, seed))
        learns = frozenset(f"{prompts_at(layer)}.{name}" for layer in layers for name in ("vectors", "gate"))
        own = Own("LLAMA_ADAPTER", base.name, {"version": 1, "bounded": True}, learns | base.fresh)
        return Tuned(model, own.names, functools.partial(write_own, own), read_numbers)
