"""What a list says of one asset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["model", "dataset", "application"]


@dataclass
class Draft:
    """One asset of a list.

    place: "file: asset 3". source: the key of its source. depends: names of what it was made of, as they are spelt, and
    the kind of asset each must be (None: any). values: fields of the schema beside name, organisation, edges, sources.
    """

    kind: Kind
    name: str
    organisation: str
    place: str
    source: str
    depends: dict[str, Kind | None] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Listed:
    """What one file holds. source: the fields of its Source. remarks: what could not be read, with its place."""

    drafts: list[Draft]
    source: dict[str, str]
    remarks: list[str]
