"""What a recipe of fine-tuning may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from paddock.data.section import Section
from paddock.finetune.tasks import ChatTask, Task, TextTask
from paddock.training import recipe_files
from paddock.training.methods import AdapterV2, Full, Method
from paddock.training.parallel import Parallel
from paddock.training.recipe import Card, Fraction, Training


class Reading(Section):
    """How examples are read; `paddock.data.instruct.options` explains each."""

    on_error: Literal["stop", "skip"] = "stop"
    duplicates: Literal["keep", "drop"] = "keep"
    alternate: bool = True
    trees: Literal["threads", "ranked", "prompts"] = "threads"
    tree_states: tuple[str, ...] = ("ready_for_export",)
    synthetic: bool = False
    best: Annotated[int, Field(ge=1)] | None = None
    encoding: str = "utf-8"


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class Data(Section):
    """The examples. Files (or patterns) are looked for in `root`, in PADDOCK_DATA, beside the recipe.

    second: files whose lines are the targets of the lines of `files`. format: what the files hold (`paddock data
    inspect` says); `auto` looks. fields: what the files call the fields of a format. validation: the share of the
    examples that is measured on and not trained, or files of such (with `validation_second` for theirs). length: tokens
    of a row at most. too_long: what becomes of an example with more: `refuse`, `drop`, or `cut` it, never without a
    word. limit: only so many examples of the files. joint: files of a second kind of examples, which train what
    method.early names, and nothing else.
    """

    files: Annotated[list[str], Field(min_length=1), BeforeValidator(_several)]
    root: str | None = None
    second: list[str] = Field(default_factory=list)
    joint: Annotated[list[str], BeforeValidator(_several)] = Field(default_factory=list)
    format: str = "auto"
    fields: dict[str, str] = Field(default_factory=dict)
    reading: Reading = Reading()
    validation: Fraction | list[str] = 0.05
    validation_second: list[str] = Field(default_factory=list)
    length: Annotated[int, Field(ge=2, le=2**20)] = 512
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    limit: Annotated[int, Field(gt=0)] | None = None
    shuffle: bool = True


class Tuning(Training):
    """As of every stage, but that `steps` may be left to `epochs`.

    epochs: how often every row is read, where steps is 0. warmup: the share of the steps in which the learning rate
    goes up, where the schedule does not say how many.
    """

    steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    epochs: Annotated[float, Field(gt=0, le=10**4)] = 1.0
    warmup: Fraction = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Tuning:
        if self.steps:
            super()._fits()  # type: ignore[operator]
        return self

    def resolved(self, rows: int) -> Training:
        """The training of a table of `rows`. Raises UsageError where the schedule does not fit into the steps."""
        values = self.model_dump(exclude={"epochs", "warmup"})
        values["steps"] = steps = self.steps or max(1, round(self.epochs * rows / self.batch))
        if self.warmup and not self.schedule.warmup:
            values["schedule"]["warmup"] = round(self.warmup * steps)
        return recipe_files.validated(Training, values, "training")


class FineTuning(Section):
    """A whole recipe: a model, the task, the method, the examples.

    model: a folder, a .gguf or llama2.c file, or a name that `paddock ls` shows; empty: the bundled model. template:
    the chat template, where the model has none of its own or another is meant. prompts: answered as training goes on.
    """

    stage: Literal["finetune"] = "finetune"
    card: Card | None = None
    model: str = ""
    template: str | None = None
    task: Task
    method: Method = Full()
    data: Data
    training: Tuning = Tuning()
    parallel: Parallel = Parallel()
    prompts: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _joins(self) -> FineTuning:
        early = self.method.early if isinstance(self.method, AdapterV2) else 0
        if bool(self.data.joint) != bool(early):
            raise ValueError("data.joint and method.early (of adapter-v2) go together: give both, or neither")
        if early and not isinstance(self.task, ChatTask | TextTask):
            raise ValueError("data.joint is for the tasks chat and text")
        if early and self.training.recompute:
            raise ValueError(
                "training.recompute runs blocks again when every group learns, and data.joint forbids that"
            )
        return self

    @property
    def steps_told(self) -> str:
        """How long it trains, in words."""
        return f"{self.training.steps} steps" if self.training.steps else f"{self.training.epochs:g} epochs"
