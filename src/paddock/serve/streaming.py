"""Answers over HTTP: streamed with a limit on stalled readers, whole with an eye on who hung up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from paddock.errors import PaddockError
from paddock.serve.refusals import body_of

STALL_SECONDS = 30.0  # that one piece may take to be read by the client
PING_SECONDS = 15.0  # of silence before a comment tells that the connection lives
Result = TypeVar("Result")


class ClientGone(Exception):
    """Nobody reads the answer any more."""


def compact(value: Any) -> str:
    """JSON in one line. What is not a number in JSON cannot come: log-probabilities of minus infinity are clipped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def sse(value: Any, event: str | None = None) -> str:
    """One server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {value if isinstance(value, str) else compact(value)}\n\n"


class Stream(StreamingResponse):
    """Pieces of text as they come. A reader that takes nothing for STALL_SECONDS is hung up on."""

    def __init__(self, pieces: AsyncIterator[str], media_type: str = "text/event-stream") -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(pieces, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            await asyncio.wait_for(send(message), STALL_SECONDS)

        with contextlib.suppress(TimeoutError):
            await super().__call__(scope, receive, patient)


async def with_pings(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """`pieces`, and comments in between while none comes (server-sent events only)."""
    source = aiter(pieces)
    upcoming: asyncio.Future[str] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(source))
            while not (await asyncio.wait((upcoming,), timeout=PING_SECONDS))[0]:
                yield ": still here\n\n"
            try:
                piece = upcoming.result()
            except StopAsyncIteration:
                return
            yield piece
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            with contextlib.suppress(BaseException):
                await upcoming
        await source.aclose()  # type: ignore[attr-defined]


async def guarded(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """OpenAI's stream: a failure after the first byte becomes an error event; `[DONE]` only comes on success."""
    try:
        async for piece in pieces:
            yield piece
    except PaddockError as error:
        yield sse(body_of(error))
    except Exception:
        yield sse(body_of(PaddockError("the answer broke off inside the server")))
        raise
    else:
        yield "data: [DONE]\n\n"


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientGone then."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for future in (task, leaving):
            future.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def gone_response() -> Response:
    """What nobody reads; 499 is for the access log."""
    return Response(status_code=499)
