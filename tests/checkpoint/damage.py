"""Structural damage to JSON and to bytes, each case decided by a seed: most byte flips in a header die as bad UTF-8."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400,
    -(2**63), 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), "", "1", "x", "F32", "float16", "é😀", "\x00",
    "../x", "a" * 3000, [], {}, [[]], [None], [0], [-1], [2**62, 4], [1.5], ["x"], {"": 0}, {"a": {"b": []}},
]  # fmt: skip
TWICE = "\u0001twice:"


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node."""
    found = [path]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        found += nodes(child, (*path, key))
    return found


def mutate(value: Any, rng: random.Random, times: int = 1) -> str:
    """JSON text of a value with some nodes replaced, removed, repeated or renamed; sometimes not quite JSON."""
    for _ in range(times):
        value = json.loads(json.dumps(value))  # a copy that shares nothing with ODD
        *path, last = rng.choice([path for path in nodes(value) if path] or [("",)])
        parent = value
        for key in path:
            parent = parent[key]
        if isinstance(parent, dict | list) and parent:
            _change(parent, last, rng)
    text = json.dumps(value).replace(json.dumps(TWICE)[1:-1], "")
    return text if rng.random() < 0.97 else text.replace(":", rng.choice([",", "::", ":-", ":\t0"]), 1)


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    keys = list(parent) if isinstance(parent, dict) else range(len(parent))
    match rng.randrange(7):
        case 0 | 1:
            parent[key] = rng.choice(ODD)
        case 2:
            del parent[key]
        case 3 if isinstance(parent, dict):
            parent[TWICE + key] = parent[key]
        case 4:
            other = rng.choice(list(keys))
            parent[key], parent[other] = parent[other], parent[key]
        case 5 if isinstance(parent[key], int | float):
            parent[key] = rng.choice(
                [parent[key] + 1, parent[key] - 1, -parent[key], parent[key] * 2**40, str(parent[key])]
            )
        case _ if isinstance(parent, dict):
            parent[rng.choice(["unknown", "_private", "", "a.b", "\ud800", f"{key}"])] = parent[key]
        case _:
            parent.insert(0, rng.choice(ODD))


def spoil(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, repeated or overwritten with extreme numbers."""
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + rng.choice([b"\xff" * 8, b"\x00" * 8, (2**63).to_bytes(8, "little")]) + data[at + 8 :]
        case 3:
            return data[:at] + data[at // 2 : at] + data[at:]
        case _:
            return data + data[:at]
