"""The bodies of /v1/rerank and /v1/classify."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paddock.serve.bodies import Body, Part
from paddock.serve.schemas.parts import Text

MAX_DOCUMENTS = 2048
Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


class Document(Part):
    text: Text


class RerankBody(Body):
    """Documents to put in the order in which they answer a query. `truncate` cuts long ones at their end."""

    query: Text
    documents: list[Text | Document] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    model: str | None = Field(None, max_length=256)
    top_n: int | None = Field(None, ge=1, le=2**31)
    return_documents: bool = False
    truncate: bool = False

    @property
    def texts(self) -> list[str]:
        return [item if isinstance(item, str) else item.text for item in self.documents]


class ClassifyBody(Body):
    """One text or several to be put into the classes that the model was fine-tuned for; a list of two texts within the
    list is a pair that is read together."""

    input: Text | Annotated[list[Text | Pair], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    model: str | None = Field(None, max_length=256)

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset({"user"})

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """Each one text, or two."""
        items = [self.input] if isinstance(self.input, str) else self.input
        return [(item,) if isinstance(item, str) else tuple(item) for item in items]
