"""A training step as the blocks of memory that it takes and frees, in their order.

What each operation keeps for the backward pass is written down here as the native operations do it
(`kernels/gradients*.py`), and what PyTorch's own keep where those are asked (experts, a mask that is a tensor).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paddock.catalog.fit.ledger import Block, Ledger
from paddock.kernels.gradients_products import LOGITS_AT_ONCE, MADE_AT_ONCE
from paddock.model import spec
from paddock.model.spec import Architecture

FLOAT32 = 4
KEPT, WORKING, GRADIENT, LOGITS, PASSING = "activations", "working copies", "gradients", "logits", "transients"


@dataclass(frozen=True)
class Way:
    """How a step goes through a model.

    tokens: of the rows that go through at once. length: of one row. narrow, wide: bytes of a number that products
    compute in, and of one of the residual. learns: whether the matrices of the blocks do; table, head: whether the
    token table and the head do. ranks: of the low-rank matrices beside a role. packed: whether matrices are NF4;
    ends: whether the head is held in 8 bits.
    asked: the share of tokens that has a target. dropout: whether anything is dropped; low_dropout: before an A.
    scaled: roles that have a vector beside them. prompts: whether tokens read learned ones. below: blocks
    under all that is trained, which keep nothing.
    """

    tokens: int
    length: int
    narrow: int
    wide: int
    learns: bool
    table: bool
    head: bool
    ranks: Mapping[str, int] = field(default_factory=dict)
    packed: bool = False
    ends: bool = False
    recompute: bool = False
    asked: float = 1.0
    dropout: bool = False
    low_dropout: bool = False
    scaled: frozenset[str] = frozenset()
    prompts: bool = False
    below: int = 0


class Walk:
    """Plays forward and backward passes in a ledger."""

    def __init__(self, ledger: Ledger, architecture: Architecture, way: Way) -> None:
        self.ledger, self.architecture, self.way = ledger, architecture, way
        self.kept: list[Block] = []  # of the block that is walked
        self.waiting: list[list[Block]] = []  # what every block keeps, its input last
        self.cached: list[Block] = []  # what autocast made of single matrices, until the forward pass ends
        self.gradients: list[Block] = []
        self.begun = False  # whether an earlier micro-batch left gradients

    # What a step does

    def forward(self) -> Block:
        """Through all blocks: the residual that comes out. What each block keeps waits in `waiting`."""
        way = self.way
        residual = self.ledger.take(KEPT, way.tokens * self.architecture.width * way.wide)
        self.waiting, self.cached = [], []
        for number, block in enumerate(self.architecture.layers):
            self.kept = []
            after = self._forward(block, residual)
            if number < way.below:
                self.ledger.drop(*self.kept, residual)
                residual = after
                continue
            if way.recompute:
                self.ledger.drop(*self.kept)
                self.kept = []
            self.waiting.append([*self.kept, residual])
            residual = after
        return residual

    def step(self) -> None:
        """Forward and backward over one micro-batch: afterwards only gradients are left."""
        ledger, way = self.ledger, self.way
        residual = self.forward()
        head = self._loss(residual)
        if way.recompute:
            ledger.drop(*self.cached)
        gradient = self._loss_back(head, residual)
        for block in reversed(self.architecture.layers[way.below :]):
            own = self.waiting.pop()
            if way.recompute:
                self.kept, self.cached = [], []
                ledger.drop(self._forward(block, own[-1]))
                own = [*self.kept, *self.cached, *own]
            gradient = self._backward(block, own, gradient)
        ledger.drop(gradient)
        if way.table:
            size = self.architecture.vocabulary * self.architecture.width
            self._learnt(size, tied=self.architecture.head is not None and self.architecture.head.tied)
        self.begun = True

    # A block, forward

    def _forward(self, block: spec.Block, residual: Block) -> Block:
        """Keeps what the block keeps; gives the residual after it."""
        ledger, way, width = self.ledger, self.way, self.architecture.width
        size = way.tokens * width
        inward = block.wiring in ("pre", "parallel")
        x = residual
        sublayers = [lambda n: self._attention(block.attention, n)]
        if block.cross is not None:
            cross = block.cross
            sublayers.append(lambda n: self._attention(cross, n))
        sublayers.append(lambda n: self._feedforward(block.feedforward, n))
        normed: Block | None = None
        for number, sublayer in enumerate(sublayers):
            last = number == len(sublayers) - 1
            if block.wiring == "post":
                normed = x
            elif normed is None or not block.shared_norm:
                normed = ledger.take(KEPT, size * (way.narrow if inward else way.wide))
                self.kept.append(normed)
            result = sublayer(normed)
            if way.dropout:
                self._keep(size * way.narrow)
            if way.wide != way.narrow:  # a sum of two types makes both the wider one first
                ledger.pass_by(PASSING, size * way.wide)
            after = ledger.take(KEPT, size * way.wide)
            ledger.drop(result)
            if block.wiring == "post":  # the sum is kept, and its norm goes on
                whole = ledger.take(KEPT, size * way.wide)
                self.kept += [after] if x is residual else [after, x]
                after = whole
            elif x is not residual:
                if block.wiring == "parallel":
                    ledger.drop(x)
                else:
                    self.kept.append(x)
            x = after
            if last:
                return x
        raise AssertionError("a block has sublayers")

    def _keep(self, size: float, kind: str = KEPT) -> Block:
        block = self.ledger.take(kind, size)
        self.kept.append(block)
        return block

    def _attention(self, part: spec.Attention, normed: Block) -> Block:
        way, ledger, tokens, width = self.way, self.ledger, self.way.tokens, self.architecture.width
        q, kv = part.heads * part.head_dim, part.kv_heads * part.head_dim
        turns = isinstance(part.position, spec.Rope | spec.Rope2D)
        self._input(normed, width, ("q", "k", "v"))
        if way.learns:
            self._keep((q + 2 * kv) * width * way.narrow, WORKING)
            self._keep(tokens * (q + 2 * kv) * way.narrow)
            if turns:
                self._keep(tokens * (q + kv) * way.narrow)
        else:
            made = []
            for role, features in (("q", q), ("k", kv), ("v", kv)):
                self._dense(features * width)
                self._low(role, tokens)
                made.append(ledger.take(KEPT, tokens * features * way.narrow))
                if role in way.scaled:
                    self._keep(tokens * features * way.narrow)
            if turns:
                self._keep(tokens * (q + kv) * way.narrow)
                ledger.drop(made.pop(0), made.pop(0))
            self.kept += made
        self._keep(tokens * q * way.narrow)
        self._keep(tokens * part.heads * FLOAT32)
        if way.prompts:  # what is read of them, before its gate
            self._keep(tokens * q * way.narrow)
        return self._single("out", q, width, kept=True)

    def _feedforward(self, part: spec.FeedForward | spec.Experts, normed: Block) -> Block:
        if isinstance(part, spec.Experts):
            return self._experts(part, normed)
        return self._fed(part, self.way.tokens, normed)

    def _fed(self, part: spec.FeedForward, tokens: float, normed: Block) -> Block:
        way, ledger, width = self.way, self.ledger, self.architecture.width
        if part.gated:
            self._input(normed, width, ("gate", "up"))
            if way.learns:
                self._keep(2 * part.hidden * width * way.narrow, WORKING)
                self._keep(2 * tokens * part.hidden * way.narrow)
            else:
                for role in ("gate", "up"):
                    self._dense(part.hidden * width)
                    self._low(role, tokens)
                    self._keep(tokens * part.hidden * way.narrow * (2 if role in way.scaled else 1))
        else:
            self._input(normed, width, ("up",))
            self._keep_result("up", width, part.hidden, tokens)
        inner = ledger.take(KEPT, tokens * part.hidden * way.narrow)
        result = self._single("down", part.hidden, width, tokens=tokens)
        if way.learns or "down" in way.ranks or "down" in way.scaled:
            self.kept.append(inner)
        else:
            ledger.drop(inner)
        return result

    def _experts(self, part: spec.Experts, normed: Block) -> Block:
        way, ledger, width = self.way, self.ledger, self.architecture.width
        result = ledger.take(KEPT, way.tokens * width * way.narrow)
        share = way.tokens * part.active / part.count
        for _ in range(part.count):
            rows = self._keep(share * width * way.narrow)
            out = self._fed(part.each, share, rows)
            self.kept.append(out)
            ledger.pass_by(PASSING, share * width * way.narrow)
        return result

    def _input(self, normed: Block, width: int, roles: tuple[str, ...]) -> None:
        """What is kept of what matrices read, besides the norm's own result."""
        way = self.way
        if normed.kind == KEPT and way.wide != way.narrow and normed.bytes == way.tokens * width * way.wide:
            self._keep(way.tokens * width * way.narrow)  # cast for the product
        if way.low_dropout and any(role in way.ranks for role in roles):
            self._keep(way.tokens * width)

    def _keep_result(self, role: str, into: int, out: int, tokens: float) -> None:
        self.kept.append(self._single(role, into, out, tokens=tokens))

    def _single(self, role: str, into: int, out: int, tokens: float | None = None, kept: bool = True) -> Block:
        """A linear by itself: its result; what it made of its matrix is kept."""
        way, count = self.way, self.way.tokens if tokens is None else tokens
        if way.learns and way.narrow != FLOAT32:
            copy = self.ledger.take(WORKING, into * out * way.narrow)
            (self.cached if way.recompute else self.kept).append(copy)
        elif not way.learns:
            self._dense(into * out)
            self._low(role, count)
            if role in way.scaled and role != "down":
                self._keep(count * out * way.narrow)
        return self.ledger.take(PASSING, count * out * way.narrow)

    def _dense(self, numbers: int) -> None:
        if self.way.packed:
            self.ledger.pass_by(PASSING, numbers * self.way.narrow)

    def _low(self, role: str, tokens: float) -> None:
        if role in self.way.ranks:
            self._keep(tokens * self.way.ranks[role] * self.way.narrow)

    # The loss

    def _loss(self, residual: Block) -> list[Block]:
        """The last norm, the logits chunk by chunk, and the gradients that are made on the way."""
        way, ledger, model = self.way, self.ledger, self.architecture
        normed = ledger.take(KEPT, residual.bytes)
        asked = way.tokens * way.asked
        hidden = ledger.take(KEPT, asked * model.width * way.wide)
        ledger.drop(normed)
        size = model.vocabulary * model.width
        casts = way.wide != way.narrow
        passing = [ledger.take(PASSING, asked * model.width * way.narrow)] if casts else []
        passing += [ledger.take(WORKING, size * way.narrow)] if way.head and way.narrow != FLOAT32 else []
        kept = [hidden, ledger.take(KEPT, asked * model.width * way.narrow)]
        rows = max(1, LOGITS_AT_ONCE // (model.vocabulary * way.narrow))
        if way.ends and model.head is not None:
            sliced = size * way.narrow > MADE_AT_ONCE
            rows = max(rows, model.width) if sliced else rows
            passing.append(ledger.take(PASSING, MADE_AT_ONCE if sliced else size * way.narrow))
        chunks = -(-asked // rows)
        copies = 1 if way.narrow == FLOAT32 else 2  # their gradient is laid out anew for its product with the head
        logits = [ledger.take(LOGITS, min(asked, rows) * model.vocabulary * way.narrow) for _ in range(copies)]
        if way.head:
            own = ledger.take(PASSING, size * way.narrow)
            whole = ledger.take(GRADIENT, size * FLOAT32) if way.narrow != FLOAT32 else own
            kept.append(whole)
            if chunks > 1:
                more = ledger.take(PASSING, size * way.narrow)
                if way.narrow != FLOAT32:
                    ledger.drop(own)
                ledger.drop(more)
            elif way.narrow != FLOAT32:
                ledger.drop(own)
        ledger.drop(*logits, *passing)
        return kept

    def _loss_back(self, kept: list[Block], residual: Block) -> Block:
        way, ledger, model = self.way, self.ledger, self.architecture
        if way.head:
            scaled = ledger.take(GRADIENT, model.vocabulary * model.width * FLOAT32)
            self._given(scaled)
        found = ledger.take(PASSING, kept[0].bytes)
        ledger.drop(*kept)
        spread = ledger.take(PASSING, residual.bytes)
        ledger.drop(found)
        gradient = ledger.take(PASSING, residual.bytes)
        ledger.drop(spread, residual)
        return gradient

    # A block, backward

    def _backward(self, block: spec.Block, kept: list[Block], gradient: Block) -> Block:
        """Frees what the block kept, as its gradients come."""
        ledger, way, model = self.ledger, self.way, self.architecture
        part = block.feedforward
        each = part.each if isinstance(part, spec.Experts) else part
        count = part.count if isinstance(part, spec.Experts) else 1
        share = way.tokens * (part.active if isinstance(part, spec.Experts) else 1) / count
        hidden = each.hidden
        attention = block.attention
        q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        narrow = ledger.take(PASSING, way.tokens * model.width * way.narrow)
        for _ in range(count):
            inner = ledger.take(PASSING, share * hidden * way.narrow)
            self._matrix("down", hidden, model.width)
            wide = ledger.take(PASSING, share * hidden * way.narrow * (2 if each.gated else 1))
            ledger.drop(inner)
            if each.gated and way.learns:
                self._matrix("gate", model.width, 2 * hidden)
            else:
                for role in ("gate", "up") if each.gated else ("up",):
                    self._matrix(role, model.width, hidden)
            ledger.drop(wide)
        ledger.drop(narrow)
        middle = ledger.take(PASSING, way.tokens * model.width * way.wide)
        ledger.drop(gradient)
        half = len(kept) // 2
        ledger.drop(*kept[half:-1])
        grads = [ledger.take(PASSING, way.tokens * features * way.narrow) for features in (q, q, kv, kv)]
        self._matrix("out", q, model.width)
        if way.learns:
            self._matrix("q", model.width, q + 2 * kv)
        else:
            for role, features in (("q", q), ("k", kv), ("v", kv)):
                self._matrix(role, model.width, features)
        ledger.drop(*grads)
        after = ledger.take(PASSING, way.tokens * model.width * way.wide)
        ledger.drop(middle, *kept[:half], kept[-1])
        return after

    def _matrix(self, role: str, into: int, out: int) -> None:
        """The gradient of one matrix, or of what stands beside it."""
        way, ledger = self.way, self.ledger
        if way.learns:
            own = ledger.take(PASSING, into * out * way.narrow) if way.narrow != FLOAT32 else None
            self._learnt(into * out)
            if own is not None:
                ledger.drop(own)
            return
        self._dense(into * out)
        if role in way.ranks:
            self._learnt(way.ranks[role] * (into + out))

    def _learnt(self, numbers: float, tied: bool = False) -> None:
        """A float32 gradient comes: it stays, or is added to one that is there."""
        made = self.ledger.take(GRADIENT, numbers * FLOAT32)
        if tied:
            self.ledger.drop(made)
        else:
            self._given(made)

    def _given(self, made: Block) -> None:
        if self.begun:
            self.ledger.drop(made)
        else:
            self.gradients.append(made)
