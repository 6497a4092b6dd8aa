"""What can be asked of the cleaning of examples: a list of stages, in order, each with its settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from paddock.data.cleaning import recipe as documents
from paddock.data.instruct.records import ROLES
from paddock.data.section import Section

Roles = Annotated[tuple[Literal[ROLES], ...], Field(min_length=1)]  # type: ignore[valid-type]
Count = Annotated[int, Field(ge=0, le=10**9)]
Range = tuple[Count | None, Count | None]


class Markdown(Section):
    """HTML in what `roles` say becomes Markdown."""

    stage: Literal["markdown"]
    roles: Roles = ("assistant",)


class Blocked(Section):
    """Removes examples in which one of `roles` says one of the phrases, in whatever case."""

    stage: Literal["blocked"]
    phrases: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], Field(min_length=1, max_length=10_000)
    ]
    roles: Roles = ("assistant",)


class Openings(Section):
    """Removes examples whose first `turns` messages came before (system messages aside)."""

    stage: Literal["openings"]
    turns: Annotated[int, Field(ge=1, le=100)] = 2


class Lengths(Section):
    """Removes what is out of range: messages in all, and the characters of each one of the user or the assistant."""

    stage: Literal["lengths"]
    messages: Range = (None, None)
    user: Range = (None, None)
    assistant: Range = (None, None)

    @model_validator(mode="after")
    def _some(self) -> Lengths:
        ranges = {name: getattr(self, name) for name in ("messages", "user", "assistant")}
        if all(limit == (None, None) for limit in ranges.values()):
            raise ValueError("one range at least: messages, user or assistant, as [least, most]")
        for name, (least, most) in ranges.items():
            if least is not None and most is not None and least > most:
                raise ValueError(f"a least and a most value; {name} has {least} and {most}")
        return self


class Split(Section):
    """Cuts conversations of more than `tokens` into several, each of which begins with a user.

    model: whose tokenizer counts; empty: the bundled model's. each: tokens that a template puts around a message.
    """

    stage: Literal["split"]
    tokens: Annotated[int, Field(ge=16, le=10**7)]
    model: str = ""
    each: Count = 6


Texts = documents.Forms | documents.Private  # change one text
Judges = (
    documents.Exact
    | documents.Near
    | documents.Sim
    | documents.Quality
    | documents.Classifier
    | documents.Language
    | documents.Scripts
)
AnyStage = Markdown | Blocked | Openings | Lengths | Split | Texts | Judges
STAGES: dict[str, type[Section]] = {
    get_args(kind.model_fields["stage"].annotation)[0]: kind for kind in get_args(AnyStage)
}


class Reading(Section):
    """How the inputs are read, as of `paddock data inspect`."""

    format: str = "auto"
    on_error: Literal["stop", "skip"] = "stop"
    duplicates: Literal["keep", "drop"] = "keep"

    def options(self) -> dict[str, Any]:
        return self.model_dump()


class ExampleRecipe(Section):
    """stages: what is done, in order. read: how inputs are read. to: the format written, else what suits them."""

    of: Literal["examples"]
    stages: Annotated[tuple[Annotated[AnyStage, Field(discriminator="stage")], ...], Field(min_length=1, max_length=64)]
    read: Reading = Reading()
    to: str | None = None

    @model_validator(mode="after")
    def _no_annotations(self) -> ExampleRecipe:
        if any(isinstance(stage, documents.Quality) and stage.annotate for stage in self.stages):
            raise ValueError("no annotate: examples have no place for signals")
        return self
