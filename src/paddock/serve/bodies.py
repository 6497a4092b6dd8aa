"""What all request bodies share: strict types, bounds on everything, and nothing passed over in silence."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from paddock.errors import did_you_mean
from paddock.serve.refusals import BadRequest

IGNORED = "X-Paddock-Ignored"


class Body(BaseModel):
    """A request's body. A number is a number, not a word that spells one; fields nobody knows are kept to be told of.

    `harmless`: fields that clients send along and that change no answer.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset()

    def ignored(self, strict: bool) -> list[str]:
        """Names of fields without effect. Raises BadRequest for them where `strict`."""
        names = sorted((self.model_extra or {}).keys() - self.harmless())
        if names and strict:
            raise BadRequest(
                f"unknown field {names[0]!r}",
                param=names[0],
                code="unsupported_parameter",
                fix=did_you_mean(names[0], type(self).model_fields),
            )
        return names


def tell_ignored(response: Response, names: list[str]) -> None:
    """Names the fields that had no effect in a header."""
    if names:
        shown: list[Any] = [name.encode("ascii", "backslashreplace").decode()[:64] for name in names[:16]]
        response.headers[IGNORED] = ", ".join(shown)
