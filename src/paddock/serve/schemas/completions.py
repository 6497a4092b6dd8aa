"""The body of /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from paddock.engine.request import MAX_LOGPROBS
from paddock.serve.asking import MAX_PROMPTS
from paddock.serve.schemas.parts import ONE, Text
from paddock.serve.schemas.sampled import SampledBody

MAX_IDS = 2**20
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_IDS), ONE]


def _form(value: Any) -> str:
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "lists of ids"
    return "texts" if isinstance(first, str) else "ids"


Prompts = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS), Tag("texts")]
    | Annotated[Ids, Tag("ids")]
    | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS), ONE, Tag("lists of ids")],
    Discriminator(_form),
]


class CompletionBody(SampledBody):
    """Fields are OpenAI's. max_tokens: 0 writes nothing, for the log-probabilities of a prompt (with `echo`).

    prompt: one text or several, or one or several lists of token ids. logprobs: likely alternatives told per token.
    """

    prompt: Prompts
    max_tokens: int | None = Field(None, ge=0, le=2**31)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=20)
    suffix: Text | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """An item for each prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
