"""The body of /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paddock.serve.bodies import Body
from paddock.serve.schemas.parts import ONE, Text
from paddock.serve.schemas.tokens import MAX_TOKENS, Id

MAX_TEXTS = 2048
Ids = Annotated[list[Id], Field(min_length=1, max_length=MAX_TOKENS), ONE]


class EmbeddingsBody(Body):
    """One text or several, as text or as token ids (which are read as they are).

    truncate: cut what is too long at its end, and say so; truncate_prompt_tokens: cut to so many tokens, -1 to what
    the model takes. Nothing is cut unasked.
    """

    input: (
        Text
        | Ids
        | Annotated[Annotated[list[Text], ONE] | Annotated[list[Ids], ONE], Field(min_length=1, max_length=MAX_TEXTS)]
    )
    model: str | None = Field(None, max_length=256)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=2**31)
    truncate: bool = False
    truncate_prompt_tokens: int | None = Field(None, ge=-1, le=MAX_TOKENS)

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset({"user"})

    @property
    def texts(self) -> list[str | list[int]]:
        """The input, an item for each vector."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return list(self.input)
