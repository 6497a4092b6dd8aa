"""How several processes share a run: a part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddock.data.section import Section


class Parallel(Section):
    """What the processes that torchrun starts do; one process alone needs none of it.

    mode: `ddp` gives each process a whole model, `fsdp` a shard of it that is gathered a block at a time, `tp` cuts
    every matrix into as many parts as there are processes. tensor: with `ddp` and `fsdp`, so many neighbours share
    each matrix, and such groups share the batch. gather: the type in which `fsdp` gathers weights; `bfloat16` halves
    the traffic, and rounds what autocast would have left in float32 (norms, residuals).
    timeout: seconds after which a process that does not answer is given up.
    """

    mode: Literal["ddp", "fsdp", "tp"] = "ddp"
    tensor: Annotated[int, Field(ge=1, le=1024)] = 1
    gather: Literal["float32", "bfloat16"] = "float32"
    timeout: Annotated[float, Field(ge=1, le=86400)] = 60.0

    @model_validator(mode="after")
    def _sense(self) -> Parallel:
        if self.gather != "float32" and self.mode != "fsdp":
            raise ValueError(f"gather is for fsdp; {self.mode} gathers no weights")
        return self
