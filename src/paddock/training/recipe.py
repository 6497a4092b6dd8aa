"""How a model is trained: the part of a recipe that every stage shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of a recipe: typed, frozen, with no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=0, le=10**9)]


class Optimizer(Section):
    """Which rule moves the weights, and its settings; what a rule does not know is refused."""

    name: Literal["sgd", "rmsprop", "adam", "adamw", "adafactor", "lion", "muon"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    eps: Positive = 1e-8
    momentum: Fraction = 0.0


class Schedule(Section):
    """The learning rate over the steps, as a share of the optimizer's: up in `warmup` steps, then down to `floor`.

    `wsd` holds the rate and goes down in the last `decay` steps only.
    """

    shape: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    warmup: Steps = 0
    decay: Steps = 0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1


class Training(Section):
    """Everything the loop asks.

    `batch` is rows per step over all ranks; `micro_batch` rows go through the model at once (0: all of a rank's rows).
    """

    steps: Annotated[int, Field(gt=0, le=10**9)]
    batch: Annotated[int, Field(gt=0, le=10**6)] = 8
    micro_batch: Annotated[int, Field(ge=0, le=10**6)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    dropout: Fraction = 0.0
    recompute: bool = False
    compile: bool = False
    checkpoints: str = "every:500"
    keep: Annotated[int, Field(ge=1)] = 2
    evaluate_every: Steps = 0
    sample_every: Steps = 0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    on_spike: Literal["warn", "skip", "rollback"] = "warn"
