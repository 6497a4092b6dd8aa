"""Texts read whole: every token's hidden state or logits, natively where the kernels cover the model.

Natively no text's numbers depend on the others, and they are the very bits that generation computes.
"""

from __future__ import annotations

import threading
from collections import ChainMap
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from paddock.engine.blocks import blocks_for
from paddock.engine.coordinates import Coordinates
from paddock.engine.memory import PIECE, memory_for
from paddock.engine.runner import Rows
from paddock.engine.sources import Sources
from paddock.kernels.native import library
from paddock.kernels.packed import Packed
from paddock.kernels.record import TYPES, Kept, Tape
from paddock.model.linear import weights_of
from paddock.model.recording import cache_shapes, recordable, recorded, source_shapes
from paddock.model.step import Step
from paddock.model.transformer import Transformer

LEAST_BLOCKS = 64

_packed: WeakKeyDictionary[Transformer, Kept] = WeakKeyDictionary()


def packed_weights(model: Transformer) -> Kept:
    """The model's matrices in the kernels' layout: all its programs share them. Made as they are needed, and anew for
    the programs recorded after a matrix was changed, if PyTorch saw the change; else `forget_packed` them."""
    return _packed.setdefault(model, {})


def share_packed(model: Transformer, twin: Transformer) -> None:
    """`twin` holds matrices of `model`: what is packed of them already serves both, what is its own goes with it."""
    _packed[twin] = ChainMap({}, packed_weights(model))


def forget_packed(model: Transformer) -> None:
    """The weights have changed: programs recorded from now on pack them anew."""
    _packed.pop(model, None)


def runs_natively(model: Transformer) -> bool:
    """Whether the native kernels are there and cover all that this model does."""
    return library() is not None and model.embedding.tokens.weight.device.type == "cpu" and recordable(model)


def cache_dtype(model: Transformer) -> torch.dtype:
    """What native keys and values are kept in: the type of the model's numbers, float16 where they are quantised."""
    if any(isinstance(weight, Packed) for weight in weights_of(model).values()):
        return torch.float16
    return model.embedding.tokens.weight.dtype


class Reader:
    """Reads texts of token ids with one model. May be used from several threads."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.native = runs_natively(model)
        self._blocks = 0
        self._programs: dict[bool, Any] = {}  # with a head, and without
        self._sources: Sources | None = None  # an encoder-decoder's
        self._turn = threading.Lock()

    def hidden(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Each text's hidden states after the last norm, (tokens, width) on the model's device."""
        with memory_for("to read these texts"):
            return self._natively(texts, head=False) if self.native else self._padded(texts)

    def logits(self, text: Sequence[int], source: Sequence[int] = ()) -> Tensor:
        """What comes after each token of a text: (tokens, vocabulary) float32. source: of an encoder-decoder."""
        with memory_for("for the logits of these texts"):
            if self.native:
                return self._natively([text], head=True, source=source)[0]
            with torch.no_grad():
                ids, place = torch.tensor([text]), self.model.embedding.tokens.weight.device
                memory = self.model.encode(torch.tensor([source], device=place)) if source else None
                step = Step.begin(self.model.architecture, ids.to(place), memory=memory)
                return self.model(ids.to(place), step)[0].float()

    def pieces(self, text: Sequence[int], size: int) -> Iterator[Tensor]:
        """`logits` of a text, at most `size` tokens of them at a time. Until the last, nothing else may be read."""
        if self.native and self.model.architecture.can_cut_prompt:
            for at in range(0, len(text), size):
                with memory_for("for the logits of this text"), self._turn:
                    self._fit(blocks_for(len(text)))
                    piece = self._forward([text[at : at + size]], head=True, start=at, length=len(text))[0]
                yield piece
        else:
            hidden = self.hidden([text])[0]
            for part in hidden.split(size):
                with torch.no_grad(), memory_for("for the logits of this text"):
                    piece = self.model.logits(part).float()
                yield piece

    def _natively(self, texts: Sequence[Sequence[int]], head: bool, source: Sequence[int] = ()) -> list[Tensor]:
        with self._turn:
            if not self.model.architecture.can_cut_prompt:  # all tokens at once, and so all texts at once
                return self._forward(texts, head)
            return [self._in_pieces(text, head, source) for text in texts]

    def _in_pieces(self, text: Sequence[int], head: bool, source: Sequence[int]) -> Tensor:
        self._fit(blocks_for(len(text)))
        return torch.cat([
            self._forward([text[at : at + PIECE]], head, at, len(text), source)[0] for at in range(0, len(text), PIECE)
        ])  # fmt: skip

    def _forward(
        self, texts: Sequence[Sequence[int]], head: bool, start: int = 0, length: int = 0, source: Sequence[int] = ()
    ) -> list[Tensor]:
        """Texts whole, or a piece from `start` on of one that is `length` tokens long."""
        lengths, whole = [len(text) for text in texts], Coordinates(self.model.architecture)
        each = [blocks_for(start + length) for length in lengths]
        self._fit(sum(each))
        spans, tables = np.zeros((len(texts), 4), np.int64), np.zeros((len(texts), max(each)), np.int32)
        spans[:, 0] = np.cumsum([0, *lengths[:-1]])
        spans[:, 1], spans[:, 2] = lengths, start
        for row, (first, count) in enumerate(zip(np.cumsum([0, *each[:-1]]), each, strict=True)):
            tables[row, :count] = np.arange(first, first + count)
        ids = np.concatenate([np.asarray(text, np.int32) for text in texts])
        batch = [
            Rows(row, text, start, (), len(text), 0, length or len(text), source) for row, text in enumerate(texts)
        ]
        places = [whole.of(rows) for rows in batch]
        spans[:, 3] = [prefix for _, prefix in places]
        positions = np.concatenate([np.asarray(positions, np.int32) for positions, _ in places])
        architecture = self.model.architecture
        width = architecture.vocabulary if head else architecture.width
        out = np.empty((len(ids), width), np.float32)
        wanted = np.arange(len(ids), dtype=np.int32)
        sources = () if self._sources is None else self._sources.of(batch)
        self._programs[head].run(ids, positions, spans, tables, wanted, out, sources, whole.rates(batch))
        return list(torch.from_numpy(out).split(lengths))

    def _fit(self, blocks: int) -> None:
        """Programs whose cache has so many blocks."""
        if blocks <= self._blocks:
            return
        model, module, room = self.model, library(), max(LEAST_BLOCKS, 2 * blocks)
        assert module is not None, "the native kernels were there when this was made"
        cache = module.Cache(TYPES[cache_dtype(model)], room, cache_shapes(model.architecture))
        heads = (False, True) if model.head is not None else (False,)
        weights, crossed = packed_weights(model), source_shapes(model.architecture)
        self._programs = {head: recorded(model, Tape(cache, weights, crossed), head) for head in heads}
        self._sources = None if model.encoder is None else Sources(model, TYPES[cache_dtype(model)], weights)
        self._blocks = room  # only now: without memory for it, the next text asks again

    def _padded(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        longest = max(len(text) for text in texts)
        device = self.model.embedding.tokens.weight.device
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
        lengths = torch.tensor([[len(text)] for text in texts], device=device)
        real = torch.arange(longest, device=device) < lengths
        padding = None if bool(real.all()) else real
        with torch.no_grad():
            hidden = self.model.hidden(ids, Step.begin(self.model.architecture, ids, padding=padding))
        return [row[: len(text)] for row, text in zip(hidden, texts, strict=True)]
