"""When a server takes work: not before its models are loaded, not while it drains, not after its engine died."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from paddock.errors import OverloadError
from paddock.serve.server import Server, State

ALWAYS = frozenset({"/", "/health", "/ready", "/metrics", "/login", "/logout", "/session"})  # need no model
PAGE = "/assets/"  # nor does the page, which says what the server waits for
WHY: dict[State, tuple[str, int]] = {
    "loading": ("the models are still being loaded", 2),
    "draining": ("the server is shutting down", 10),
    "down": ("the engine is down", 30),
}


class Lifecycle:
    """ASGI: counts the requests that are being answered. Raises OverloadError where no new ones are taken."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS or scope["path"].startswith(PAGE):
            await self.app(scope, receive, send)
            return
        server = self.server
        if server.state != "ready":
            if server.draining:  # whoever asks again does so elsewhere
                scope["state"]["headers"].append((b"connection", b"close"))
            raise refusal(server.state)
        server.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            server.in_flight -= 1


def refusal(state: State) -> OverloadError:
    what, seconds = WHY[state]
    return OverloadError(what, down=True, retry_after=seconds)
