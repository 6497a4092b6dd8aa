"""The bodies of Anthropic's /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from paddock.engine.request import MAX_STOPS
from paddock.serve.bodies import Body, Part
from paddock.serve.schemas.parts import (
    MAX_ITEMS,
    MAX_TOOLS,
    ONE,
    Count,
    Kept,
    Least,
    Members,
    Name,
    Penalty,
    Portion,
    Temperature,
    Text,
    TextOr,
    ToolName,
    kind_of,
)
from paddock.serve.schemas.sampled import Stop


class Block(Part):
    """A piece of content. Prompts are cached whether a block asks for it or not."""

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("cache_control",))


class TextBlock(Block):
    type: Literal["text"]
    text: Text

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return super().harmless() | {"citations"}


class ToolUseBlock(Block):
    type: Literal["tool_use"]
    id: Name
    name: Name
    input: Members

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return super().harmless() | {"caller"}


class ToolResultBlock(Block):
    type: Literal["tool_result"]
    tool_use_id: Name
    content: TextOr[TextBlock] | None = None
    is_error: bool | None = None

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        """No template has a place for the mark of an error: what went wrong stands in the content."""
        yield from super().unknown(place)
        if self.is_error:
            yield f"{place}is_error", None


class ThinkingBlock(Block):
    """Earlier thoughts are not shown to a model again; that the block had no effect is told."""

    type: Literal["thinking", "redacted_thinking"]

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return super().harmless() | {"thinking", "signature", "data"}

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        yield place.removesuffix("."), None
        yield from super().unknown(place)


AnyBlock = Annotated[TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Field(discriminator="type")]


class Message(Part):
    role: Literal["user", "assistant"]
    content: TextOr[AnyBlock]


class Tool(Part):
    type: Literal["custom"] | None = None
    name: ToolName
    description: Text | None = None
    input_schema: Members
    strict: bool | None = None

    def plain(self) -> dict[str, Any]:
        """The function as templates show it."""
        shown = self.model_dump(include={"name", "description", "strict"}, exclude_none=True)
        return {**shown, "parameters": self.input_schema}

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("cache_control", "eager_input_streaming", "allowed_callers"))


class Choice(Part):
    """Whether tools are called: as the model likes (auto), some one (any), none, or the named one (tool)."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class ChosenTool(Part):
    type: Literal["tool"]
    name: ToolName
    disable_parallel_tool_use: bool | None = None


class Thinking(Part):
    """A budget of tokens for thoughts cannot be kept, so it is told of as ignored."""

    type: Literal["enabled", "disabled", "adaptive"]

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("display",))


class SchemaFormat(Part):
    type: Literal["json_schema"]
    schema_: Members = Field(alias="schema")


class OutputConfig(Part):
    format: SchemaFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


def _choice(value: Any) -> str:
    return "tool" if kind_of(value, "auto") == "tool" else "other"


class CountBody(Body):
    """Fields are Anthropic's."""

    messages: Annotated[list[Message], ONE] = Field(min_length=1, max_length=MAX_ITEMS)
    model: Name | None = None
    system: TextOr[TextBlock] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Annotated[Annotated[ChosenTool, Tag("tool")] | Annotated[Choice, Tag("other")], Discriminator(_choice)] | None
    ) = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("metadata", "service_tier", "cache_control", "inference_geo", "speed"))


class MessagesBody(CountBody):
    """What counting takes, and how to answer; the settings after `top_k` are Paddock's own."""

    max_tokens: Count
    stop_sequences: Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: Portion | None = None
    top_k: Kept | None = None
    min_p: Least | None = None
    repetition_penalty: Penalty | None = None
    seed: int | None = Field(None, ge=0, lt=2**64)
