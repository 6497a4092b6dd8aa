"""Answers over HTTP: streamed with a limit on stalled readers, whole with an eye on who hung up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from paddock.errors import PaddockError
from paddock.serve.refusals import body_of

STALL_SECONDS = 30.0  # that one piece may take to be read by the client
PING_SECONDS = 15.0  # of silence before a comment tells that the connection lives
PING = ": still here\n\n"
SSE = "text/event-stream"
Result = TypeVar("Result")
Pieces = AsyncGenerator[str, None]


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
    """Pieces of text as they come, with a `ping` where none comes for PING_SECONDS (server-sent events only).

    A reader that takes nothing for STALL_SECONDS is hung up on. `ending` is called once it is over, however it ends,
    also where it never began: there the pieces' own `finally` does not run.
    """

    def __init__(
        self,
        pieces: Pieces,
        media_type: str = SSE,
        *,
        ending: Callable[[], None] | None = None,
        ping: str = PING,
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._pieces, self._ending = pieces, ending
        self._ping = ping.encode() if media_type == SSE else None
        self._sent = time.monotonic()  # when the last piece went, or began to go
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.ensure_future(self._write(send))
        tasks = (writing, asyncio.ensure_future(_hung_up(receive)), asyncio.ensure_future(self._watch(send)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._ending is not None:
                self._ending()
            await self._pieces.aclose()
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces:
            if not piece:  # a token whose text is held back
                continue
            self._sent, self._sending = time.monotonic(), True
            await send(_body(piece.encode()))
            self._sending = False
        await send(_body(b"", more=False))

    async def _watch(self, send: Send) -> None:
        """Pings in silence; returns once the reader has stalled. One task a stream costs less than a timer a piece."""
        while True:
            await asyncio.sleep(min(STALL_SECONDS, PING_SECONDS) / 8)
            silent = time.monotonic() - self._sent
            if self._sending and silent > STALL_SECONDS:
                return
            if self._ping is not None and not self._sending and silent > PING_SECONDS:
                self._sent = time.monotonic()
                try:
                    await asyncio.wait_for(send(_body(self._ping)), STALL_SECONDS)
                except TimeoutError:
                    return


def _body(content: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def guarded(pieces: Pieces) -> Pieces:
    """OpenAI's stream: a failure after the first byte becomes an error event; `[DONE]` only comes on success."""
    async with aclosing(pieces):
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
    leaving = asyncio.ensure_future(_hung_up(request.receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for future in (task, leaving):
            future.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def gone_response() -> Response:
    """What nobody reads; 499 is for the access log."""
    return Response(status_code=499)
