"""Sizes looked at before they happen: what operators, filters and methods of a chat template may make.

Each of these makes something large from something small (`'a' * 2000000000`, `'%999999999d' % 1`, a `join` of a long
separator), in one step that nothing could interrupt. Written for `template_sandbox`, and as light as that.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

MAX_TEXT = 8 * 2**20  # characters of any one string on the way
MAX_ITEMS = 2**20
MAX_BITS = 4096  # of an integer: more cannot be printed by Python 3.11 either
MAX_WIDTH = 10_000  # of padding, and of a number in a format


class RefusedError(Exception):
    """The template asked for something no chat template needs."""


def words(text: str) -> frozenset[str]:
    """The words of `text` as an allow-list."""
    return frozenset(text.split())


def bounded(value: Any) -> Any:
    """`value`, unless it is too large to go on with."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise RefusedError(f"makes a string of {len(value)} characters (the limit is {MAX_TEXT})")
    if isinstance(value, list | tuple | dict) and len(value) > MAX_ITEMS:
        raise RefusedError(f"makes a list of {len(value)} items (the limit is {MAX_ITEMS})")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise RefusedError(f"makes an integer of {value.bit_length()} bits (the limit is {MAX_BITS})")
    return value


def check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise RefusedError(f"makes a string of {size} characters (the limit is {MAX_TEXT})")


def check_width(*values: Any, limit: int = MAX_WIDTH) -> None:
    for value in values:
        if isinstance(value, int | float) and not -limit <= value <= limit:
            raise RefusedError(f"asks for a width of {value} (the limit is {limit})")


WIDE_FORMAT = re.compile(r"\*|\d{5,}")  # in a conversion: a width from the arguments, or one of five digits and more


def check_percent(pattern: Any) -> None:
    """Refuses `%`-formats whose width or precision could be large."""
    if isinstance(pattern, str) and any(WIDE_FORMAT.search(spec) for spec in re.findall(r"%([^A-Za-z%]*)", pattern)):
        raise RefusedError(f"formats with a width above {MAX_WIDTH}")


def check_braces(pattern: str) -> None:
    """Refuses `str.format` patterns whose width or precision could be large, or comes from an argument."""
    specs = re.findall(r"\{[^{}]*?:([^{}]*[{}]?)", pattern)
    if any("{" in spec or WIDE_FORMAT.search(spec.rstrip("}")) for spec in specs):
        raise RefusedError(f"formats with a width above {MAX_WIDTH}")


def check_replace(text: Any, old: Any, new: Any, *_: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    check_size(len(text) + text.count(old) * len(new))


def check_join(separator: Any, items: list[Any]) -> None:
    check_size(len(str(separator)) * len(items) + sum(len(item) for item in items if isinstance(item, str)))


# --- operators ---------------------------------------------------------------------------------------------------


def times(left: Any, right: Any) -> Any:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str) and isinstance(count, int):
            check_size(len(sequence) * count)
        elif isinstance(sequence, list | tuple) and isinstance(count, int) and len(sequence) * count > MAX_ITEMS:
            raise RefusedError(f"makes a list of {len(sequence) * count} items (the limit is {MAX_ITEMS})")
    return bounded(left * right)


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 0) > MAX_BITS:
        raise RefusedError(f"makes an integer of more than {MAX_BITS} bits")
    return left**right


def plus(left: Any, right: Any) -> Any:
    if (
        isinstance(left, str | list | tuple)
        and isinstance(right, str | list | tuple)
        and len(left) + len(right) > (MAX_TEXT if isinstance(left, str) else MAX_ITEMS)
    ):
        raise RefusedError(f"makes something of {len(left) + len(right)} items")
    return bounded(left + right)


def modulo(left: Any, right: Any) -> Any:
    check_percent(left)
    return bounded(left % right)


# --- filters -----------------------------------------------------------------------------------------------------


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as Hugging Face's templates expect it: no HTML escapes, and Python's own separators."""
    if isinstance(indent, int | float):
        check_width(indent, limit=64)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _check_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    each = len(width) if isinstance(width, str) else width
    check_width(each)
    check_size(len(str(text)) + (str(text).count("\n") + 1) * each)


FILTER_CHECKS: dict[str, Callable[..., None]] = {
    "center": lambda _text, width=80: check_width(width),
    "indent": _check_indent,
    "batch": lambda _items, linecount, *_, **__: check_width(linecount),
    "slice": lambda _items, slices, *_, **__: check_width(slices),
    "round": lambda _value, precision=0, *_, **__: check_width(precision, limit=100),
    "format": lambda pattern, *_, **__: check_percent(pattern),
    "replace": check_replace,
}

FILTERS = words(
    "abs batch capitalize center count d default dictsort e escape first float forceescape format groupby "
    "indent int items join last length list lower map max min reject rejectattr replace reverse round safe select "
    "selectattr slice sort string sum title trim truncate unique upper urlencode wordcount"
)


def guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with its arguments looked at before and its result after."""
    check = FILTER_CHECKS.get(name)
    given_by_jinja = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or context comes first

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if check:
            check(*args[given_by_jinja:], **kwargs)
        if name == "join":
            items = list(args[given_by_jinja])
            check_join(args[given_by_jinja + 1] if len(args) > given_by_jinja + 1 else kwargs.get("d", ""), items)
            args = (*args[:given_by_jinja], items, *args[given_by_jinja + 1 :])
        return bounded(function(*args, **kwargs))

    return run
