"""One client's connection: as uvicorn has it, but nobody holds one open without asking for something."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # from the beginning of a connection, or the first byte of a request, to the end of its headers
STALL_SECONDS = 30.0  # in which a client takes some of an answer that was sent whole


class Connection(H11Protocol):
    """Hangs up on whoever sends the head of a request too slowly; uvicorn's own time begins with the first response.
    And on whoever takes nothing of an answer: closing waits until all is sent, so all of it would stay in memory.
    """

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not waiting:
            self._forget()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._reader is not None:  # of the answer before, where requests come without waiting for answers
            self._reader.cancel()
        self._watch_reader(None)

    def _watch_reader(self, before: int | None) -> None:
        """Again every STALL_SECONDS while some of an answer is unsent; `before`: how much was, last time."""
        left, self._reader = self.transport.get_write_buffer_size(), None
        answering = self.cycle is not None and not self.cycle.response_complete  # which minds its reader itself
        if before is not None and left >= before and not answering:
            self.transport.abort()
        elif left and not answering:
            self._reader = self.loop.call_later(STALL_SECONDS, self._watch_reader, left)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._reader is not None:
            self._reader.cancel()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        self._head = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
