"""GGUF files field by field, for making them wrong one field at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


@dataclass
class Field:
    """One number or string of bytes; `kind` is "count" for counts and lengths, which hostile files lie about."""

    label: str
    data: bytes
    kind: str = ""


def number(label: str, form: str, value: Any, kind: str = "") -> Field:
    return Field(label, struct.pack("<" + form, value), kind)


def string(label: str, text: bytes) -> list[Field]:
    return [number(f"{label} length", "Q", len(text), "count"), Field(label, text)]


def value(label: str, kind: int, content: Any) -> list[Field]:
    """The fields of one value; an array's content is (item type, items)."""
    if kind == STRING:
        return string(label, content)
    if kind != ARRAY:
        return [number(label, FORMS[kind], content)]
    item, items = content
    fields = [number(f"{label} item type", "I", item, "type"), number(f"{label} items", "Q", len(items), "count")]
    for at, each in enumerate(items):
        fields += value(f"{label}[{at}]", item, each)
    return fields


def key(name: bytes, kind: int, content: Any) -> list[Field]:
    label = name.decode(errors="replace")
    return [*string(f"key {label}", name), number(f"{label} type", "I", kind, "type"), *value(label, kind, content)]


def tensor(name: bytes, dims: list[int], kind: int, offset: int) -> list[Field]:
    label = name.decode(errors="replace")
    fields = [*string(f"tensor {label}", name), number(f"{label} dims", "I", len(dims), "small")]
    fields += [number(f"{label} dim {at}", "Q", extent, "count") for at, extent in enumerate(dims)]
    return [*fields, number(f"{label} type", "I", kind, "type"), number(f"{label} offset", "Q", offset, "count")]


def file(keys: list[list[Field]], tensors: list[list[Field]], data: bytes, **other: Any) -> list[Field]:
    """All fields of a file; `data` follows at the next multiple of `alignment`."""
    fields = [Field("magic", other.get("magic", b"GGUF")), number("version", "I", other.get("version", 3), "small")]
    fields += [number("tensors", "Q", len(tensors), "count"), number("keys", "Q", len(keys), "count")]
    fields += [field for entry in (*keys, *tensors) for field in entry]
    head = len(joined(fields))
    padding = -head % other.get("alignment", 32)
    return [*fields, Field("padding", b"\0" * padding), Field("data", data)]


def joined(fields: list[Field]) -> bytes:
    return b"".join(field.data for field in fields)


def sample() -> list[Field]:
    """Every value type, and tensors of several: 4 × F32, 2 × 32 × Q8_0, 3 × F16."""
    keys = [
        key(b"general.architecture", STRING, b"llama"),
        key(b"u8", U8, 7),
        key(b"i64", I64, -7),
        key(b"half", F64, 0.5),
        key(b"yes", BOOL, 1),
        key(b"words", ARRAY, (STRING, [b"a", "é▁".encode(), b"\xe9\x80"])),
        key(b"scores", ARRAY, (F32, [0.5, -1.0, 2.0])),
        key(b"flags", ARRAY, (BOOL, [1, 0])),
    ]
    tensors = [tensor(b"a", [4], 0, 0), tensor(b"b", [32, 2], 8, 32), tensor(b"c", [3, 1], 1, 128)]
    blocks = b"".join(struct.pack("<e32b", scale, *range(-16, 16)) for scale in (0.25, 0.5))
    data = struct.pack("<4f", 1, 2, 3, 4).ljust(32, b"\0") + blocks.ljust(96, b"\0") + struct.pack("<3e", 1, 2, 3)
    return file(keys, tensors, data)
