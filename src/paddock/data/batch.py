"""What a model reads in one forward of training, and what it should say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from paddock.model.spec import Architecture
from paddock.model.step import Step

IGNORED = -100  # a target that nothing is asked about


def asked(labels: Tensor) -> Tensor:
    """Which labels are asked for, of their shape."""
    return ~labels.isnan() if labels.is_floating_point() else labels != IGNORED


def _nothing(labels: Tensor) -> float:
    return math.nan if labels.is_floating_point() else IGNORED


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of training input; every tensor's first axis is the row, so that a batch can be cut and shared out.

    ids (rows, tokens), targets (rows, tokens): what should be said at each token, or IGNORED.
    positions (rows, tokens) or (rows, tokens, 2): None where each row counts from 0.
    documents (rows, tokens): which document of its row a token is of (see `Step.documents`); None: a row is one text.
    prefix (rows,): that many first tokens see each other (prefix LM, GLM).
    padding (rows, tokens): True for real tokens; None where nothing looks at padding (causal rows padded at the end).
    segments (rows, tokens), follows (rows,): BERT's sentence A/B, and whether B followed A in the text.
    source (rows, source), source_padding (rows, source): what an encoder reads.
    labels (rows,), (rows, questions) or (rows, classes): the class of a row's text (int64) or its number (float32);
    which of a row's texts is meant; which classes apply (float32, 0 or 1). IGNORED, or NaN, where nothing is asked.
    samples (rows,): the place of each row in the stream of samples, from 0 and never again the same; for the log.
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor | None = None
    documents: Tensor | None = None
    prefix: Tensor | None = None
    padding: Tensor | None = None
    segments: Tensor | None = None
    follows: Tensor | None = None
    source: Tensor | None = None
    source_padding: Tensor | None = None
    labels: Tensor | None = None
    samples: Tensor | None = None

    @property
    def rows(self) -> int:
        return self.ids.shape[0]

    @property
    def supervised(self) -> int:
        """How many targets and labels are asked for."""
        found = int((self.targets != IGNORED).sum())
        return found if self.labels is None else found + int(asked(self.labels).sum())

    def silent(self) -> Batch:
        """The same rows, with nothing asked."""
        labels = None if self.labels is None else torch.full_like(self.labels, _nothing(self.labels))
        return replace(self, targets=torch.full_like(self.targets, IGNORED), labels=labels)

    def step(
        self, architecture: Architecture, *, dropout: float = 0.0, recompute: bool = False, noise: float = 0.0
    ) -> Step:
        """The decoder's (or the only stack's) coordinates; the encoder's output is put in by who runs it."""
        rows, tokens = self.ids.shape
        positions = self.positions
        if positions is None:
            positions = torch.arange(tokens, device=self.ids.device).expand(rows, -1)
        return Step(
            positions,
            prefix=self.prefix,
            padding=self.padding,
            documents=self.documents,
            segments=self.segments,
            memory_padding=self.source_padding,
            length=tokens,
            dropout=dropout,
            recompute=recompute,
            noise=noise,
        )

    def split(self, rows: int) -> Iterator[Batch]:
        """Pieces of at most `rows` rows, in order."""
        for start in range(0, self.rows, rows):
            yield self._map(lambda tensor, at=start: tensor[at : at + rows])

    def take(self, rows: Tensor) -> Batch:
        """The rows of those numbers (count,)."""
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def digest(self) -> str:
        """SHA-256 (hex) over ids, targets and labels: equal batches have equal digests, on every machine."""
        seen = hashlib.sha256()
        for tensor in (self.ids, self.targets, self.source):
            if tensor is not None:
                seen.update(str(tuple(tensor.shape)).encode())
                seen.update(tensor.cpu().to(torch.int64).numpy().astype("<i8").tobytes())
        if self.labels is not None:
            seen.update(self.labels.cpu().to(torch.float64).numpy().astype("<f8").tobytes())
        return seen.hexdigest()

    def _map(self, change) -> Batch:  # type: ignore[no-untyped-def]
        held = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: change(tensor) for name, tensor in held.items() if tensor is not None})
