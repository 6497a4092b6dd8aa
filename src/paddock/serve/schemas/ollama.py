"""The bodies of Ollama's /api addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from paddock.engine.request import MAX_LOGPROBS
from paddock.serve.bodies import Body, Part
from paddock.serve.schemas.parts import (
    MAX_ITEMS,
    MAX_TOOLS,
    ONE,
    Kept,
    Least,
    Members,
    Name,
    Penalty,
    Portion,
    Shift,
    Temperature,
    Text,
    TextOr,
    ToolName,
)
from paddock.serve.schemas.sampled import Stops

Format = Literal["", "json"] | Members
Think = bool | Literal["low", "medium", "high"]
Keep = Annotated[float, Field(ge=-(2**31), le=2**31)] | Annotated[str, Field(max_length=32)]
Images = Annotated[list[Text], Field(max_length=64)]


class Options(Part):
    """How to sample, and how to run. Of the latter only `num_ctx` means something here: it is refused where it is more
    than the model is served with."""

    num_predict: int | None = Field(default=None, ge=-2, le=2**31)
    num_ctx: int | None = Field(default=None, ge=1, le=2**31)
    seed: int | None = Field(default=None, ge=-1, lt=2**63)
    stop: Stops | None = None
    temperature: Temperature | None = None
    top_k: Kept | None = None
    top_p: Portion | None = None
    min_p: Least | None = None
    typical_p: Portion | None = None
    repeat_penalty: Penalty | None = None
    presence_penalty: Shift | None = None
    frequency_penalty: Shift | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        """Where and how fast a model runs, and what of a prompt a server keeps that cuts prompts: none does here."""
        return frozenset(
            ("numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap",
             "use_mlock", "embedding_only", "num_thread", "num_keep")
        )  # fmt: skip


class Function(Part):
    name: Name
    arguments: Members

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("index",))


class Call(Part):
    id: Name | None = None
    function: Function

    def plain(self) -> dict[str, Any]:
        """The call in chat's form, where arguments are text."""
        arguments = json.dumps(self.function.arguments, ensure_ascii=False)
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("type",))


class Message(Part):
    """Earlier thoughts are not shown to a model again; that they had no effect is told."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    thinking: Text | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MAX_TOOLS)] | None = None
    tool_name: Name | None = None
    tool_call_id: Name | None = None
    images: Images | None = None

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        yield from super().unknown(place)
        if self.thinking:
            yield f"{place}thinking", None


class ToolFunction(Part):
    name: ToolName
    description: Text | None = None
    parameters: Members | None = None

    def plain(self) -> dict[str, Any]:
        """The function as templates show it."""
        return self.model_dump(include={"name", "description", "parameters"}, exclude_none=True)


class Tool(Part):
    type: Literal["function"] = "function"
    function: ToolFunction


class Named(Body):
    """A body that names a model; it stays loaded whatever `keep_alive` says."""

    model: Name
    keep_alive: Keep | None = None


class Answered(Named):
    """What chat and generate share."""

    stream: bool | None = None  # Ollama streams unless told not to
    format: Format | None = None
    options: Options | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)


class ChatBody(Answered):
    messages: Annotated[list[Message], Field(max_length=MAX_ITEMS), ONE] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None


class GenerateBody(Answered):
    """`suffix`, `template`, `context` and `images` are known to be refused."""

    prompt: Text | None = None
    system: Text | None = None
    raw: bool | None = None
    suffix: Text | None = None
    template: Text | None = None
    context: Annotated[list[int], Field(max_length=2**20), ONE] | None = None
    images: Images | None = None


class EmbedBody(Named):
    input: TextOr[Text]
    truncate: bool | None = None
    dimensions: int | None = Field(default=None, ge=1, le=2**20)
    options: Options | None = None


class EmbeddingsBody(Named):
    prompt: Text
    options: Options | None = None


class ShowBody(Body):
    model: Name | None = None
    name: Name | None = None
    verbose: bool | None = None
