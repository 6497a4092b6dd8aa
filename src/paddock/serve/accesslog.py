"""One line for each request: when, its id, whose it was, what it asked for and how that ended. Never what was said.

    2026-11-22T09:30:00.123Z 4be1... key-1 POST /v1/chat/completions 200 812.4ms in=24 out=128

A key, a prompt or an answer cannot stand in it, and what a client chose (its id, the address) is escaped: a line is a
line. Addresses that are asked all the time (/health, /ready, /metrics) are logged only when they fail.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUIET = frozenset({"/health", "/ready", "/metrics"})
LONGEST_PATH = 200
log = logging.getLogger("paddock.access")


@dataclass
class Entry:
    """What the line of one request will tell; `count` adds tokens, in a request that reads or writes any."""

    scope: Scope
    read: int | None = None
    written: int | None = None

    @property
    def id(self) -> str:
        return str(self.scope["state"].get("request_id", "-"))

    def count(self, read: int, written: int) -> None:
        self.read = (self.read or 0) + read
        self.written = (self.written or 0) + written

    def line(self, status: int, seconds: float, whole: bool) -> str:
        caller = getattr(self.scope["state"].get("caller"), "name", "-")
        path = quote(self.scope["path"][:LONGEST_PATH].encode("utf-8", "replace"), safe="/:._~-")
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        words = [now, self.id, caller, self.scope["method"], path, str(status), f"{seconds * 1000:.1f}ms"]
        if self.read is not None:
            words += [f"in={self.read}", f"out={self.written}"]
        if not whole:
            words.append("cut")
        return " ".join(map(escaped, words))


_entry: ContextVar[Entry | None] = ContextVar("entry", default=None)


def entry() -> Entry | None:
    """The line of the request that is being answered; tasks and threads that it started know it too."""
    return _entry.get()


def escaped(text: str) -> str:
    """`text` in printable ASCII, without line breaks or what a terminal would obey."""
    return text.encode("unicode_escape").decode("ascii")


class AccessLog:
    """ASGI, the outermost: writes the line when a response has been sent, or broken off ("cut")."""

    def __init__(self, app: ASGIApp, on: bool = True) -> None:
        self.app, self.on = app, on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.on:
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        own, status, whole, started = Entry(scope), 500, False, time.monotonic()

        async def seen(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                whole = True
            await send(message)

        token = _entry.set(own)
        try:
            await self.app(scope, receive, seen)
        finally:
            _entry.reset(token)
            if status >= 400 or not whole or scope["path"] not in QUIET:
                log.info("%s", own.line(status, time.monotonic() - started, whole))


class Plain(logging.Formatter):
    """Log lines of the whole program as they are; an exception is told by its kind and place, never by its message,
    which may quote a prompt."""

    def formatException(self, ei: Any) -> str:
        lines = [f"{type(ei[1]).__name__}"]
        place = ei[2]
        while place is not None:
            code = place.tb_frame.f_code
            lines.append(f"  {code.co_filename}:{place.tb_lineno} in {code.co_qualname}")
            place = place.tb_next
        return "\n".join(lines)
