"""Writes TOML; the standard library only reads it.

What `dumps` gives is read back equal by tomllib: tables, arrays of tables, and inline values below them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")
ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
# Control characters that TOML wants escaped, and line ends of Unicode that editors break lines at.
SPECIAL = re.compile('[\x00-\x1f\x7f-\x9f"\\\\\u2028\u2029]')


def dumps(document: Mapping[str, Any]) -> str:
    """`document` as TOML: strings, whole numbers, floats, true and false, lists and mappings of these.

    A non-empty list of mappings becomes an array of tables, except within one that is inline. Raises TypeError for
    other values (TOML has no null) and ValueError for strings that are not Unicode.
    """
    lines = list(_table(document, ()))
    return "\n".join(lines).lstrip("\n") + "\n" if lines else ""


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Plain values first: below the first header of a table within, they would belong to that one."""
    inner = {key: value for key, value in table.items() if _is_table(value, path) or _is_array(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        here = (*path, key)
        name = ".".join(map(_key, here))
        if isinstance(value, Mapping):
            yield from ("", f"[{name}]")
            yield from _table(value, here)
            continue
        for item in value:
            yield from ("", f"[[{name}]]")
            yield from _table(item, here)


def _is_table(value: Any, path: tuple[str, ...]) -> bool:
    """Mappings near the top get a header; deeper ones are short, and stand in one line."""
    return isinstance(value, Mapping) and (not path or path == ("source",))


def _is_array(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    text.encode("utf-8")  # half a surrogate pair cannot be written
    return '"' + SPECIAL.sub(lambda match: ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}", text) + '"'


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no place for {type(value).__name__}")
