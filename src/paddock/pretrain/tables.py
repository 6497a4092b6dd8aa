"""Texts as tables of samples, as an objective and a packing want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddock.data.encoding import encode_texts
from paddock.data.mixing import Joined, Mixture
from paddock.data.neighbours import Neighbours
from paddock.data.packing import PACKINGS
from paddock.data.preparing.masked import Masked
from paddock.data.preparing.paired import Paired
from paddock.data.samples import Prepare, Table
from paddock.data.shards import check_tokenizer
from paddock.data.tokens import Tokens
from paddock.errors import UsageError
from paddock.pretrain.corpus import Texts
from paddock.tokenizer.tokenizer import Tokenizer

NEXT = "causal"  # the objective whose last token of a row is a target only


class Pairs:
    """Texts that answer one another: sample i is the i-th of both. Pairs that rows cannot hold are left out, `left_out`
    of them."""

    def __init__(self, sources: Tokens, targets: Tokens, prepare: Paired) -> None:
        self.sources, self.targets = sources, targets
        both = [(sources.document(i), targets.document(i)) for i in range(len(sources))]
        self._fitting = [i for i, (source, target) in enumerate(both) if prepare.fits(source, target)]
        self.left_out = len(both) - len(self._fitting)

    def __len__(self) -> int:
        return len(self._fitting)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        at = self._fitting[number]
        return self.sources.document(at), self.targets.document(at)


@dataclass(frozen=True)
class Cutting:
    """How texts become rows: by which tokenizer, packing and objective. seed: chooses among sentences, for BERT."""

    tokenizer: Tokenizer
    packing: str
    objective: str
    prepare: Prepare
    seed: int

    def table(self, texts: Texts) -> Table | None:
        """The samples of some texts; None where there are none.

        Raises DataError where they are too short for a row, and for shards that another tokenizer wrote.
        """
        if not len(texts):
            return None
        if isinstance(texts, Tokens):
            check_tokenizer(texts, self.tokenizer)
            if isinstance(self.prepare, Paired):
                raise UsageError("token shards hold no pairs", fix="give data.sources.files and second")
            return self._packed(texts)
        if isinstance(self.prepare, Paired):
            sides = [encode_texts([text[side] for text in texts], self.tokenizer, around=False) for side in (0, 1)]
            return Pairs(sides[0], sides[1], self.prepare)
        return self._packed(encode_texts([text[0] for text in texts], self.tokenizer))

    def _packed(self, tokens: Tokens) -> Table:
        if isinstance(self.prepare, Masked) and self.prepare.next_sentence:
            return Neighbours(tokens, self.prepare.takes, self.seed)
        overlap = int(self.objective == NEXT)
        return PACKINGS[self.packing](tokens, self.prepare.takes - overlap, overlap)


def mixed(parts: Sequence[tuple[Table | None, float | None]]) -> Table | None:
    """Tables mixed by weights, or as they are where there are none; sources that have no documents are left out."""
    held = [(part, weight) for part, weight in parts if part is not None]
    weights = [weight for _, weight in held if weight is not None]
    if len(held) < 2 or not weights:
        return joined([part for part, _ in held])
    return Mixture([part for part, _ in held], weights)


def joined(parts: Sequence[Table | None]) -> Table | None:
    """Tables one after another."""
    held = [part for part in parts if part is not None]
    if len(held) < 2:
        return held[0] if held else None
    return Joined(held)
