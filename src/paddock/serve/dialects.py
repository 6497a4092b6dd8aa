"""What the dialects besides OpenAI's chat share.

Some speak of an answer as typed blocks, one after the other (thoughts, text, calls): Responses calls them items,
Anthropic content blocks. `Blocks` makes them of deltas; a stream tells each change, a whole answer is what is there in
the end, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import Response

from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.accounts import TRUNCATED
from paddock.serve.answering import Answering, Delta, Dropped, Ending
from paddock.serve.bodies import tell_ignored
from paddock.serve.registry import Served
from paddock.serve.speech import CallPiece
from paddock.serve.streaming import Pieces

Message = dict[str, Any]
Kind = Literal["reasoning", "text", "call"]
SWITCHES, EFFORT = ("enable_thinking", "thinking"), "reasoning_effort"  # as templates name them


@dataclass
class Block:
    """A thought, a piece of the answer, or a call with its arguments as `text`. id, name: a call's. whole: it was not
    cut off by the limit. tokens: what its text was made of."""

    kind: Kind
    index: int
    id: str = ""
    name: str = ""
    text: str = ""
    whole: bool = True
    tokens: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """A block opened, grew by `piece`, or closed."""

    what: Literal["opened", "grew", "closed"]
    block: Block
    piece: str = ""
    tokens: tuple[Event, ...] = ()


class Blocks:
    """The blocks of one answer as far as they are known; there is always one in the end."""

    def __init__(self) -> None:
        self.all: list[Block] = []
        self.ending: Ending | None = None
        self._open: Block | None = None
        self._calls: dict[int, Block] = {}
        self._pending: list[Event] = []  # tokens whose text is still held back

    def read(self, delta: Delta) -> Iterator[Change]:
        """What `delta` changes, in the order in which it is to be told: text that comes together with the end of a call
        stands behind it, and before the next."""
        self._pending += delta.tokens
        if delta.reasoning:
            yield from self._grow("reasoning", delta.reasoning)
        begun = [piece for piece in delta.calls if piece.index in self._calls]
        for piece in begun:
            yield from self._grow_call(piece)
        if delta.text:
            yield from self._grow("text", delta.text)
        for piece in delta.calls[len(begun) :]:
            yield from self._grow_call(piece)
        if delta.ending is None:
            return
        self.ending = delta.ending
        if not self.all:
            yield self._begin(Block("text", 0))
        self.all[-1].whole = delta.ending.reason != "length"
        yield from self._close()

    def _grow(self, kind: Kind, piece: str) -> Iterator[Change]:
        if self._open is None or self._open.kind != kind:
            yield from self._close()
            yield self._begin(Block(kind, len(self.all)))
        yield self._grown(piece)

    def _grow_call(self, piece: CallPiece) -> Iterator[Change]:
        block = self._calls.get(piece.index)
        if block is None:
            yield from self._close()
            block = self._calls[piece.index] = Block("call", len(self.all), piece.id or "", piece.name or "")
            yield self._begin(block)
        if piece.arguments:
            assert self._open is block, "one call is written after the other"
            yield self._grown(piece.arguments)

    def _begin(self, block: Block) -> Change:
        self._open = block
        self.all.append(block)
        return Change("opened", block)

    def _grown(self, piece: str) -> Change:
        block = self._open
        assert block is not None
        tokens, self._pending = tuple(self._pending), []
        block.text += piece
        block.tokens += tokens
        return Change("grew", block, piece, tokens)

    def _close(self) -> Iterator[Change]:
        """Tokens without text in the end (a stop string's, an end of text) belong to the block that they ended."""
        block = self._open
        if block is None:
            return
        if self._pending and self.ending is not None:
            yield self._grown("")
        self._open = None
        yield Change("closed", block)


async def in_blocks(answering: Answering) -> Blocks:
    """A whole answer."""
    blocks = Blocks()
    async with aclosing(answering.deltas()) as rounds:
        async for deltas in rounds:
            for delta in deltas:
                for _ in blocks.read(delta):
                    pass
    return blocks


async def ending_with(pieces: Pieces, failed: Callable[[PaddockError], str]) -> Pieces:
    """A stream in which a failure after the first byte is told as `failed` spells it."""
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                yield piece
        except PaddockError as error:
            yield failed(error)
        except Exception:
            yield failed(PaddockError("the answer broke off inside the server"))
            raise


def thinking_options(served: Served, on: bool | None, effort: str | None) -> tuple[dict[str, Any], bool]:
    """The template's variables that ask for thoughts, or for none; and whether all that was asked is among them."""
    template = served.model.template
    known = frozenset() if template is None else template.options
    found: dict[str, Any] = {}
    if on is not None:
        found |= {name: on for name in SWITCHES if name in known}
    if effort is not None and EFFORT in known:
        found[EFFORT] = effort
    return found, (effort is None or EFFORT in found) and (on is None or len(found) > (EFFORT in found))


def finished(response: Response, dropped: Dropped | None, ignored: list[str]) -> Response:
    """A response that says what of the request had no effect, and what was left out of the prompt, as asked."""
    tell_ignored(response, ignored)
    if dropped is not None:
        response.headers[TRUNCATED] = str(dropped)
    return response
