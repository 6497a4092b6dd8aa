"""The bodies of /tokenize and /detokenize."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from paddock.serve.bodies import Body
from paddock.serve.schemas.chat import MAX_MESSAGES, Message, Tool
from paddock.serve.schemas.parts import MAX_TOOLS, ONE, Members, Text

MAX_TOKENS = 2**20
Id = Annotated[int, Field(ge=0, lt=2**31)]


class TokenizeBody(Body):
    """A text, or a conversation. `add_special_tokens` is for texts: templates write what they want themselves."""

    model: str | None = Field(None, max_length=256)
    prompt: Text | None = None
    messages: Annotated[list[Message], ONE] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    chat_template_kwargs: Members | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool | None = None
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> TokenizeBody:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.prompt is not None and (self.tools is not None or self.chat_template_kwargs is not None):
            raise ValueError("tools and chat_template_kwargs go with messages")
        if self.messages is not None and self.add_special_tokens is not None:
            raise ValueError("add_special_tokens goes with prompt: a chat template writes its own")
        return self


class DetokenizeBody(Body):
    """Ids to text. Control tokens are spelt out unless `skip_special_tokens`."""

    model: str | None = Field(None, max_length=256)
    tokens: Annotated[list[Id], ONE] = Field(max_length=MAX_TOKENS)
    skip_special_tokens: bool = False
