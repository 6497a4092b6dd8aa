"""The body of /v1/responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from paddock.engine.request import MAX_LOGPROBS
from paddock.serve.bodies import Body, Part
from paddock.serve.schemas.parts import (
    MAX_TOOLS,
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
    few,
    kind_of,
)
from paddock.serve.schemas.sampled import Stops

LOGPROBS = "message.output_text.logprobs"
EFFORTS = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class TextPart(Part):
    type: Literal["input_text", "output_text", "text"]
    text: Text

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("annotations", "logprobs", "prompt_cache_breakpoint"))


class RefusalPart(Part):
    type: Literal["refusal"]
    refusal: Text


Content = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class Item(Part):
    """What an answer's item carries besides what it says."""

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("id", "status", "phase", "caller"))


class MessageItem(Item):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: TextOr[Content]


class CallItem(Item):
    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Text


class OutputItem(Item):
    type: Literal["function_call_output"]
    call_id: Name
    output: TextOr[TextPart]


class ReasoningItem(Item):
    """Earlier thoughts are not shown to a model again; that the item had no effect is told."""

    type: Literal["reasoning"]

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return super().harmless() | {"summary", "content", "encrypted_content"}

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        yield place.removesuffix("."), None
        yield from super().unknown(place)


UNKNOWN = "Input should be an item of type 'message', 'function_call', 'function_call_output' or 'reasoning'"


def _kind(item: Any) -> str:
    return kind_of(item, "message")


AnyItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind, custom_error_type="item", custom_error_message=UNKNOWN),
]


class Tool(Part):
    type: Literal["function"]
    name: ToolName
    description: Text | None = None
    parameters: Members | None = None
    strict: bool | None = None

    def plain(self) -> dict[str, Any]:
        """The function as templates show it."""
        return self.model_dump(include={"name", "description", "parameters", "strict"}, exclude_none=True)


class ChosenTool(Part):
    type: Literal["function"]
    name: ToolName


class PlainFormat(Part):
    type: Literal["text", "json_object"]


class SchemaFormat(Part):
    type: Literal["json_schema"]
    name: Name
    schema_: Members = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("description",))


class TextOptions(Part):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None


class Reasoning(Part):
    effort: EFFORTS | None = None


class StreamOptions(Part):
    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("include_obfuscation",))


class ResponsesBody(Body):
    """Fields are OpenAI's, and the sampling settings of Paddock's own. Nothing is stored between requests: fields that
    reach for what was stored are known here to be refused."""

    input: TextOr[AnyItem]
    model: Name | None = None
    instructions: Text | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Portion | None = None
    text: TextOptions | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    include: Annotated[list[Name], Field(max_length=32)] | None = None
    reasoning: Reasoning | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16), few(16)] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: Name | None = None
    conversation: Name | Members | None = None
    prompt: Members | None = None

    seed: int | None = Field(None, ge=0, lt=2**64)
    stop: Stops | None = None
    top_k: Kept | None = None
    min_p: Least | None = None
    repetition_penalty: Penalty | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        """`max_tool_calls` counts calls of tools that a server runs itself, which there are none of here."""
        caching = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
        return frozenset(("user", "safety_identifier", "service_tier", "max_tool_calls", *caching))

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        yield from super().unknown(place)
        if self.store:
            yield "store", None
        yield from ((f"include.{index}", None) for index, name in enumerate(self.include or ()) if name != LOGPROBS)

    @property
    def items(self) -> list[MessageItem | CallItem | OutputItem | ReasoningItem]:
        """The input as items, whichever way it came."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return list(self.input)
