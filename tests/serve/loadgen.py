"""A crowd of clients in a process of its own: what they asked, what they got and when, what they did to the connection.

    python tests/serve/loadgen.py http://127.0.0.1:8000 < asks.json > results.json

Plain sockets, so that a client may stop reading, read slowly, or leave at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TINY = 2048  # bytes that a client which does not read lets the system take for it


@dataclass(frozen=True)
class Ask:
    """One request. after: seconds until it begins. leave: hang up so many seconds after it began. leave_at: hang up
    once so many events came. stalled: read the head of the response and nothing more, until `leave`."""

    body: dict[str, Any]
    path: str = "/v1/chat/completions"
    after: float = 0.0
    leave: float | None = None
    leave_at: int | None = None
    stalled: bool = False


@dataclass
class Result:
    """What came of it. Times are seconds since the crowd began. texts: of each choice. arrivals: when tokens came, and
    how many had come by then. error: what an error event or body said. ended: the answer was whole."""

    status: int = 0
    retry_after: str | None = None
    began: float = 0.0
    answered: float = 0.0
    finished: float = 0.0
    texts: dict[int, str] = field(default_factory=dict)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    error: str | None = None
    ended: bool = False
    broken: str | None = None

    @property
    def text(self) -> str:
        return self.texts.get(0, "")


class Client:
    """One request on one connection."""

    def __init__(self, address: str, ask: Ask, start: float) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None and parts.port is not None
        self.host, self.port = parts.hostname, parts.port
        self.asked, self.start, self.result, self.tokens, self.events = ask, start, Result(), 0, 0

    def now(self) -> float:
        return time.monotonic() - self.start

    async def run(self) -> Result:
        asked, result = self.asked, self.result
        await asyncio.sleep(asked.after)
        result.began = self.now()
        writer = None
        try:
            async with asyncio.timeout(asked.leave):
                reader, writer = await self._connect()
                await self._talk(reader, writer)
        except TimeoutError:
            pass
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            result.broken = repr(error)
        finally:
            if writer is not None:
                writer.transport.abort()
        result.finished = self.now()
        return result

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.asked.stalled:
            return await asyncio.open_connection(self.host, self.port, limit=2**24)
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (self.host, self.port))
        return await asyncio.open_connection(sock=plain, limit=TINY)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(self.asked.body).encode()
        head = (
            f"POST {self.asked.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        headers = await self._head(reader)
        self.result.answered = self.now()
        if self.asked.stalled:
            await asyncio.Event().wait()
        parts = _chunks(reader) if headers.get("transfer-encoding") == "chunked" else _rest(reader, headers)
        if "event-stream" in headers.get("content-type", ""):
            await self._events(parts)
        else:
            self._whole(b"".join([part async for part in parts]))

    async def _head(self, reader: asyncio.StreamReader) -> dict[str, str]:
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        self.result.status = int(status.split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        self.result.retry_after = headers.get("retry-after")
        return headers

    async def _events(self, parts: AsyncIterator[bytes]) -> None:
        rest = b""
        async for part in parts:
            *events, rest = (rest + part).split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: "):
                    continue
                if event == b"data: [DONE]":
                    self.result.ended = True
                    return
                self._take(json.loads(event[6:]))
                self.events += 1
                if self.events == self.asked.leave_at:
                    return

    def _whole(self, data: bytes) -> None:
        self._take(json.loads(data))
        self.result.ended = self.result.status == 200

    def _take(self, value: dict[str, Any]) -> None:
        if "error" in value:
            self.result.error = str(value["error"].get("code") or value["error"].get("type"))
            return
        for choice in value.get("choices", ()):
            said = choice.get("delta") or choice.get("message") or {}
            text = choice.get("text") or said.get("content") or ""
            index = choice.get("index", 0)
            self.result.texts[index] = self.result.texts.get(index, "") + text
            told = (choice.get("logprobs") or {}).get("content")
            self.tokens += len(told) if told is not None else bool(text)
        self.result.arrivals.append((self.now(), self.tokens))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def _rest(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    yield await reader.readexactly(int(headers.get("content-length", "0")))


async def together(address: str, asks: Sequence[Ask]) -> list[Result]:
    """All of them at once."""
    start = time.monotonic()
    return list(await asyncio.gather(*(Client(address, ask, start).run() for ask in asks)))


class Crowd:
    """The same from a process of its own, which shares neither an interpreter nor a loop with the server."""

    def __init__(self, address: str, asks: Sequence[Ask]) -> None:
        command = [sys.executable, str(Path(__file__)), address]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([asdict(ask) for ask in asks]))
        self.process.stdin.close()
        self.process.stdin = None

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def results(self, seconds: float = 120) -> list[Result]:
        """Waits for the last of them."""
        try:
            out, _ = self.process.communicate(timeout=seconds)
        finally:
            self.end()
        assert self.process.returncode == 0
        found = [Result(**row) for row in json.loads(out)]
        for result in found:
            result.texts = {int(index): text for index, text in result.texts.items()}
        return found

    def end(self) -> None:
        """Kills it, if it still runs."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def jain(counts: Sequence[float]) -> float:
    """1 where all have the same, 1/n where one has everything."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def tokens_at(result: Result, moment: float) -> int:
    """How many tokens had come by then."""
    return max((count for when, count in result.arrivals if when <= moment), default=0)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def main() -> None:
    asks = [Ask(**row) for row in json.load(sys.stdin)]
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps([asdict(result) for result in asyncio.run(together(sys.argv[1], asks))]))


if __name__ == "__main__":
    main()
