"""Types that the bodies of several dialects are made of, with their bounds."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from paddock.engine.sampling import BOUNDS

MAX_TEXT, MAX_ITEMS, MAX_TOOLS, MAX_MEMBERS = 8 * 2**20, 2048, 128, 1024

Value = TypeVar("Value")
# The first item that is wrong is told of: to tell of all in a list of a million took half a minute.
ONE = Field(fail_fast=True)


def _greedy_or_not(temperature: float) -> float:
    if not BOUNDS["temperature"].holds(temperature):
        raise PydanticCustomError("temperature", "Input should be 0, or at least 0.0001")
    return temperature


def few(most: int) -> BeforeValidator:
    """Refuses an object of more than `most` members before any is looked at: they have no ONE."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise PydanticCustomError("too_long", "Input should have at most {most} items", {"most": most})
        return value

    return BeforeValidator(check)


Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Count = Annotated[int, Field(ge=1, le=2**31)]
Members = Annotated[dict[str, Any], Field(max_length=MAX_MEMBERS)]  # for a model or a grammar to read
Temperature = Annotated[float, Field(ge=0, le=100), AfterValidator(_greedy_or_not)]
Portion = Annotated[float, Field(gt=0, le=1)]  # of the probability: top_p, typical_p
Least = Annotated[float, Field(ge=0, le=1)]  # min_p
Kept = Annotated[int, Field(ge=0, le=2**31)]  # top_k, 0 is off
Penalty = Annotated[float, Field(ge=0.01, le=100)]  # repetition
Shift = Annotated[float, Field(ge=-2, le=2)]  # presence and frequency


def form_of(value: Any) -> str:
    return "list" if isinstance(value, list) else "text"


def kind_of(value: Any, usual: str) -> str:
    """An object's "type", for a union that is told apart by it; `usual` where it has none. Anything may come in."""
    kind = value.get("type", usual) if isinstance(value, dict) else getattr(value, "type", usual)
    return kind if isinstance(kind, str) else "?"


# Text, or a list of parts: an error then speaks of the form that was sent.
TextOr = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Value], Field(max_length=MAX_ITEMS), ONE, Tag("list")],
    Discriminator(form_of),
]
