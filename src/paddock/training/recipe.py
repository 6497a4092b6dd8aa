"""How a model is trained: the part of a recipe that every stage shares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from paddock.data.section import Section
from paddock.errors import UsageError
from paddock.training import save_schedule

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=0, le=10**9)]

ADAM = {"betas": (0.9, 0.95), "eps": 1e-8}
# What each rule can be told besides its learning rate, and its default.
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False},
    "rmsprop": {"weight_decay": 0.0, "momentum": 0.0, "smoothing": 0.99, "eps": 1e-8},
    "adam": {"weight_decay": 0.0, **ADAM},
    "adamw": {"weight_decay": 0.1, **ADAM},
    "adamw8bit": {"weight_decay": 0.1, **ADAM},
    "adafactor": {"weight_decay": 0.0},
    "lion": {"weight_decay": 0.1, "betas": (0.9, 0.99)},
    "muon": {"weight_decay": 0.1, "momentum": 0.95, "nesterov": True, **ADAM},
}


class Card(Section):
    """What came of the recipe when its authors ran it."""

    about: str
    time: str = ""
    memory: str = ""
    metric: str = ""
    machine: str = ""


class Optimizer(Section):
    """Which rule moves the weights, and its settings; what a rule does not know is refused.

    decay: which weights `weight_decay` pulls to zero. `matrices` leaves out norms, biases and everything looked up;
    `all` leaves out nothing. smoothing: RMSprop's memory of squared gradients. docs/training.md says the rest.
    """

    name: Literal["sgd", "rmsprop", "adam", "adamw", "adamw8bit", "adafactor", "lion", "muon"] = "adamw"
    learning_rate: Positive = 1e-3
    decay: Literal["matrices", "all"] = "matrices"
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    betas: tuple[Fraction, Fraction] | None = None
    eps: Positive | None = None
    momentum: Fraction | None = None
    nesterov: bool | None = None
    smoothing: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_rule(cls, given: Any) -> Any:
        """Fills in the rule's own defaults, so that a recipe as saved says everything and reads back the same."""
        name = given.get("name", "adamw") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in RULES:
            return given
        known = RULES[name]
        every = {key for rule in RULES.values() for key in rule}
        foreign = sorted(key for key in every - known.keys() if given.get(key) is not None)
        if foreign:
            raise ValueError(f"{name} has no {', '.join(foreign)} (it has {', '.join(known)})")
        return {**known, **{key: value for key, value in given.items() if value is not None or key not in known}}

    @model_validator(mode="after")
    def _sense(self) -> Optimizer:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum, and momentum is 0")
        return self

    def settings(self) -> dict[str, Any]:
        """What the rule knows, by name."""
        return {key: getattr(self, key) for key in RULES[self.name]}


class Schedule(Section):
    """The learning rate over the steps, as a share of the optimizer's: up in `warmup` steps, then down to `floor`.

    `wsd` holds the rate and goes down in the last `decay` steps only; `constant` never goes down.
    """

    shape: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    warmup: Steps = 0
    decay: Steps = 0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1

    @model_validator(mode="before")
    @classmethod
    def _constant_has_no_floor(cls, given: Any) -> Any:
        return {"floor": 1.0, **given} if isinstance(given, dict) and given.get("shape") == "constant" else given

    @model_validator(mode="after")
    def _sense(self) -> Schedule:
        if self.shape == "wsd" and not self.decay:
            raise ValueError("wsd needs decay: in how many last steps the rate goes down")
        if self.shape != "wsd" and self.decay:
            raise ValueError(f"decay is for wsd; {self.shape} takes all steps after the warm-up")
        if self.shape == "constant" and self.floor != 1:
            raise ValueError("a constant rate has no floor")
        return self


class Training(Section):
    """Everything the loop asks.

    `batch` is rows per step over all ranks; `micro_batch` rows go through the model at once (0: all of a rank's rows).
    `neftune`: noise on what is looked up, up to neftune / sqrt(tokens * width) (arXiv 2310.05914; there 5 to 15).
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
    neftune: Annotated[float, Field(ge=0, le=1000)] = 0.0
    recompute: bool = False
    compile: bool = False
    checkpoints: str = "every:500"
    keep: Annotated[int, Field(ge=1)] = 2
    evaluate_every: Steps = 0
    sample_every: Steps = 0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    on_spike: Literal["warn", "skip", "rollback"] = "warn"
    tensorboard: bool = False

    @field_validator("checkpoints")
    @classmethod
    def _schedule(cls, text: str) -> str:
        try:
            save_schedule.parse(text)
        except UsageError:
            raise ValueError(f"{text[:80]!r} is no schedule of saves: {save_schedule.EXPECTED}") from None
        return text

    @model_validator(mode="after")
    def _fits(self) -> Training:
        shaped = self.schedule.warmup + self.schedule.decay
        if shaped > self.steps:
            raise ValueError(f"schedule.warmup and schedule.decay take {shaped} steps, and steps is {self.steps}")
        if self.compile and self.recompute:
            raise ValueError("compile and recompute: a compiled block chooses by itself what it computes again")
        return self
