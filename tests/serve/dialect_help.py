"""What the tests of the dialects besides OpenAI's chat share."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx

from paddock.serve.answering import Delta, Ending, Reason, Usage
from paddock.serve.server import Server
from paddock.serve.speech import CallPiece

PIECES = [
    "Once upon a time", " the cat", "从前有一只猫", "🙂👩‍👩‍👧", "</s>", "<|im_start|>", "\n\n", "naïve", "Lily",
]  # fmt: skip
STOPS = ["e", ".", " a", "was a", "\n", " the big", "on", "中", "\ufffd"]


def named_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events with their names; comments are passed over."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def random_settings(chance: random.Random) -> dict[str, Any]:
    """Sampling settings that every dialect has, under their commonest names."""
    settings: dict[str, Any] = {"temperature": chance.choice([0, 0.7, 1.0, 3.0]), "seed": chance.randrange(2**32)}
    if chance.random() < 0.3:
        settings["top_k"], settings["min_p"] = chance.choice([0, 5, 40]), chance.choice([0, 0.05])
    if chance.random() < 0.3:
        settings["top_p"] = 0.9
    return settings


def random_text(chance: random.Random) -> str:
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 5)))


def random_turns(chance: random.Random) -> list[dict[str, str]]:
    """A conversation that the test's template takes."""
    turns = [{"role": "user", "content": random_text(chance)}]
    if chance.random() < 0.4:
        turns += [{"role": "assistant", "content": random_text(chance)}, {"role": "user", "content": "And then?"}]
    return turns


# --- answers that say what a test wants ----------------------------------------------------------------------------


@dataclass
class Scripted:
    """Stands for an `Answering` whose model thinks, speaks and calls; `pieces` of it come a few at a time."""

    pieces: Sequence[Delta]
    reason: Reason = "stop"
    stop_reason: str | int | None = 2
    failure: Exception | None = None
    usage: Usage = field(default_factory=lambda: Usage(7, 5, 3, 2))
    plan: Any = field(
        default_factory=lambda: SimpleNamespace(
            served=SimpleNamespace(name="model"),
            requests=[SimpleNamespace(sampling=SimpleNamespace(temperature=0.5, top_p=1.0))],
        )
    )

    async def deltas(self) -> AsyncGenerator[list[Delta], None]:
        for piece in self.pieces:
            yield [piece]
        if self.failure is not None:
            raise self.failure
        yield [Delta(0, ending=Ending(self.reason, self.stop_reason, 5, 3, None, 0.25, 0.5))]


def cut(text: str, chance: random.Random, make: Callable[[str], Delta]) -> list[Delta]:
    """Some text in random pieces."""
    pieces = []
    while text:
        size = chance.randint(1, 6)
        pieces.append(make(text[:size]))
        text = text[size:]
    return pieces


def spoken(chance: random.Random, thought: str, text: str, calls: Sequence[tuple[str, str, str]]) -> list[Delta]:
    """A thought, a text and calls (id, name, arguments) as the deltas of some run."""
    deltas = cut(thought, chance, lambda piece: Delta(0, reasoning=piece))
    deltas += cut(text, chance, lambda piece: Delta(0, piece))
    for index, (id, name, arguments) in enumerate(calls):
        deltas.append(Delta(0, calls=(CallPiece(index, "", id, name),)))
        deltas += cut(arguments, chance, lambda piece, index=index: Delta(0, calls=(CallPiece(index, piece),)))  # type: ignore[misc]
    return deltas


# --- clients that leave --------------------------------------------------------------------------------------------


def check_leaving_frees(server: Server, url: str, body: dict[str, Any]) -> None:
    """A client that hangs up in the middle of a stream leaves nothing behind."""
    with httpx.stream("POST", url, json=body, timeout=30) as response:
        assert response.status_code == 200, response.read()
        next(response.iter_bytes())
    until = time.monotonic() + 10
    while server.worker.active:
        assert time.monotonic() < until, "the request still runs"
        time.sleep(0.01)
    served = server.registry.find(None)
    assert served.engine is not None
    stats = served.engine.stats
    assert stats.used == 0 and stats.free + stats.cached == stats.blocks
