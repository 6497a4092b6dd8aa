"""JSON as it comes off the wire: what two readers could read differently, or what costs far more to read than to send,
is refused before anything is made of it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

import numpy as np

from paddock.serve.refusals import BadRequest

MAX_DEPTH = 64
MAX_VALUES = 2**20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def check_json(data: bytes) -> None:
    """Raises BadRequest for what is not one JSON value in UTF-8: nested at most MAX_DEPTH deep, of at most MAX_VALUES
    values, each name once in its object, every number a finite one, no half of a surrogate pair."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start}") from None
    depth, values = _measured(data)
    if depth > MAX_DEPTH:
        raise BadRequest(f"the body is nested more than {MAX_DEPTH} levels deep")
    if values > MAX_VALUES:
        raise BadRequest(f"the body holds more than {MAX_VALUES} values")
    value = _parsed(text)
    if _SURROGATE.search(data):
        _check_surrogates(value)


def _measured(data: bytes) -> tuple[int, int]:
    """How deep brackets nest at most and how many values commas part, as far as it is JSON; no parser gets further."""
    plain = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    outside = np.cumsum(plain == ord('"'), dtype=np.int32) % 2 == 0
    opening = ((plain == ord("[")) | (plain == ord("{"))) & outside
    closing = ((plain == ord("]")) | (plain == ord("}"))) & outside
    depth = np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32).max(initial=0)
    return int(depth), 1 + int(np.count_nonzero((plain == ord(",")) & outside))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # int() of thousands of digits
        raise BadRequest("the body holds a number of thousands of digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRequest(f"the body names {twice[:80]!a} twice in one object")
    return found


def _no_number(word: str) -> NoReturn:
    raise BadRequest(f"the body holds {word}, which is not a number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadRequest("the body holds a number too large for a float")
    return value


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("the body holds half of a surrogate pair, which is no character") from None
