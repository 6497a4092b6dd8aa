"""How much one caller may ask for: requests at once, and requests in any minute.

Only requests that change or compute something count (POST, PUT, PATCH, DELETE); pages and lists are free. The order in
which waiting requests of several callers begin is the worker's (`Worker`), not a matter of limits.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from paddock.errors import OverloadError
from paddock.serve.access import Caller

MINUTE = 60.0
COUNTED = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Allowance:
    """One caller's. `at_once` and `per_minute` may be None: no limit."""

    def __init__(
        self, at_once: int | None, per_minute: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.at_once, self.per_minute = at_once, per_minute
        self.running = 0
        self._clock = clock
        self._begun: deque[float] = deque()  # when the requests of the last minute began

    def enter(self) -> None:
        """Counts a request; `leave` when it has ended. Raises OverloadError, and counts nothing then."""
        now = self._clock()
        if self.at_once is not None and self.running >= self.at_once:
            raise OverloadError(
                f"{self.running} requests of this key are running already", fix="wait for one of them to end"
            )
        if self.per_minute is not None:
            while self._begun and self._begun[0] <= now - MINUTE:
                self._begun.popleft()
            if len(self._begun) >= self.per_minute:
                wait = max(1, math.ceil(self._begun[0] + MINUTE - now))
                raise OverloadError(
                    f"{self.per_minute} requests a minute are all that this key may make",
                    retry_after=wait,
                    fix=f"try again in {wait} s",
                )
            self._begun.append(now)
        self.running += 1

    def leave(self) -> None:
        self.running -= 1


class Limits:
    """Every caller's allowance. There are as many callers as keys: it does not grow."""

    def __init__(self, at_once: int | None, per_minute: int | None) -> None:
        self._usual = at_once, per_minute
        self._known: dict[str, Allowance] = {}

    def of(self, caller: Caller) -> Allowance:
        allowance = self._known.get(caller.name)
        if allowance is None:
            at_once, per_minute = self._usual
            allowance = self._known[caller.name] = Allowance(
                caller.in_flight or at_once, caller.per_minute or per_minute
            )
        return allowance


class Limited:
    """ASGI: lets a caller's request through while its allowance lasts. Raises OverloadError."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope["state"].get("caller") if scope["type"] == "http" else None
        if caller is None or scope["method"] not in COUNTED:
            await self.app(scope, receive, send)
            return
        allowance = self.limits.of(caller)
        allowance.enter()
        try:
            await self.app(scope, receive, send)
        finally:
            allowance.leave()
