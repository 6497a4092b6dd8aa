"""What the engine asks of whatever computes: rows of tokens in, logits out. The cache's storage lies behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from paddock.model.recording import own_rope
from paddock.model.several import Ranks
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer


class Rows(NamedTuple):
    """Some tokens of one sequence, to be read in one step.

    key: the sequence, until `forget`. ids: the tokens, in the slots from `start` on. table: its blocks of BLOCK slots
    in order, enough for all up to here. prompt: how many of the sequence's first tokens are its prompt; what lies
    behind was written, and is always computed as when one token is decoded, however many come at once. logits: of how
    many of the last ids the logits are wanted. length: how long the whole text may become (dynamic rotary scaling).
    source: the encoder's text (encoder-decoders only). adapter: the number of the text's adapter, 0 for none.
    """

    key: int
    ids: Sequence[int]
    start: int
    table: Sequence[int]
    prompt: int
    logits: int
    length: int
    source: Sequence[int] = ()
    adapter: int = 0


class Carried(NamedTuple):
    """An adapter: the runner's model with it alone, what it adds to which matrices, and their bytes."""

    twin: Transformer
    ranks: Ranks
    nbytes: int


class Runner(Protocol):
    """Computes steps. A block is written only through a table that holds it alone; shared ones are only read.

    blocks: how many there are, of block_bytes each. chunk: prompts are cut at its multiples only, or results would
    differ in rounding; None where they may be cut anywhere. source_blocks, source_block_bytes: the same of an
    encoder-decoder's source texts, which lie beside the blocks until `forget`; 0 where nothing crosses. Running the
    same rows again, after a step that broke off, changes nothing.
    """

    blocks: int
    block_bytes: int
    chunk: int | None
    source_blocks: int
    source_block_bytes: int

    def run(self, batch: Sequence[Rows]) -> Tensor:
        """Logits (sum of `logits`, vocabulary), float32, in the order of the batch.

        Raises ResourceError where memory runs out.
        """
        ...

    def forget(self, key: int) -> None:
        """The sequence is over, or begins again at slot 0: drop what was kept for it outside the blocks."""
        ...

    def carry(self, adapters: Mapping[int, Carried]) -> None:
        """These adapters by their numbers, and no others, from the next step on. Another thread may be in a step now,
        of rows whose adapters are there before and after."""
        ...


def cache_bytes(runner: Runner) -> int:
    """What its cache may grow to, source texts included."""
    return runner.blocks * runner.block_bytes + runner.source_blocks * runner.source_block_bytes


def scales_with_length(architecture: Architecture) -> bool:
    """Whether keys depend on how long the text is planned to become."""
    return own_rope(architecture) is not None
