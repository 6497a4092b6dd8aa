"""What all request bodies share: strict types, bounds on everything, and nothing passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from paddock.errors import did_you_mean
from paddock.serve.accesslog import escaped
from paddock.serve.refusals import BadRequest

IGNORED = "X-Paddock-Ignored"
MOST_TOLD = 16  # fields that are named as ignored: a body may hold a million of them
LONGEST_TOLD = 64  # characters of such a name


class Part(BaseModel):
    """A body, or an object inside one. A number is a number, not a word that spells one; fields nobody knows are kept
    to be told of. `harmless`: fields that clients send along and that change no answer.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset()

    def unknown(self, place: str = "") -> Iterator[tuple[str, str | None]]:
        """Each field without effect, in here and in the parts below: where it stands, and what may have been meant."""
        known = {field.alias or name: name for name, field in type(self).model_fields.items()}
        harmless = self.harmless()
        for name in self.model_extra or ():
            if name not in harmless:
                name = name[:LONGEST_TOLD]
                yield place + name, did_you_mean(name, known)
        for alias, name in known.items():
            yield from _unknown_in(getattr(self, name), f"{place}{alias}.")


class Body(Part):
    """A request's body."""

    def ignored(self, strict: bool) -> list[str]:
        """Names of the first MOST_TOLD fields without effect. Raises BadRequest for them where `strict`."""
        found = list(islice(self.unknown(), 1 if strict else MOST_TOLD))
        if found and strict:
            name, fix = found[0]
            what = f"the field {name!r} would have no effect"
            raise BadRequest(what, param=name, code="unsupported_parameter", fix=fix)
        return [name for name, _ in found]


def _unknown_in(value: Any, place: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, Part):
        yield from value.unknown(place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_in(item, f"{place}{index}.")


def tell_ignored(response: Response, names: list[str]) -> None:
    """Names the fields that had no effect in a header, which takes no line breaks and no blanks at its ends."""
    if names:
        shown = [escaped(name).replace(" ", "\\x20")[:LONGEST_TOLD] for name in names[:MOST_TOLD]]
        response.headers[IGNORED] = ", ".join(shown)
