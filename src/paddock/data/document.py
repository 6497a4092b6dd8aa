"""The record that readers give and cleaning passes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Document:
    """One text and where it is from. `place` is for messages: file and line, or row."""

    text: str
    place: str
    meta: Mapping[str, Any] = field(default_factory=dict)
