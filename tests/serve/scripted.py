"""A model that writes what a test tells it to, token by token, through the real engine, worker and routes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from paddock.engine.engine import Engine
from paddock.engine.runner import Rows
from paddock.serve.registry import Served
from paddock.serve.server import Server

NAME = "scripted"
BYTE = 3  # ids of the bundled vocabulary: 3 + byte


class Script:
    """A runner whose answer to any prompt is `ids`. fails_at: tokens that were written when it fails with `failure`.

    gate: closed (`clear`), it computes nothing until it opens again.
    """

    chunk: int | None = None
    block_bytes = 1024
    source_blocks = source_block_bytes = 0

    def __init__(self, vocabulary: int) -> None:
        self.blocks = 256
        self.vocabulary = vocabulary
        self.ids: Sequence[int] = ()
        self.fails_at: int | None = None
        self.failure: Exception = RuntimeError("a secret of the machine room")
        self.gate = threading.Event()
        self.gate.set()

    def write(self, text: str) -> None:
        """The answer, byte by byte, and an end."""
        self.ids = [BYTE + byte for byte in text.encode()] + [2]
        self.fails_at = None

    def run(self, batch: Sequence[Rows]) -> Tensor:
        assert self.gate.wait(30)
        return torch.cat([self._logits(rows) for rows in batch])

    def _logits(self, rows: Rows) -> Tensor:
        end = rows.start + len(rows.ids)
        logits = torch.zeros(rows.logits, self.vocabulary)
        for row in range(rows.logits):
            written = end - rows.logits + row + 1 - rows.prompt
            if written == self.fails_at:
                raise self.failure
            logits[row, self.ids[written % len(self.ids)]] = 20.0
        return logits

    def forget(self, key: int) -> None:
        """Nothing is kept."""


def scripted(server: Server) -> tuple[Script, Engine]:
    """One more model of the server, with the bundled one's tokenizer and template."""
    served = server.registry.find(None)
    runner = Script(served.model.architecture.vocabulary)
    engine = Engine(runner, served.model.architecture)
    server.metrics.name((engine, None), NAME)
    server.registry.add(Served(NAME, served.model, engine, served.root))
    return runner, engine
