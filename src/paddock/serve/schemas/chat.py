"""The body of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from paddock.engine.request import MAX_LOGPROBS
from paddock.serve.bodies import Part
from paddock.serve.schemas.parts import MAX_ITEMS, MAX_TOOLS, ONE, Count, Members, Name, Text, TextOr, ToolName
from paddock.serve.schemas.sampled import SampledBody

MAX_MESSAGES = MAX_ITEMS


def _only_text(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "text":
        raise PydanticCustomError("part", "a part of type {kind} cannot be read here, only text", {"kind": kind[:40]})
    return kind


class TextPart(Part):
    type: Annotated[Literal["text"], BeforeValidator(_only_text)]
    text: Text


class CalledFunction(Part):
    name: Name
    arguments: Text

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": self.arguments}


class Call(Part):
    """A call that the model made earlier."""

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction

    def plain(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": self.function.plain()}


class Message(Part):
    """A turn of the conversation. An assistant's may have no content where it has tool_calls."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: TextOr[TextPart] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Name | None = None
    reasoning_content: Text | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("refusal", "annotations"))

    def plain(self) -> dict[str, Any]:
        """The turn as templates read it; of fields nobody knows, nothing."""
        content: Any = self.content
        if isinstance(content, list):
            content = [{"type": "text", "text": part.text} for part in content]
        calls = [
            {"id": call.id, "type": "function", "function": call.function.plain()} for call in self.tool_calls or ()
        ]
        turn = {
            "role": self.role,
            "content": content,
            "name": self.name,
            "tool_calls": calls or None,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self.reasoning_content,
        }
        return {name: value for name, value in turn.items() if value is not None}


class Function(Part):
    name: ToolName
    description: Text | None = None
    parameters: Members | None = None
    strict: bool | None = None

    def plain(self) -> dict[str, Any]:
        """The function as templates show it."""
        return self.model_dump(include={"name", "description", "parameters", "strict"}, exclude_none=True)


class Tool(Part):
    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        return {"type": "function", "function": self.function.plain()}


class NamedFunction(Part):
    name: ToolName


class NamedTool(Part):
    type: Literal["function"]
    function: NamedFunction

    def plain(self) -> dict[str, Any]:
        return {"type": "function", "function": {"name": self.function.name}}


class PlainFormat(Part):
    type: Literal["text", "json_object"]


class Schema(Part):
    name: str | None = Field(None, max_length=256)
    description: Text | None = None
    schema_: Members | None = Field(None, alias="schema")
    strict: bool | None = None


class SchemaFormat(Part):
    type: Literal["json_schema"]
    json_schema: Schema


def _is_named(value: Any) -> str:
    return "named" if isinstance(value, dict | NamedTool) else "word"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[NamedTool, Tag("named")],
    Discriminator(_is_named),
]


class ChatBody(SampledBody):
    """Fields are OpenAI's, and those that vLLM adds: chat_template_kwargs are the template's own variables."""

    messages: Annotated[list[Message], ONE] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: Members | None = None
