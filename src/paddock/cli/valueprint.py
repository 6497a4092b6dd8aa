"""A frozen value (an Architecture) as indented text, without what is left at its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import groupby
from typing import Any

WIDTH = 100


def value_text(value: Any, indent: str = "", taken: int = 0) -> str:
    """`value` on one line if that is short, else a line per field; equal neighbours in a tuple are counted.

    `taken`: characters of the first line that are there already.
    """
    flat = _flat(value)
    if max(taken, len(indent)) + len(flat) < WIDTH:
        return flat
    inner = indent + "    "
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        lines = [_line(f"{inner}{name}=", item, inner) for name, item in _fields(value)]
        return "\n".join([f"{type(value).__name__}(", *lines, f"{indent})"])
    if isinstance(value, tuple):
        lines = [_line(f"{inner}{count}", item, inner) for count, item in _runs(value)]
        return "\n".join(["(", *lines, f"{indent})"])
    return flat


def _line(start: str, item: Any, indent: str) -> str:
    return f"{start}{value_text(item, indent, len(start))},"


def value_record(value: Any) -> Any:
    """`value` as JSON's types, each part with the name of its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: value_record(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [value_record(item) for item in value]
    return value


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item != field.default:
            yield field.name, item


def _flat(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(f'{name}={_flat(item)}' for name, item in _fields(value))})"
    if isinstance(value, tuple):
        return "(" + ", ".join(count + _flat(item) for count, item in _runs(value)) + ")"
    return repr(value)


def _runs(values: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """("3 x ", item) for each run of equal neighbours that are parts; numbers and words one by one."""
    for item, run in groupby(values):
        count = len(list(run))
        if dataclasses.is_dataclass(item) and count > 1:
            yield f"{count} x ", item
        else:
            yield from [("", item)] * count
