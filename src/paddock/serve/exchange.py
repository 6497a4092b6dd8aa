"""What a server sends, as a client reads it: bounded bytes, events, and refusals that become Paddock's own errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from paddock.errors import (
    AccessError,
    ContextLengthError,
    NotFoundError,
    OverloadError,
    PaddockError,
    ServiceError,
    UsageError,
)

MAX_ANSWER = 256 * 2**20  # bytes; a batch of 2,048 vectors takes tens of millions
MAX_LINE = 16 * 2**20
MAX_REFUSAL = 2**16
LONGEST_RETRY = 24 * 3600


class Unreachable(ServiceError):
    """No server took the connection."""


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Turns what may happen to a connection into a ServiceError that names the address."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        fix = "start one with: paddock serve, or name another with --url"
        raise Unreachable(f"no server answers at {url}", fix=fix) from None
    except httpx.TimeoutException:
        raise ServiceError(f"the server at {url} has gone silent", fix="look at its log, or allow more time") from None
    except (httpx.HTTPError, httpx.StreamError):
        raise ServiceError(f"the connection to {url} broke off", fix="try again") from None


@contextlib.contextmanager
def sound() -> Iterator[None]:
    """Turns a value that is not what OpenAI's API has into a ServiceError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise ServiceError("what the server sent is not in the shape of OpenAI's API") from None


def body_of(response: httpx.Response, most: int = MAX_ANSWER) -> bytes:
    """All of a response's body. Raises ServiceError for more than `most` bytes."""
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > most:
            raise ServiceError(f"the server's answer is too large, over {most} bytes")
    return b"".join(parts)


def parsed(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ServiceError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ServiceError("what the server sent is no JSON object", fix="is this the address of a model server?")
    return value


def events_of(parts: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of a stream of server-sent events, to its [DONE]. Raises what an error event means.

    Lines end with a line feed alone, as JSON may hold other characters that end lines in Unicode.
    """
    for line in _lines(parts):
        if not line.startswith(b"data:"):
            continue  # a comment that says that the connection lives, or a field without meaning here
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        event = parsed(data)
        if "error" in event:
            raise _meant(0, event["error"], 1)
        yield event
    raise ServiceError("the server's answer broke off before its end", fix="try again")


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE:
            raise ServiceError(f"the server sent a line of more than {MAX_LINE} bytes")


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> PaddockError:
    """The error that a response other than 200 means."""
    try:
        given = json.loads(body).get("error")
    except (ValueError, RecursionError, AttributeError):
        given = None
    retry = headers.get("Retry-After", "")
    seconds = min(int(retry), LONGEST_RETRY) if retry.isascii() and retry.isdigit() else 1
    return _meant(status, given, seconds)


def _meant(status: int, given: Any, retry_after: int) -> PaddockError:
    """An error object as ours. Without a status (an event of a stream) its type and code say what kind it is."""
    error = given if isinstance(given, dict) else {"message": given}
    message, code, kind = error.get("message"), error.get("code"), error.get("type")
    what = (
        _printable(message) if isinstance(message, str) and message else f"the server answered {status or 'an error'}"
    )
    if code == "context_length_exceeded":
        return ContextLengthError(what)
    if status == 401 or kind == "authentication_error":
        return AccessError(what, fix="give the key with api_key or PADDOCK_API_KEY")
    if status == 403 or kind == "permission_error":
        return AccessError(what, known=True)
    if status == 404 or kind == "not_found_error":
        return NotFoundError(what)
    if status == 429 or kind == "rate_limit_error":
        return OverloadError(what, retry_after=retry_after)
    if status == 503 or code == "server_unavailable":
        return OverloadError(what, retry_after=retry_after, down=True)
    if 400 <= status < 500 or kind == "invalid_request_error":
        return UsageError(what)
    if 300 <= status < 400:
        return ServiceError(f"the server answered {status} and named another address", fix="name that one yourself")
    return PaddockError(what)


def _printable(text: str) -> str:
    """What a server says may go to a terminal: nothing in it may steer one."""
    return "".join(character if character.isprintable() else " " for character in text)
